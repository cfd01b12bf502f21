"""`ctkd-search export --half`: what is converted, what is measured beside float32, and what is refused."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from support.kept_students import a_student, probabilities, some_images
from support.quantised import a_trained_search
from test_formats import runner
from torch import nn

from ctkd_search.errors import WorkFailed
from ctkd_search.geometry import Geometry
from ctkd_search.records.states import read_state, state_path, write_state
from ctkd_search.students import precisions
from ctkd_search.students.formats import ONNX, TORCH, torch_content, torch_graph, torch_runner
from ctkd_search.students.images import splits_of_search
from ctkd_search.students.served import HalfStudent

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("single_thread", "own_directory")]

GEOMETRY = Geometry(5, 3, 12)
FILES = {"onnx": ("small.onnx", "small-half.onnx"), "torch": ("small.pt2", "small-half.pt2")}


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Latencies of a few runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precisions, "_SECONDS", 0.0)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A directory with a search that has trained a student, and its files in both precisions and formats."""
    from ctkd_search import cli

    directory = tmp_path_factory.mktemp("half")
    search = a_trained_search(directory / "trials")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        for form in FILES:
            assert cli.main(["export", "small", "--format", form]) == 0
            with contextlib.redirect_stdout(io.StringIO()) as out:
                assert cli.main(["export", "small", "--format", form, "--half"]) == 0
            file = FILES[form][1]
            assert f"wrote {file}: the student of trial 1 of the search 'small', resnet8 in half precision, 10" in (
                " ".join(out.getvalue().split())
            )
            assert Path(f"{file}.md").is_file()
    return directory, search


def properties(form, path):
    """The properties of a file."""
    if form == "onnx":
        return {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    noted = {"metadata.json": ""}
    torch.export.load(path, extra_files=noted)
    return json.loads(noted["metadata.json"])


@pytest.mark.parametrize("architecture", ["resnet8", "mobilenetv2-0.5", "shufflenetv2"])
@pytest.mark.parametrize("form", [ONNX, TORCH], ids=["onnx", "pt2"])
def test_a_network_computes_in_float16_from_its_first_convolution_to_its_logits(form, architecture):
    served, metadata = a_student(architecture, GEOMETRY)
    half = HalfStudent(served)
    assert {parameter.dtype for parameter in half.student.parameters()} == {torch.float16}
    assert {parameter.dtype for parameter in served.student.parameters()} == {torch.float32}, "the student stays"
    run = form.runner(form.content(form.graph(half, metadata), {}, "FILE"), 1)
    for count in (1, 2, 7):
        images = some_images(count, GEOMETRY)
        found, expected = run(images.numpy()), probabilities(served, images)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(found, probabilities(half, images), atol=1e-3)
        assert 0 < np.abs(found - expected).max() < 5e-3


@pytest.mark.parametrize("form", FILES)
def test_a_file_has_its_measurements_and_a_card(there, form):
    plain, half = FILES[form]
    splits = splits_of_search(there)
    pixels, labels = splits.validation.pixels, splits.validation.labels
    noted = properties(form, half)["float16"]
    noted = json.loads(noted) if form == "onnx" else noted
    for name, file in (("float32", plain), ("float16", half)):
        one = noted["files"][name]
        assert one["accuracy"] == pytest.approx(
            (runner(Path(file))(torch.tensor(pixels)).argmax(axis=1) == labels).mean()
        )
        assert min(one["latency_ms"], one["batch_ms"]) > 0
    assert noted["files"]["float32"]["accuracy"] > 0.8, "it has learned something"
    assert noted["runtime"] == ("ONNX Runtime" if form == "onnx" else "torch")
    assert (noted["images"], noted["calibrated_on"], noted["chosen"]) == (len(labels), None, "float16")
    size, before = Path(half).stat().st_size, Path(plain).stat().st_size
    weights = sum(parameter.numel() for parameter in a_student("resnet8")[0].parameters())
    assert before - size > 1.8 * weights, "nearly two bytes less for each weight"
    card = Path(f"{FILES[form][1]}.md").read_text(encoding="utf-8")
    assert f"| float16 | {100 * noted['files']['float16']['accuracy']:.2f} % |" in card
    assert "An image classifier in half precision: the student of trial 1 of the search 'small', a `resnet8`" in card
    assert ("torch.export.load('small-half.pt2')" in card) == (form == "torch")
    others = {key: value for key, value in properties(form, half).items() if key != "float16"}
    assert others == properties(form, plain)


def test_every_weight_of_an_onnx_file_has_two_bytes(there):
    stored = onnx.load("small-half.onnx").graph.initializer
    # The smaller ones normalise images, or are shapes.
    weights = [item for item in stored if np.prod(item.dims) > 8]
    assert len(weights) > 15
    assert {item.data_type for item in weights} == {onnx.TensorProto.FLOAT16}


@pytest.mark.parametrize("form", FILES)
def test_predict_answers_as_the_file_does(there, call, form):
    pixels = splits_of_search(there).validation.pixels[:5]
    Path("digits").mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image[:, :, 0]).save(f"digits/{number:02d}.png")
    file = FILES[form][1]
    code, out, _ = call("predict", file, "digits", "--top", 10, "--json")
    assert code == 0
    for entry, row in zip(json.loads(out), runner(Path(file))(torch.tensor(pixels)), strict=True):
        found = {top["class"]: top["probability"] for top in entry["top"]}
        np.testing.assert_allclose([found[str(index)] for index in range(10)], row, atol=1e-3)


