"""Checkpoints as DataParallel, torch.compile, Lightning, timm and others write them, and files that are none."""

import argparse
import collections
import copy
import json
import os
import pathlib
import struct
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.published_nets import randomised, three_stages
from torch import nn
from torch.optim.swa_utils import AveragedModel

from ctkd_search.distill.fitting import Target, _possible, matches
from ctkd_search.distill.weight_files import KEYS, read_weights
from ctkd_search.distill.weights import accuracy_line, load_own_expert, load_weights
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.models import build
from ctkd_search.models.registry import families

pytestmark = pytest.mark.usefixtures("single_thread")
NAME, IMAGES = "wrn-10-1", Geometry(10, 1, 8)
SAVING = 'torch.save(model.state_dict(), "teacher.pt")'


@pytest.fixture
def network():
    return randomised(build(NAME, IMAGES, seed=3))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "teacher.pt"


def opened(path, network=None, name=NAME):
    """The expert of a file, which must be the network, if one is given."""
    expert = load_own_expert(str(path), name, IMAGES)
    for key, tensor in network.state_dict().items() if network else ():
        assert torch.equal(expert.network.state_dict()[key], tensor), key
    return expert


def refused(path, name=NAME):
    with pytest.raises(UserError) as caught:
        load_own_expert(str(path), name, IMAGES)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert "\x1b" not in message
    return message


def prefixed(prefix, state):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "net.", "student.", "backbone.", "module._orig_mod.", "a.b.module."]
)
def test_prefix_of_all_names_is_dropped_and_said(path, network, prefix):
    torch.save(prefixed(prefix, network.state_dict()), path)
    assert f"prefix {prefix!r} dropped" in str(opened(path, network))


class Compiled(nn.Module):
    """Names its weights as what torch.compile returns, whose import alone takes seconds."""

    def __init__(self, network):
        super().__init__()
        self._orig_mod = network


def test_what_wrappers_make_of_names_is_undone(path, network):
    # Where there is a GPU, DataParallel moves what it wraps to it.
    wrapped_by = (nn.DataParallel, Compiled, lambda inner: nn.DataParallel(Compiled(inner)))
    for wrapped in (wrap(copy.deepcopy(network)) for wrap in wrapped_by):
        torch.save(wrapped.state_dict(), path)
        opened(path, network)
    state = network.state_dict()
    torch.save({name.replace("stages.0.", "stages.0._orig_mod."): tensor for name, tensor in state.items()}, path)
    assert "prefix '_orig_mod.' dropped" in str(opened(path, network))


def test_running_average_of_weights_is_read_without_its_counter(path, network):
    torch.save({"model_ema": AveragedModel(network).state_dict()}, path)
    assert "left out: n_averaged" in str(opened(path, network))


@pytest.mark.parametrize("key", KEYS)
def test_weights_are_found_under_the_keys_of_training_scripts(path, network, key):
    torch.save({"epoch": 3, key: network.state_dict(), "optimizer": {"state": {0: {"m": torch.ones(2)}}}}, path)
    assert f"under {key!r}" in str(opened(path, network))


def test_plain_weights_come_before_their_running_average(path, network):
    other = randomised(build(NAME, IMAGES, seed=4), seed=9)
    torch.save({"state_dict_ema": other.state_dict(), "arch": "x", "state_dict": network.state_dict()}, path)
    assert "not used: state_dict_ema" in str(opened(path, network))


def test_student_and_teacher_of_one_kind_are_not_guessed_between(path, network):
    other = randomised(build(NAME, IMAGES, seed=4), seed=9)
    torch.save({"student": network.state_dict(), "teacher": other.state_dict()}, path)
    assert "several networks that fit wrn-10-1: 'student', 'teacher'" in refused(path)
    both = prefixed("module.student.", network.state_dict()) | prefixed("module.teacher.", other.state_dict())
    torch.save({"model": both}, path)
    assert "'module.student.', 'module.teacher.'" in refused(path)
    # Of two networks of which one fits, that one is meant.
    larger = build("wrn-16-1", IMAGES, seed=0)
    torch.save({"model": prefixed("student.", network.state_dict()) | prefixed("teacher.", larger.state_dict())}, path)
    assert "prefix 'student.' dropped" in str(opened(path, network))
    torch.save({"student": larger.state_dict(), "teacher": network.state_dict()}, path)
    assert "under 'teacher'" in str(opened(path, network))


class Config:
    def __init__(self):
        self.value = 1


class Settings(dict):
    pass


