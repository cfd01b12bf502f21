"""Label smoothing of the recipe beside the methods of a space."""

from pathlib import Path

import pytest
import yaml
from support.space_texts import HEAD, space

from ctkd_search.errors import UserError
from ctkd_search.records.config_file import read_config

pytestmark = pytest.mark.usefixtures("own_directory")
ALONE = "{method: none, pair: wrn-16-2/resnet8, lr: {float: [0.1, 0.2]}"


@pytest.mark.parametrize(
    ("train", "search", "message"),
    [
        (
            "{label_smoothing: 0.1}",
            f"{ALONE}, none: {{label_smoothing: 0.2}}}}",
            "search.none.label_smoothing takes the place of train.label_smoothing; leave one of the two out",
        ),
        (
            "{}",
            f"{ALONE}, label_smoothing: {{float: [0, 0.1]}}, none: {{label_smoothing: {{float: [0, 0.2]}}}}}}",
            "search.none.label_smoothing takes the place of search.label_smoothing; leave one of the two out",
        ),
        (
            "{label_smoothing: 0.1}",
            "{method: kd, kd: {weight: 1}, lr: {float: [0.1, 0.2]}}",
            "train.label_smoothing has no effect, because no trial's loss has the labels; leave it out",
        ),
        (
            "{}",
            "{method: kd, kd: {weight: 1}, label_smoothing: {float: [0, 0.2]}}",
            "search.label_smoothing has no effect, because no trial's loss has the labels; leave it out",
        ),
        ("{label_smoothing: 1}", "{lr: {float: [0.1, 0.2]}}", "train.label_smoothing must be in [0, 1), but got 1"),
        (
            "{label_smoothing: 0.1}",
            "{label_smoothing: {float: [0, 0.2]}}",
            "train.label_smoothing is under search too; leave one of the two out",
        ),
    ],
)
def test_smoothing_without_effect_or_given_twice_is_refused(train, search, message):
    with pytest.raises(UserError) as caught:
        space(f"train: {train}\nsearch: {search}\n")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("train", "search"),
    [
        ("{}", f"{ALONE}, none: {{label_smoothing: 0.2}}}}"),
        ("{label_smoothing: 0.1}", f"{ALONE}, none: {{label_smoothing: 0}}}}"),
        ("{label_smoothing: 0.1}", "{method: {choice: [kd, ctkd]}, kd: {weight: 1}}"),
        ("{label_smoothing: 0.1}", "{method: kd, kd: {weight: {float: [0, 1]}}}"),
    ],
)
def test_smoothing_with_an_effect_is_taken(train, search):
    assert space(f"train: {train}\nsearch: {search}\n").name == "x"


def test_smoothing_is_searched():
    chosen = space("search: {label_smoothing: {float: [0.1, 0.2]}}\n")
    values = chosen.decode({"label_smoothing": 0.15})
    assert chosen.config(values).train.label_smoothing == 0.15


def test_a_config_whose_loss_has_no_labels_refuses_smoothing():
    content = {
        **yaml.safe_load(HEAD),
        "pair": "wrn-16-2/resnet8",
        "epochs": 2,
        "method": {"name": "kd", "weight": 1.0},
        "train": {"label_smoothing": 0.1},
    }
    Path("config.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=r"train\.label_smoothing has no effect, because the loss has no labels"):
        read_config(Path("config.yaml"))
