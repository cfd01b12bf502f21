"""Students as files: what is read from them equals what was written, whatever the batch."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from support.kept_students import SMALL, a_student, probabilities, some_images

from ctkd_search.errors import UserError, WorkFailed
from ctkd_search.geometry import Geometry
from ctkd_search.models.graph import NoGraph
from ctkd_search.students.formats import ONNX, TORCH, compare, write_student

FORMATS = pytest.mark.parametrize(("form", "suffix"), [(TORCH, ".pt2"), (ONNX, ".onnx")], ids=["pt2", "onnx"])
NETWORKS = pytest.mark.parametrize(
    ("architecture", "geometry"),
    [("resnet8", SMALL), ("wrn-10-1", Geometry(3, 3, 17)), ("wrn-16-1", Geometry(100, 3, 32))],
    ids=["resnet8", "odd", "wrn"],
)

pytestmark = pytest.mark.usefixtures("single_thread")


def runner(path):
    """What a file gives, read by its own library alone."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda images: session.run(["probabilities"], {"images": np.asarray(images)})[0]
    graph = torch.export.load(path).module()
    return lambda images: graph(images).detach().numpy()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A student in each format, and what it says of itself; not to be changed."""
    directory = tmp_path_factory.mktemp("files")
    served, metadata = a_student()
    write_student(served, metadata, directory / "student.pt2", TORCH)
    write_student(served, metadata, directory / "student.onnx", ONNX)
    return directory, metadata


@pytest.mark.slow
@FORMATS
@NETWORKS
def test_a_file_gives_the_students_probabilities_for_any_batch(tmp_path, capfd, form, suffix, architecture, geometry):
    served, metadata = a_student(architecture, geometry)
    path = tmp_path / f"student{suffix}"
    write_student(served, metadata, path, form)
    assert capfd.readouterr() == ("", "")
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    run = runner(path)
    whole = probabilities(served, some_images(33, geometry))
    assert np.ptp(whole, axis=0).max() > 0.01, "the images are told apart"
    for count in (1, 2, 7, 33):
        images = some_images(33, geometry)[:count]
        found = run(images)
        assert found.shape == (count, geometry.classes)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, whole[:count], atol=1e-5)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


@pytest.mark.slow
def test_onnx_says_what_goes_in_and_out_and_what_it_is(files):
    directory, metadata = files
    model = onnx.load(directory / "student.onnx")
    onnx.checker.check_model(model, full_check=True)
    (images,), (found,) = model.graph.input, model.graph.output
    assert (images.name, images.type.tensor_type.elem_type) == ("images", onnx.TensorProto.UINT8)
    assert (found.name, found.type.tensor_type.elem_type) == ("probabilities", onnx.TensorProto.FLOAT)
    shape = images.type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in shape] == ["batch", 8, 8, 1]
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(properties["classes"]) == list(metadata.classes)
    assert (properties["image_size"], properties["channels"]) == ("8", "1")
    assert properties["architecture"] == "resnet8"
    assert json.loads(properties["versions"])["torch"] == metadata.versions["torch"]


@pytest.mark.slow
def test_a_graph_says_what_it_is(files):
    directory, metadata = files
    noted = {"metadata.json": ""}
    torch.export.load(directory / "student.pt2", extra_files=noted)
    assert json.loads(noted["metadata.json"]) == metadata.as_dict()
    assert metadata.as_dict()["classes"] == list(metadata.classes)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["student.pt2", "student.onnx"])
def test_a_file_does_not_say_where_on_this_machine_its_code_was(files, name):
    content = (files[0] / name).read_bytes()
    assert b"served.py" not in content
    assert b"network.py" not in content


@pytest.mark.slow
@FORMATS
def test_a_student_that_is_laid_out_for_a_gpu_is_exported_too(tmp_path, form, suffix):
    served, metadata = a_student("wrn-10-1", Geometry(4, 3, 12))
    served.student.to(memory_format=torch.channels_last)
    path = tmp_path / f"student{suffix}"
    write_student(served, metadata, path, form)
    images = some_images(5, Geometry(4, 3, 12))
    np.testing.assert_allclose(runner(path)(images), probabilities(served, images), atol=1e-5)


@pytest.mark.slow
@FORMATS
def test_a_student_whose_probabilities_are_no_numbers_is_not_written(tmp_path, form, suffix):
    served, metadata = a_student()
    served.student.classifier.bias.data[3] = torch.nan
    path = tmp_path / f"student{suffix}"
    path.write_bytes(b"an earlier one")
    with pytest.raises(
        WorkFailed, match=r"would not return the student's probabilities \(off by nan in a batch of 1\)"
    ):
        write_student(served, metadata, path, form)
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"an earlier one"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (lambda found: found + 2e-4, "off by 0.0002 in a batch of 1"),
        (lambda found: found[:, ::-1], "in a batch of 1"),
        (lambda found: found[:, :-1], "off by inf in a batch of 1"),
        # Right for one image alone.
        (lambda found: np.repeat(found[:1], len(found), axis=0), "in a batch of 7"),
    ],
    ids=["off", "turned", "short", "first"],
)
def test_what_differs_from_the_student_is_refused(wrong, reason):
    served, metadata = a_student()
    compare(served, metadata, lambda images: probabilities(served, images) + 5e-5, "FILE")
    with pytest.raises(WorkFailed, match=r"^FILE would not return the student's probabilities") as caught:
        compare(served, metadata, lambda images: wrong(probabilities(served, images)), "FILE")
    assert reason in str(caught.value)


@FORMATS
def test_a_student_that_is_no_graph_is_said_with_its_name_and_nothing_is_printed(tmp_path, capfd, form, suffix):
    path = tmp_path / f"student{suffix}"
    said = "^support.own_nets:branching cannot be exported as a graph: Could not guard on data-dependent expression "
    with pytest.raises(NoGraph, match=said):
        write_student(*a_student("support.own_nets:branching"), path, form)
    assert not path.exists()
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@FORMATS
def test_a_place_that_cannot_be_written_to_is_said(tmp_path, form, suffix):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write to the directory"):
        write_student(*a_student(), tmp_path / "file" / f"student{suffix}", form)


@pytest.mark.slow
def test_the_student_in_a_file_is_not_the_one_that_another_file_has(files, tmp_path):
    write_student(*a_student(seed=1), tmp_path / "other.pt2", TORCH)
    images = some_images(7)
    one, two = (runner(path)(images) for path in (files[0] / "student.pt2", tmp_path / "other.pt2"))
    assert np.abs(one - two).max() > 0.01
