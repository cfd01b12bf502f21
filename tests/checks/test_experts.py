"""The user's own weights, opened before anything is trained."""

from pathlib import Path

import pytest
import torch

from ctkd_search.geometry import Geometry
from ctkd_search.models import build

SPACE = """\
name: s
dataset: {{name: digits}}
augment: {{crop: 1, flip: false}}
budget: {{trials: 2, epochs: 2}}
teachers: {{expert: {{ensemble: [{members}]}}}}
search: {{pair: wrn-16-1/resnet8, alpha: {{float: [0.01, 5]}}}}
"""


@pytest.fixture
def weights(own_directory):
    for seed, name in enumerate(("a.pt", "b.pt")):
        torch.save(build("wrn-16-1", Geometry(10, 1, 8), seed=seed).state_dict(), name)
    whole = Path("b.pt").read_bytes()
    Path("half.pt").write_bytes(whole[: len(whole) // 2])
    Path("link.pt").symlink_to("a.pt")


@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize(
    ("members", "answer"),
    [
        ("a.pt, b.pt", None),
        ("a.pt, wrn-16-1", None),
        ("a.pt, half.pt", "half.pt is not a file of weights"),
        ("a.pt, b.pt, a.pt", "a.pt is named twice"),
        ("a.pt, link.pt", "link.pt is named twice"),
    ],
)
def test_every_file_of_an_ensemble_is_opened_by_check(call_here, members, answer):
    code, err = call_here(SPACE.format(members=members), "check", "--no-measure")
    if answer is None:
        assert (code, err) == (0, "")
    else:
        assert code == 2
        assert f"line 5: teachers.expert.ensemble cannot be used: {Path.cwd() / answer}" in err
