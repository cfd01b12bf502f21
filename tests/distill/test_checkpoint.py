"""An expert of the user's own: used as it is, or refused with a sentence, and never executed."""

import os

import pytest
import torch
from support.tiny import CPU, TINY, assert_same_bits, changed, copied, prepare_teachers

from ctkd_search.config import ExpertConfig
from ctkd_search.distill.build import load_expert, make_trainer
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.weights import load_weights
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.models import build

pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture
def cache(tmp_path):
    return TeacherCache(tmp_path / "teachers")


def own_expert(config, path):
    return changed(config, "teachers.expert", ExpertConfig(checkpoint=path))


@pytest.mark.parametrize("wrapped", [None, "state_dict", "model", "student"])
def test_own_checkpoint_is_used_as_it_is(splits, cache, tmp_path, wrapped):
    network = build(TINY.teacher, splits.geometry, seed=99)
    weights = network.state_dict()
    path = tmp_path / "own.pt"
    torch.save({wrapped: weights, "epoch": 3} if wrapped else weights, path)
    for checkpoint in (str(path), {TINY.teacher: str(path)}):
        config = own_expert(TINY, checkpoint)
        assert prepare_teachers(config, splits, cache) == []
        assert_same_bits(copied(load_expert(config, splits, cache, CPU).network), copied(network))
        assert_same_bits(copied(make_trainer(config, splits, cache, CPU).teachers.expert(0).network), copied(network))
    assert not cache.directory.exists()


def test_checkpoint_for_another_architecture_leaves_this_one_to_be_trained(splits, cache):
    config = own_expert(TINY, {"wrn-16-1": "nowhere.pt"})
    assert len(prepare_teachers(config, splits, cache)) == TINY.epochs + 1


def refused(splits, cache, path):
    """What is said about a checkpoint, which must be the same before the search and in a trial."""
    messages = set()
    for use in (make_trainer, load_expert):
        with pytest.raises(UserError) as caught:
            use(own_expert(TINY, str(path)), splits, cache, CPU)
        messages.add(str(caught.value))
    (message,) = messages
    assert str(path) in message
    return message


@pytest.mark.parametrize(
    ("name", "classes", "fragments"),
    [
        ("wrn-16-1", 10, ["weights of wrn-16-1 and not of wrn-10-1", "stages.0.1.norm1.weight is unknown", " more"]),
        ("resnet8", 10, ["weights of resnet8 and not of wrn-10-1", "stem.weight is missing", " more"]),
        ("wrn-10-2", 10, ["weights of wrn-10-2 and not of wrn-10-1", "stages.0.0.shortcut.weight is unknown"]),
        ("wrn-10-1", 7, ["classifier.weight has shape (7, 64) instead of (10, 64)", "classifier.bias has shape"]),
    ],
)
def test_checkpoint_of_another_network_is_refused_with_the_differences(
    splits, cache, tmp_path, name, classes, fragments
):
    torch.save(build(name, Geometry(classes, 1, 8), seed=0).state_dict(), tmp_path / "other.pt")
    message = refused(splits, cache, tmp_path / "other.pt")
    assert all(fragment in message for fragment in fragments)
    assert len(message) < 600


class Attack:
    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return os.system, (f"touch {self.proof}",)


def test_checkpoint_that_is_a_pickled_object_is_refused_and_not_executed(splits, cache, tmp_path):
    proof = tmp_path / "was-here"
    torch.save({"state_dict": Attack(proof)}, tmp_path / "object.pt")
    assert "is not a file of weights" in refused(splits, cache, tmp_path / "object.pt")
    assert not proof.exists()
    torch.load(tmp_path / "object.pt", weights_only=False)
    assert proof.exists()  # where pickles are trusted, the very same file does what it says


def test_checkpoint_that_is_a_whole_module_is_refused(splits, cache, tmp_path):
    torch.save(build(TINY.teacher, splits.geometry, seed=0), tmp_path / "module.pt")
    message = refused(splits, cache, tmp_path / "module.pt")
    assert "a whole pickled model (ctkd_search.models.network.StagedNetwork)" in message
    assert 'torch.save(model.state_dict(), "teacher.pt")' in message


@pytest.mark.parametrize("content", [b"", b"\n", b"weights", b"PK\x03\x04", b"\x80\x02."])
def test_checkpoint_that_is_no_file_of_weights_is_refused(splits, cache, tmp_path, content):
    (tmp_path / "broken.pt").write_bytes(content)
    assert "is not a file of weights" in refused(splits, cache, tmp_path / "broken.pt")


@pytest.mark.parametrize("content", [[], {}, torch.ones(2), {"state_dict": {}}, {"epoch": 3}, {"model": {"a": [1]}}])
def test_checkpoint_that_holds_something_else_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "else.pt")
    with pytest.raises(UserError, match=r"else\.pt does not contain a state dict"):
        load_weights(tmp_path / "else.pt")


def test_checkpoint_that_is_missing_is_named(splits, cache, tmp_path):
    assert "No such file" in refused(splits, cache, tmp_path / "nowhere.pt")
    assert "directory" in refused(splits, cache, tmp_path)
