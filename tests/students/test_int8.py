"""`ctkd-search export --int8`: what is quantised and how, what is measured beside float32, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image
from support.kept_students import a_final_student, a_student, some_images
from support.quantised import SHARES, a_trained_search, spoil
from test_formats import runner

from ctkd_search import data
from ctkd_search.config import DatasetConfig
from ctkd_search.data import Images
from ctkd_search.errors import UserError, WorkFailed
from ctkd_search.files import write_text
from ctkd_search.geometry import Geometry
from ctkd_search.records.json_files import as_json
from ctkd_search.records.store import new_record
from ctkd_search.students.formats import ONNX, onnx_model, onnx_runner, onnx_session
from ctkd_search.students.images import images_of_final, images_of_search, splits_of_search
from ctkd_search.students.kept import trial_student
from ctkd_search.students.precisions import BATCH, Comparison, Measured, accuracy_of, compared, latencies_ms
from ctkd_search.students.quantisation import CALIBRATION_IMAGES, calibration_images, prepared, quantised

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("single_thread", "own_directory")]

GEOMETRY = Geometry(5, 3, 12)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A directory with a search that has trained a student, whose int8 file is exported there."""
    from ctkd_search import cli

    directory = tmp_path_factory.mktemp("int8")
    search = a_trained_search(directory / "trials")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        assert cli.main(["export", "small", "--format", "onnx", "--int8"]) == 0
        assert cli.main(["export", "small", "--format", "onnx"]) == 0
    return directory, search


def arrays(model):
    """The initializers of a graph."""
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


def properties(path):
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def a_graph(architecture="resnet8", seed=0, images=None):
    """A student's float graph and int8 graph."""
    served, metadata = a_student(architecture, GEOMETRY)
    held = images if images is not None else Images(some_images(40, GEOMETRY, seed).numpy(), np.zeros(40, np.int64))
    graph = prepared(onnx_model(served, metadata))
    return graph, quantised(graph, held), held


def test_every_convolutions_weights_have_8_bits_and_a_scale_for_each_channel():
    graph, made, _ = a_graph()
    before, after = arrays(graph), arrays(made)
    weights = [name for name, array in before.items() if array.ndim == 4]
    assert len(weights) == 9
    assert not any(node.op_type == "BatchNormalization" for node in graph.graph.node), "they are folded"
    for name in weights:
        scales, whole = after[f"{name}_scale"], after[f"{name}_quantized"]
        assert whole.dtype == np.int8
        largest = np.abs(before[name]).max(axis=(1, 2, 3))
        np.testing.assert_allclose(scales, largest / 127, rtol=1e-5)
        off = np.abs(whole * scales[:, None, None, None] - before[name])
        assert (off <= 0.5001 * scales[:, None, None, None]).all()
        assert name not in after


