"""``~`` is the user's home directory in every path that a user gives: in a space, in a word, in the environment."""

import os
from pathlib import Path

import pytest
import torch
from support.layouts import write_cifar10, write_folder

from ctkd_search import data
from ctkd_search.cli.arguments import directory
from ctkd_search.cli.parser import make_parser
from ctkd_search.config import DatasetConfig, ExpertConfig, Member
from ctkd_search.data.registry import cache_directory
from ctkd_search.paths import expanded, expanded_uri, user_path
from ctkd_search.space.reader import read_space
from ctkd_search.tracking.store import store_uri

SPACE = """\
name: y
dataset: {name: folder, root: ~/images}
augment: {crop: 1}
budget: {trials: 2, epochs: 2}
search: {pair: wrn-10-1/resnet8, lr: {float: [0.01, 0.3], log: true}}
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home directory of its own, and another one to work in."""
    place = tmp_path / "home"
    (tmp_path / "work").mkdir()
    place.mkdir()
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.chdir(tmp_path / "work")
    return place


def test_a_tilde_is_home_at_the_beginning_alone(home):
    assert expanded("~/x") == f"{home}/x"
    assert user_path("~") == home
    for other in ("a/~/b", "x~", "~nobody-is-called-so/x", "-", "", "/abs"):
        assert expanded(other) == other


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sqlite:///~/m.db", "sqlite:///{}/m.db"),
        ("file:~/runs", "file:{}/runs"),
        ("file://~/runs", "file://{}/runs"),
        ("~/runs", "{}/runs"),
        ("https://example.org/~me", "https://example.org/~me"),
        ("sqlite:////abs/~m.db", "sqlite:////abs/~m.db"),
    ],
)
def test_a_store_may_lie_at_home(home, monkeypatch, uri, expected):
    assert expanded_uri(uri) == expected.format(home)
    assert store_uri(uri, Path("trials")) == expected.format(home)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert store_uri(None, Path("trials")) == expected.format(home)


def test_a_space_names_its_images_and_its_teacher_at_home(home):
    write_folder(home / "images")
    torch.save({}, home / "teacher.pt")
    Path("space.yaml").write_text(SPACE)
    space = read_space(Path("space.yaml"), ["teachers.expert.checkpoint=~/teacher.pt"])
    assert space.dataset.root == str(home / "images")
    assert space.teachers.expert.checkpoint == {"wrn-10-1": str(home / "teacher.pt")}
    assert len(data.load_train(DatasetConfig("folder", root="~/images")).train) == 15
    for given in ("~/teacher.pt", {"wrn-10-1": "~/teacher.pt"}):
        expert = ExpertConfig(checkpoint=given)
        assert expert.checkpoint_of("wrn-10-1") == str(home / "teacher.pt")
        told = expert.absolute().checkpoint
        assert str(home / "teacher.pt") in (told, dict(told).get("wrn-10-1") if isinstance(told, dict) else None)


def test_the_files_of_an_ensemble_are_found_at_home_and_its_architectures_are_left_as_they_are(home):
    torch.save({}, home / "teacher.pt")
    expert = ExpertConfig(ensemble=("wrn-10-1", "~/teacher.pt")).absolute()
    assert expert.ensemble == ("wrn-10-1", str(home / "teacher.pt"))
    assert expert.members("wrn-16-1") == [Member("wrn-10-1"), Member("wrn-16-1", str(home / "teacher.pt"))]


def test_published_data_sets_lie_at_home_too(home, monkeypatch):
    write_cifar10(home / "cifar")
    config = DatasetConfig("cifar10", root="~/cifar", verify=False)
    assert data.resolved(config).root == str(home / "cifar")
    assert len(data.load_test(config)) == 20
    assert cache_directory() == home / ".cache" / "ctkd-search"
    monkeypatch.setenv("XDG_CACHE_HOME", "~/elsewhere")
    assert cache_directory() == home / "elsewhere" / "ctkd-search"


def test_every_path_on_the_command_line_is_expanded(home, call):
    write_folder(home / "images")
    (home / "space.yaml").write_text(SPACE)
    assert call("show", "--trials-dir", "~/trials")[1] == call("show", "--trials-dir", home / "trials")[1]
    code, _, err = call("predict", "~/none.onnx", "~/images/test/ant/0.png")
    assert (code, err) == (2, err)
    assert f"there is no file {home}/none.onnx" in err
    assert call("schema", "-o", "~/schema.json")[0] == 0
    assert (home / "schema.json").is_file()
    # Whatever takes a path is declared as one.
    for parser in make_parser()._subparsers._group_actions[0].choices.values():
        for action in parser._actions:
            assert action.type is not Path, (parser.prog, action.dest)
            if action.metavar in ("FILE", "DIR", "SPACE", "CONFIG", "IMAGE"):
                assert action.type in (user_path, directory), (parser.prog, action.dest)
    assert os.listdir() == []