@pytest.mark.parametrize("zipped", [True, False], ids=["now", "before-1.6"])
def test_what_stands_beside_the_weights_is_passed_over_and_never_made(path, network, zipped, monkeypatch):
    beside = {
        "args": argparse.Namespace(lr=0.1, where=pathlib.PurePosixPath("x")),
        "best": np.float64(0.75),
        "curve": np.arange(3.0),
        "config": Config(),
        "sets": {1, 2},
        "optimizer_class": torch.optim.SGD,
    }
    torch.save({"state_dict": network.state_dict(), **beside}, path, _use_new_zipfile_serialization=zipped)

    def never(*args):
        raise AssertionError("an object of the file was made")

    monkeypatch.setattr(Config, "__setstate__", never, raising=False)
    said = str(opened(path, network))
    assert "ignored without running their code, objects of: " in said
    foreign = read_weights(path).foreign
    assert {"argparse.Namespace", f"{__name__}.Config"} <= set(foreign)
    assert any("numpy" in name for name in foreign)


def test_dicts_that_make_what_is_missing_may_stand_beside_the_weights(path, network):
    history = collections.defaultdict(list)
    history["loss"].append(0.5)
    torch.save({"state_dict": network.state_dict(), "history": history}, path)
    opened(path, network)


def test_type_that_cannot_be_passed_over_is_named_with_the_way_out(path, network):
    torch.save({"state_dict": network.state_dict(), "settings": Settings(a=1)}, path)
    message = refused(path)
    assert f"{__name__}.Settings" in message
    assert SAVING in message


class Attack:
    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return os.system, (f"touch {self.proof}",)


class Evaluated(Attack):
    def __reduce__(self):
        return eval, (f"open({str(self.proof)!r}, 'w')",)


@pytest.mark.parametrize("kind", [Attack, Evaluated])
@pytest.mark.parametrize("zipped", [True, False], ids=["now", "before-1.6"])
def test_program_in_a_file_is_named_and_not_run(path, network, tmp_path, kind, zipped):
    proof = tmp_path / "was-here"
    torch.save({"state_dict": network.state_dict(), "x": kind(proof)}, path, _use_new_zipfile_serialization=zipped)
    assert "would run a program" in refused(path)
    assert not proof.exists()
    torch.load(path, weights_only=False)
    assert proof.exists()


def test_whole_model_is_refused_with_its_type_and_the_line_that_saves_its_weights(path, network):
    for content, where in ((network, ""), ({"epoch": 1, "model": network}, "under 'model' ")):
        torch.save(content, path)
        message = refused(path)
        assert f"contains {where}a whole pickled model (ctkd_search.models.network.StagedNetwork)" in message
        assert SAVING in message


def test_unknown_keys_are_told_with_those_that_are_read(path, network):
    torch.save({"epoch": 3, "my_net": {"deeper": network.state_dict()}}, path)
    message = refused(path)
    assert "it contains the keys epoch, my_net" in message
    assert "state_dict, model_state_dict, model, net" in message
    assert SAVING in message


def test_lightning_checkpoint_with_a_criterion_of_its_own_is_read(path, network):
    state = prefixed("model.", network.state_dict()) | {"criterion.weight": torch.ones(10)}
    torch.save({"epoch": 1, "pytorch-lightning_version": "2.5", "state_dict": state, "hyper_parameters": {}}, path)
    said = str(opened(path, network))
    assert "prefix 'model.' dropped" in said
    assert "left out: criterion.weight" in said


def test_safetensors_are_read_whatever_the_file_is_called(tmp_path, network):
    for name in ("teacher.safetensors", "teacher.pt"):
        save_file(prefixed("module.", network.state_dict()), tmp_path / name)
        assert "read from safetensors" in str(opened(tmp_path / name, network))
    whole = (tmp_path / "teacher.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-100])
    assert "damaged safetensors file" in refused(tmp_path / "cut.safetensors")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted_and_said(path, network, dtype):
    state = {key: one.to(dtype) if one.is_floating_point() else one for key, one in network.state_dict().items()}
    torch.save(state, path)
    expert = opened(path)
    assert f"converted from {str(dtype)[6:]} to float32" in str(expert)
    for key, tensor in expert.network.state_dict().items():
        assert tensor.dtype == network.state_dict()[key].dtype
        assert torch.equal(tensor, state[key].to(tensor.dtype))


def test_files_from_before_batches_were_counted_are_read(path, network):
    torch.save({key: one for key, one in network.state_dict().items() if "num_batches" not in key}, path)
    opened(path, network)


def changed(network, change):
    key = "classifier.weight"
    return network.state_dict() | {key: change(network.state_dict()[key])}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda one: one.index_fill(0, torch.tensor([1]), float("nan")), "has 64 of 640 values that are not finite"),
        (lambda one: one.index_fill(0, torch.tensor([1]), float("inf")), "has 64 of 640 values that are not finite"),
        (lambda one: one.to_sparse(), "classifier.weight is sparse"),
        (lambda one: torch.quantize_per_tensor(one, 0.1, 0, torch.qint8), "classifier.weight is quantised"),
        (lambda one: one.to(torch.int8), "classifier.weight is of type int8 instead of float32"),
        (lambda one: one.to("meta"), "classifier.weight is on the meta device, without values"),
        (lambda one: one.to(torch.complex64), "classifier.weight is of type complex64 instead of float32"),
    ],
    ids=["nan", "inf", "sparse", "quantised", "int8", "meta", "complex"],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_cannot_be_weights_are_refused(path, network, change, reason):
    torch.save(changed(network, change), path)
    assert reason in refused(path)