def test_the_ranges_of_activations_are_those_of_the_calibration_images():
    graph, made, images = a_graph()
    after = arrays(made)
    relu = next(node for node in graph.graph.node if node.op_type == "Relu")
    seen = onnx.ModelProto.FromString(graph.SerializeToString())
    seen.graph.output.append(onnx.helper.make_tensor_value_info(relu.output[0], onnx.TensorProto.FLOAT, None))
    session = onnx_session(seen.SerializeToString())
    values = session.run([relu.output[0]], {"images": images.pixels})[0]
    assert after[f"{relu.output[0]}_scale"] == pytest.approx(values.max() / 255, rel=1e-4)
    assert after[f"{relu.output[0]}_zero_point"] == 0
    others = arrays(a_graph(images=Images(images.pixels // 4, images.labels))[1])
    assert others[f"{relu.output[0]}_scale"] != after[f"{relu.output[0]}_scale"]


def test_probabilities_are_no_multiples_of_a_scale():
    _, made, images = a_graph()
    found = onnx_runner(onnx_session(made.SerializeToString()))(images.pixels)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    last = {name: node for node in made.graph.node for name in node.output}["probabilities"]
    assert last.op_type == "Softmax"
    gemm = next(node for node in made.graph.node if node.output[0] == last.input[0])
    assert gemm.op_type == "Gemm", "the logits are not quantised"


def test_students_are_calibrated_on_training_images_alone():
    splits = data.load_train(DatasetConfig(**SHARES))
    chosen = calibration_images(splits.train)
    assert len(chosen) == CALIBRATION_IMAGES < len(splits.train)
    known = {image.tobytes() for image in splits.train.pixels}
    assert all(image.tobytes() in known for image in chosen.pixels)
    assert len(set(chosen.labels.tolist())) == 10
    again = calibration_images(splits.train)
    np.testing.assert_array_equal(chosen.pixels, again.pixels)
    few = calibration_images(splits.train[np.arange(7)])
    np.testing.assert_array_equal(few.pixels, splits.train.pixels[:7])


def test_an_int8_file_has_its_measurements_and_a_card(there):
    splits = splits_of_search(there)
    pixels, labels = splits.validation.pixels, splits.validation.labels
    noted = json.loads(properties("small-int8.onnx")["int8"])
    accuracies = {}
    for name, file in (("float32", "small.onnx"), ("int8", "small-int8.onnx")):
        accuracies[name] = (runner(Path(file))(pixels).argmax(axis=1) == labels).mean()
        one = noted["files"][name]
        assert one["accuracy"] == pytest.approx(accuracies[name])
        assert 0 < one["latency_ms"] < one["batch_ms"]
    assert accuracies["float32"] > 0.8, "it has learned something"
    assert noted["files"]["float32"]["bytes"] == Path("small.onnx").stat().st_size
    size = Path("small-int8.onnx").stat().st_size
    assert noted["files"]["int8"]["bytes"] < size < 0.4 * noted["files"]["float32"]["bytes"]
    assert (noted["images"], noted["calibrated_on"], noted["batch"]) == (len(labels), CALIBRATION_IMAGES, BATCH)
    assert noted["machine"]
    card = Path("small-int8.onnx.md").read_text(encoding="utf-8")
    assert f"| int8 | {100 * accuracies['int8']:.2f} % |" in card
    assert f"the student of trial 1 of the search 'small', a `resnet8` for {len(splits.classes)} classes" in card
    assert "better on these validation images" not in card, "there was one student in int8"
    plain, small = properties("small.onnx"), properties("small-int8.onnx")
    assert {key: value for key, value in small.items() if key != "int8"} == plain


def test_predict_answers_as_onnx_runtime_does(there, call):
    pixels = splits_of_search(there).validation.pixels[:20]
    Path("digits").mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image[:, :, 0]).save(f"digits/{number:02d}.png")
    code, out, _ = call("predict", "small-int8.onnx", "digits", "--top", 10, "--json")
    assert code == 0
    session = onnx_session(Path("small-int8.onnx"))
    expected = session.run(["probabilities"], {"images": pixels})[0]
    for entry, row in zip(json.loads(out), expected, strict=True):
        found = {top["class"]: top["probability"] for top in entry["top"]}
        np.testing.assert_allclose([found[str(index)] for index in range(10)], row, atol=1e-6)


def test_a_student_that_int8_ruins_is_not_written(there, call):
    spoil(there)
    before = sorted(Path.cwd().rglob("*"))
    code, out, err = call("export", "small", "--format", "onnx", "--int8", "-o", "new.onnx")
    assert (code, out) == (2, "")
    found = re.fullmatch(
        r"ctkd-search: int8 loses ([\d.]+) points of validation accuracy "
        r"\(([\d.]+) % in float32, ([\d.]+) % in int8\), more than --max-drop 2; new.onnx was not written; "
        r"accept it with --max-drop [0-9.]+, tune it with --tune-epochs 2, or .*\n",
        err,
    )
    lost, before_it, after = map(float, found.groups())
    assert lost == pytest.approx(before_it - after, abs=0.011)
    assert before_it > 70 > 30 > after
    assert sorted(Path.cwd().rglob("*")) == before
    code, out, err = call("export", "small", "-o", "new.onnx", "--int8", "--max-drop", "100")
    assert (code, err) == (0, "")
    assert "wrote new.onnx: the student of trial 1 of the search 'small', resnet8 in int8, 10 classes" in out
    assert Path("new.onnx.md").is_file()


def test_other_images_than_the_searchs_are_refused(there, call):
    record = there.search()
    record.fingerprint = "another"
    there.write(record)
    code, _, err = call("export", "small", "--format", "onnx", "--int8")
    assert code == 2
    assert (
        "the images are no longer those of the search 'small', on which a student in another precision must be" in err
    )


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("--int8", "--int8 writes an ONNX file, but the format is yaml; use --format onnx"),
        ("--format torch --int8", "--int8 writes an ONNX file, but the format is torch; use --format onnx"),
        (
            "--format onnx --max-drop 1",
            "--max-drop is an option of students in int8 and half precision; add --int8 or --half",
        ),
        ("--format onnx --int8 --max-drop -1", "must be a number from 0 to 100, but got '-1'"),
        ("--format onnx --int8 --max-drop nan", "must be a number from 0 to 100, but got 'nan'"),
        ("--format onnx --int8 -o -", "--format onnx writes a binary file"),
    ],
)
def test_options_without_effect_are_refused(call, words, answer):
    code, out, err = call("export", "small", *words.split())
    assert (code, out) == (2, "")
    assert answer in err


