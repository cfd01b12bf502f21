"""Fine-tuning of int8 students: the network that is trained is the file, and the lessons are its own trial's."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.numpy_helper import to_array as array
from support.kept_students import SMALL, a_student, some_images
from support.quantised import a_trained_search
from support.tiny import CPU, TINY, tiny_splits
from test_formats import runner

from ctkd_search.config import MethodConfig
from ctkd_search.data import Images
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.engine import resolve_precision
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.recipe import Recipe
from ctkd_search.records.states import read_state, state_path, write_state
from ctkd_search.records.store import SearchFolder
from ctkd_search.students.fake_quantised import FakeQuantised
from ctkd_search.students.images import splits_of_search
from ctkd_search.students.quantisation import prepared, quantised
from ctkd_search.students.tuning import TUNING_LR, Lessons, _trainer, lessons_of, opened_model, tuning_recipe

pytestmark = pytest.mark.usefixtures("single_thread", "own_directory")

GEOMETRY = Geometry(5, 3, 16)


def a_fake_quantised(architecture, geometry=GEOMETRY):
    """Returns a fake-quantised student, its graph, and the student."""
    served, metadata = a_student(architecture, geometry)
    served.student.output_layer.bias.data = torch.linspace(-0.3, 0.3, geometry.classes)
    normalised_for(served, some_images(64, geometry))
    model, parts = opened_model(served, metadata)
    plain = prepared(model)
    images = Images(some_images(64, geometry).numpy(), np.zeros(64, np.int64))
    graph = quantised(plain, images)
    return FakeQuantised(graph, plain, parts, served.student).eval(), graph, served


def normalised_for(served, images):
    """Gives the normalisations the statistics of these images, without which untrained networks see no difference."""
    for module in served.student.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        served.student.train()(served.normalise(images))
    served.eval()


def as_it_stands(model, images):
    """Returns the probabilities of a graph whose roundings ONNX Runtime does one after the other, fusing nothing."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"images": images.numpy()})[0]


def same_but_for_ties(found, expected):
    """Compares probabilities; sums in another order may round a few activations to the other side of a tie."""
    off = np.abs(found - expected).max(axis=1)
    assert (off < 1e-4).mean() >= 0.5, off
    assert off.mean() < 0.01, off


def probabilities(network, served, images):
    with torch.inference_mode():
        return network(served.normalise(images))[0].softmax(1).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["resnet8", "wrn-10-1", "shufflenetv2", "timm/mobilenetv3_small_100"])
def test_the_network_that_is_trained_is_the_file_before_and_after(architecture):
    network, graph, served = a_fake_quantised(architecture)
    images, made = some_images(32, GEOMETRY, seed=5), network.trained_model()
    before = probabilities(network, served, images)
    assert np.ptp(before, axis=0).max() > 0.01, "the images are told apart"
    same_but_for_ties(before, as_it_stands(graph, images))
    stored, written = ({item.name: array(item) for item in model.graph.initializer} for model in (graph, made))
    assert list(stored) == list(written)
    for name, values in stored.items():
        assert (values.dtype, values.shape) == (written[name].dtype, written[name].shape)
        whole = values.dtype.kind in "iu"
        np.testing.assert_allclose(written[name], values, rtol=1e-5, atol=1 if whole else 0, err_msg=name)
    generator = torch.Generator().manual_seed(0)
    for values in network.parameters():
        values.data += 0.1 * values.std().nan_to_num() * torch.randn(values.shape, generator=generator)
    after = probabilities(network, served, images)
    assert np.abs(after - before).max() > 0.01
    same_but_for_ties(after, as_it_stands(network.trained_model(), images))


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_with_a_convolution_after_its_pooling_gathers_no_numbers_one_by_one(channels):
    served, metadata = a_student("timm/mobilenetv3_small_100", Geometry(5, channels, 32))
    graph, parts = opened_model(served, metadata)
    operators = {node.op_type for node in graph.graph.node}
    assert not operators & {"Range", "Gather", "Shape"}
    plain = prepared(graph)
    images = Images(some_images(8, Geometry(5, channels, 32)).numpy(), np.zeros(8, np.int64))
    FakeQuantised(quantised(plain, images), plain, parts, served.student)


@pytest.mark.slow
def test_logits_maps_and_embedding_are_the_students_but_for_roundings():
    network, _, served = a_fake_quantised("resnet8")
    images = served.normalise(some_images(16, GEOMETRY))
    with torch.inference_mode():
        expected = served.student.with_embedding(images)
        logits, maps, embedding = network.with_embedding(images)
        again, same = network(images)
    assert torch.equal(logits, again)
    assert len(maps) == len(same) == len(expected[1]) == len(network.layers) == 3
    for one, other in zip((logits, embedding, *maps), (expected[0], expected[2], *expected[1]), strict=True):
        assert one.shape == other.shape
        off = (one - other).abs().mean() / other.abs().mean()
        assert 0 < off < 0.05