def test_members_of_every_family_are_possible_by_their_own_weights():
    for family in families():
        for name in family.members[:4]:
            with torch.device("meta"):
                state = build(name, IMAGES, seed=0).state_dict()
            assert _possible(name, {key: tuple(one.shape) for key, one in state.items()}), name


def test_other_classes_and_channels_are_told_as_such(path):
    torch.save(build(NAME, Geometry(100, 3, 8), seed=0).state_dict(), path)
    message = refused(path)
    assert "its classifier has 100 classes, the data set has 10" in message
    assert "its first layer takes 3 channels, the images have 1" in message
    assert "classifier.weight has shape (100, 64) instead of (10, 64)" in message
    assert "stem.weight has shape (16, 3, 3, 3) instead of (16, 1, 3, 3)" in message


def test_extra_head_is_named(path, network):
    torch.save(network.state_dict() | {"aux.weight": torch.ones(10, 64)}, path)
    assert "aux.weight is unknown" in refused(path)


def test_auxiliary_classifiers_of_a_library_s_network_are_left_out():
    target = Target("torchvision/googlenet", {"network.fc.weight": (10, 2)}, IMAGES)
    (match,) = matches(target, {"module.fc.weight": (10, 2), "module.aux1.fc.weight": (10, 3)})
    assert match.keys == {"network.fc.weight": "module.fc.weight"}
    assert match.left_out == ("module.aux1.fc.weight",)
    assert match.prefix == "module."
    assert all(one.differing for one in matches(target, {"fc.weight": (10, 2), "other.fc.weight": (10, 3)}))


def zip_of(names):
    def write(path):
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, b"x")

    return write


def scripted(path):
    torch.jit.script(nn.Linear(2, 2)).save(path)


def cut(path):
    torch.save({"a": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:-200])


def packed(path):
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("tensors"))


NO_WEIGHTS = {
    "empty": (b"", "it is empty"),
    "html": (b"\n<!DOCTYPE html><html>", "a web page"),
    "json": (json.dumps({"message": "Not Found"}).encode(), "a text of JSON"),
    "text": (b"404: Not Found", "a text and not"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(90), "an HDF5 file, as Keras and TensorFlow write"),
    "onnx": (b"\x08\x08\x12\x07pytorch\x1a\x052.0.0:\x00", "an ONNX file"),
    "numpy": (b"\x93NUMPY\x01\x00", "an array of NumPy"),
    "gzip": (b"\x1f\x8b\x08\x00", "a gzip archive"),
    "tflite": (b"\x1c\x00\x00\x00TFL3", "a TensorFlow Lite file"),
    "pickle": (b"\x80\x04\x95\x05\x00", "a pickle that torch.save did not write"),
    "noise": (struct.pack("<8d", *range(8)), "not a file that torch.save or safetensors wrote"),
    "script": (scripted, "a TorchScript archive"),
    "keras": (zip_of(["config.json", "model.weights.h5"]), "a file of Keras"),
    "npz": (zip_of(["a.npy", "b.npy"]), "an archive of NumPy arrays"),
    "zip": (zip_of(["x/a.txt"]), "a zip archive that torch.save did not write"),
    "cut": (cut, "cut off before its end"),
    "tar": (packed, "a tar archive"),
}


@pytest.mark.parametrize("kind", NO_WEIGHTS)
@pytest.mark.filterwarnings("ignore")
def test_file_of_another_kind_is_named_for_what_it_is(path, kind):
    content, said = NO_WEIGHTS[kind]
    if callable(content):
        content(path)
    else:
        path.write_bytes(content)
    message = refused(path)
    assert "is not a file of weights: it is" in message
    assert said in message


def test_names_of_this_package_hold_whatever_published_code_calls_them(path):
    network = randomised(three_stages(8, 10, 1))
    torch.save(nn.DataParallel(network).state_dict(), path)
    said = str(opened(path, name="resnet8"))
    assert "named as in RepDistiller and mdistiller; prefix 'module.' dropped" in said
    assert set(load_weights(path)) == set(prefixed("module.", network.state_dict()))


def test_expert_that_guesses_is_warned_of():
    assert "warning: little better than chance" in accuracy_line("x", 0.11, 200, 1000, 10)
    line = accuracy_line("x", 0.9, 200, 1000, 10)
    assert "90.00 % accuracy on 200 of the 1,000 validation images" in line
    assert "warning" not in line