def test_a_final_trainings_student_is_measured_on_images_that_it_knows(call):
    a_final_student(Path("trials"), "mine")
    dataset = DatasetConfig(**SHARES)
    splits = data.load_train(dataset)
    content = {"config": {"dataset": dataclasses.asdict(dataset), "augment": {}}}
    record = new_record("mine/final-1", content, splits.with_validation(), [])
    write_text(Path("trials/mine/final-1/search.json"), as_json(record))
    images = images_of_final(Path("trials/mine/final-1"))
    np.testing.assert_array_equal(images.validation.pixels, splits.validation.pixels)
    np.testing.assert_array_equal(images.calibration.pixels, calibration_images(splits.train).pixels)
    code, out, err = call("export", "mine", "--final", "--format", "onnx", "--int8", "--max-drop", "100")
    assert (code, err) == (0, "")
    note = "The student of a final training has learned from the validation images too."
    assert note in out
    assert json.loads(properties("mine-int8.onnx")["int8"])["note"] == note
    assert f"- {note}" in Path("mine-int8.onnx.md").read_text(encoding="utf-8")
    record.fingerprint = "another"
    write_text(Path("trials/mine/final-1/search.json"), as_json(record))
    with pytest.raises(UserError, match="the images are no longer those of the final training in trials/mine"):
        images_of_final(Path("trials/mine/final-1"))


def test_files_are_measured_in_turns_and_each_by_itself(there):
    images = images_of_search(there)
    kept = trial_student(there.root, "small", None)
    model = onnx_model(kept.served, kept.metadata)
    models = {"float32": model, "int8": quantised(prepared(model), images.calibration)}
    contents = {name: made.SerializeToString() for name, made in models.items()}
    found = compared(contents, ONNX, images.validation, 1, 3)
    assert list(found.files) == ["float32", "int8"]
    assert found.drop == found.files["float32"].accuracy - found.files["int8"].accuracy
    calls = []
    times = latencies_ms([lambda images: calls.append("a"), lambda images: calls.append("b")], np.zeros(1))
    assert calls[:4] == ["a", "b", "a", "b"]
    assert len(times) == 2
    labels = np.array([0, 1, 1, 0])
    four = Images(np.zeros((4, 8, 8, 1), np.uint8), labels)
    assert accuracy_of(lambda images: np.array([[1, 0], [1, 0], [0, 1], [1, 0]], float), four) == 0.75
    with pytest.raises(WorkFailed, match="are not finite numbers"):
        accuracy_of(lambda images: np.full((4, 2), np.nan), four)


@pytest.mark.parametrize(
    ("tuned", "chosen", "drop"), [(0.85, "int8, tuned", 0.05), (0.4, "int8", 0.4), (0.5, "int8, tuned", 0.4)]
)
def test_the_better_file_is_chosen_and_its_drop_counts(tuned, chosen, drop):
    accuracies = {"float32": 0.9, "int8": 0.5, "int8, tuned": tuned}
    files = {name: Measured(accuracy, 1, 1.0, 1.0) for name, accuracy in accuracies.items()}
    found = Comparison(files, "ONNX Runtime", 10, 1, 10)
    assert found.chosen == chosen
    assert found.drop == pytest.approx(drop)