@pytest.mark.slow
def test_weights_are_trained_and_nothing_else():
    network, _, served = a_fake_quantised("resnet8")
    shapes = sorted(tuple(values.shape) for values in network.parameters())
    layers = [module for module in served.student.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)]
    # Each convolution has a bias since the normalisation is part of it.
    expected = [shape for layer in layers for shape in (tuple(layer.weight.shape), (len(layer.weight),))]
    assert shapes == sorted(expected)
    network(served.normalise(some_images(8, GEOMETRY)))[0].square().sum().backward()
    assert all(values.grad is not None and values.grad.abs().sum() > 0 for values in network.parameters())
    before = {item.name: array(item) for item in network.trained_model().graph.initializer}
    for values in network.parameters():
        values.data *= 2
    after = {item.name: array(item) for item in network.trained_model().graph.initializer}
    changed = {name for name, values in after.items() if not np.array_equal(values, before[name])}
    assert changed
    for name in changed:
        assert re.search(r"(weight|bias|bias_quantized)_scale$", name), "whole numbers stay: their scales have doubled"
        np.testing.assert_allclose(after[name], 2 * before[name], rtol=1e-6)


@pytest.mark.slow
def test_operators_that_cannot_be_trained_are_named():
    _, graph, served = a_fake_quantised("resnet8")
    metadata = a_student("resnet8", GEOMETRY)[1]
    model, parts = opened_model(served, metadata)
    next(node for node in graph.graph.node if node.op_type == "ReduceMean").op_type = "Det"
    with pytest.raises(UserError, match="has operators that cannot be tuned: Det; leave --tune-epochs out"):
        FakeQuantised(graph, prepared(model), parts, served.student)
    with pytest.raises(UserError, match="the int8 graph lacks gone, so that it cannot be tuned"):
        FakeQuantised(graph, prepared(model), parts._replace(maps=("gone",)), served.student)


@pytest.mark.parametrize("schedule", ["milestones", "cosine", "constant"])
def test_the_learning_rate_of_a_tuning_falls_from_a_share_of_the_peak_to_0(schedule):
    recipe = Recipe(lr=0.3, schedule=schedule, warmup=2.0, average=1.0, weight_decay=1e-3, precision="bfloat16")
    made = tuning_recipe(recipe, epochs=40, tuned=4)
    assert made.lr_at(36, 40) == pytest.approx(TUNING_LR * 0.3)
    assert made.lr_at(38, 40) == pytest.approx(TUNING_LR * 0.3 / 2)
    assert made.lr_at(39, 40, 9, 10) == pytest.approx(TUNING_LR * 0.3 / 40)
    assert (made.average, made.precision, made.weight_decay) == (0, "float32", 1e-3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A directory with a search that has trained a student."""
    directory = tmp_path_factory.mktemp("tuning")
    a_trained_search(directory / "trials")
    return directory


@pytest.fixture
def there(trained, monkeypatch):
    """Works there, on a copy; gives the search's directory."""
    shutil.copytree(trained, "copy")
    monkeypatch.chdir("copy")
    return SearchFolder(Path("trials"), "small")


def disturb(folder):
    """Turns a student's weights into worse ones, which lessons can mend."""
    path = state_path(folder.states, 1)
    state = read_state(path)
    generator = torch.Generator().manual_seed(0)
    for name, values in state["student"].items():
        if name.endswith("weight") and values.ndim == 4:
            values += 0.8 * values.std() * torch.randn(values.shape, generator=generator)
    write_state(path, state)


@pytest.mark.slow
def test_a_student_is_tuned_with_its_lessons_and_both_numbers_are_shown(there, call):
    disturb(there)
    code, out, err = call("export", "small", "--format", "onnx", "--int8", "--tune-epochs", 2, "--max-drop", 100)
    assert (code, err) == (0, "")
    (properties,) = [item.value for item in onnx.load("small-int8.onnx").metadata_props if item.key == "int8"]
    noted = json.loads(properties)
    accuracies = {name: file["accuracy"] for name, file in noted["files"].items()}
    assert list(accuracies) == ["float32", "int8", "int8, tuned"]
    assert noted["chosen"] == "int8, tuned"
    assert accuracies["int8, tuned"] > accuracies["int8"] + 0.1
    told = re.findall(r"^tuned (\d) of 2 epochs: ([\d.]+) % validation accuracy$", out, flags=re.MULTILINE)
    assert [number for number, _ in told] == ["1", "2"]
    validation = splits_of_search(there).validation
    # The file is the network that was trained, but for ties of its roundings, and for sums that ONNX Runtime cuts off
    # on processors without instructions for sums of products of bytes.
    assert float(told[1][1]) / 100 == pytest.approx(accuracies["int8, tuned"], abs=6 / len(validation))
    found = runner(Path("small-int8.onnx"))(validation.pixels).argmax(axis=1)
    assert (found == validation.labels).mean() == pytest.approx(accuracies["int8, tuned"])
    card = Path("small-int8.onnx.md").read_text(encoding="utf-8")
    for name, accuracy in accuracies.items():
        assert f"| {name} | {100 * accuracy:.2f} % |" in card
        assert f"{name}  " in out
    assert "- The file is the student `int8, tuned` of the table." in card
    assert "the one that is better on these validation images was taken" in card


@pytest.mark.slow
@pytest.mark.parametrize("native", [False, True])
def test_teachers_are_found_in_the_precision_that_the_search_trained_them_in(there, monkeypatch, native):
    trained_in = resolve_precision("auto", CPU)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: native)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    lessons = lessons_of(there, None, splits_of_search(there), 1)
    assert lessons.config.teachers.recipe.precision == trained_in