def put(folder, values):
    """Changes weights of the search's student."""
    path = state_path(folder.states, 1)
    state = read_state(path)
    for name, change in values.items():
        change(state["student"][name])
    write_state(path, state)


def test_a_student_whose_weights_are_beyond_float16_is_not_written(there, call):
    put(there, {"classifier.bias": lambda bias: bias.add_(1e6)})
    before = sorted(Path.cwd().rglob("*"))
    code, out, err = call("export", "small", "--format", "onnx", "--half", "-o", "new.onnx")
    assert (code, out) == (1, "")
    assert "the student's probabilities are not finite numbers in this precision; it was not written" in err
    assert sorted(Path.cwd().rglob("*")) == before


def test_a_student_that_loses_more_than_is_accepted_is_not_written(there, call):
    # Logits of which float16 has one in 32, so that close decisions become others.
    put(there, {"classifier.bias": lambda bias: bias.add_(40000.0), "classifier.weight": lambda weight: weight.mul_(5)})
    code, out, err = call("export", "small", "--format", "torch", "--half", "-o", "new.pt2")
    assert (code, out) == (2, "")
    assert "half precision loses " in err
    assert "more than --max-drop 0.5; new.pt2 was not written; accept it with --max-drop " in err
    assert not list(Path().glob("new.*"))


def test_a_processor_without_an_operation_is_named():
    class Without(nn.Module):
        def forward(self, images):
            return torch.special.erfcx(images.half().flatten(1)).float()

    _, metadata = a_student()
    run = torch_runner(torch_content(torch_graph(Without(), metadata), {}, "FILE"))
    with pytest.raises(WorkFailed, match=r"^torch does not run the student's graph on this processor \(.*Half"):
        run(some_images(2).numpy())


def test_a_file_that_cannot_be_written_is_refused_before_the_work(there, call, monkeypatch):
    monkeypatch.setattr("ctkd_search.students.export_precision.compared", pytest.fail)
    Path("file").touch()
    code, out, err = call("export", "small", "--format", "onnx", "--half", "-o", "file/x.onnx")
    assert (code, out) == (2, "")
    assert err == "ctkd-search: cannot write to the directory file: it is a file\n"


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("--half", "--half writes a student, but the format is yaml; use --format onnx or --format torch"),
        ("--format onnx --half --int8", "--int8 and --half are two precisions; leave one of them out"),
        ("--format onnx --half --tune-epochs 2", "--tune-epochs is an option of int8 students; add --int8"),
        ("--format onnx --half --register", "--register is an option of int8 students"),
        ("--format onnx --half --max-drop 101", "must be a number from 0 to 100, but got '101'"),
    ],
)
def test_options_without_effect_are_refused(call, words, answer):
    code, out, err = call("export", "small", *words.split())
    assert (code, out) == (2, "")
    assert answer in err