@pytest.mark.slow
def test_a_tuning_that_cannot_be_is_refused(there, call):
    before = sorted(Path.cwd().rglob("*"))
    words = ("export", "small", "--format", "onnx", "--int8", "--tune-epochs")
    code, _, err = call(*words, 9)
    assert code == 2
    assert "--tune-epochs must be at most the 4 epochs that the teachers of the search 'small' were recorded for" in err
    shutil.move("trials/teachers", "teachers")
    code, _, err = call(*words, 1)
    assert code == 2
    assert "--tune-epochs needs the teachers of the search 'small', and wrn-10-1 as trained for a cpu is not in" in err
    shutil.rmtree("trials/teachers", ignore_errors=True)
    shutil.move("teachers", "trials/teachers")
    record = there.search()
    record.teachers = "live"
    there.write(record)
    code, _, err = call(*words, 1)
    assert code == 2
    assert "--tune-epochs needs recorded teachers, and those of the search 'small' were live" in err
    assert sorted(Path.cwd().rglob("*")) == before


@pytest.mark.slow
def test_a_method_that_replaces_blocks_is_refused(call):
    searched = {"pair": "wrn-10-1/wrn-10-1", "method": "iakd", "lr": {"float": [0.01, 0.1]}}
    a_trained_search(Path("trials"), search=searched, train={"batch_size": 64})
    code, _, err = call("export", "small", "--format", "onnx", "--int8", "--tune-epochs", 1)
    assert code == 2
    assert "method iakd cannot tune an int8 student: the graph of an int8 student has no blocks" in err
    assert len(err.splitlines()) == 1


@pytest.fixture(scope="module")
def made_quantised():
    """A fake-quantised student for digits."""
    return a_fake_quantised("resnet8", SMALL)[0]


def trainer_with(method, network, tmp_path, splits, **values):
    config = dataclasses.replace(TINY, method=MethodConfig(method, values))
    return _trainer(config, network, Lessons(config, {}, splits, TeacherCache(tmp_path, "x"), CPU))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "values", "reason"),
    [
        (
            "ctkd-as-released",
            {"alpha": 1.0, "beta": 0.0, "attention_layers": (1,)},
            "a network without convolutions (FakeQuantised) has no first one to share",
        ),
        (
            "support.own_methods:ReadsTheStem",
            {},
            "the graph of an int8 student has no 'stem', which the method reads",
        ),
    ],
)
def test_a_method_that_needs_a_part_of_the_student_is_refused(made_quantised, method, values, reason, tmp_path):
    with pytest.raises(UserError) as refused:
        trainer_with(method, made_quantised, tmp_path, tiny_splits(), **values)
    assert str(refused.value) == f"method {method} cannot tune an int8 student: {reason}; leave --tune-epochs out"


@pytest.mark.slow
def test_a_fault_of_ones_own_method_is_told_with_its_line_and_any_other_one_is_raised(made_quantised, tmp_path):
    mistyped = "fails with AttributeError: 'FakeQuantised' object has no attribute 'stemm' .*own_methods.py, line "
    with pytest.raises(UserError, match=mistyped):
        trainer_with("support.own_methods:MistypesTheStem", made_quantised, tmp_path, tiny_splits())
    method = "support.own_methods:Alone"
    assert trainer_with(method, made_quantised, tmp_path, tiny_splits()).step.student is made_quantised
    with pytest.raises(AttributeError, match="'NoneType' object has no attribute"):
        trainer_with(method, made_quantised, tmp_path, None)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("--format onnx --tune-epochs 2", "--tune-epochs is an option of int8 students; add --int8, or leave it out"),
        ("--format onnx --int8 --tune-epochs 0", "must be a whole number of at least 1, but got '0'"),
        ("--format onnx --int8 --final --tune-epochs 2", "leave --final or --tune-epochs out"),
    ],
)
def test_options_without_effect_are_refused(call, words, answer):
    code, out, err = call("export", "small", *words.split())
    assert (code, out) == (2, "")
    assert answer in err
