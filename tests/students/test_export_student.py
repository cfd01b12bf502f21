"""`ctkd-search export` of students: which one it writes, what it says, and what it refuses."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.kept_students import (
    MEAN,
    STD,
    a_final_student,
    a_network,
    a_search_with_students,
    probabilities,
    some_images,
)
from test_formats import runner

from ctkd_search.geometry import Geometry
from ctkd_search.students.served import ServedStudent

TRIALS = Path("trials")

pytestmark = pytest.mark.usefixtures("single_thread", "own_directory")


def gives_what(path, network, mean=MEAN, std=STD):
    """Whether a file holds this network."""
    images = some_images(7)
    expected = probabilities(ServedStudent(network, mean, std), images)
    return np.abs(runner(Path(path))(images) - expected).max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize(("form", "file"), [("onnx", "digits.onnx"), ("torch", "digits.pt2")])
def test_the_winners_student_is_written_under_the_name_of_the_search_without_a_warning(call, form, file):
    networks = a_search_with_students(TRIALS, trials=(1, 2, 3), kept=(2, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        code, out, err = call("export", "digits", "--format", form)
    assert (code, err) == (0, "")
    assert out == (
        f"wrote {file}: the student of trial 3 of the search 'digits', resnet8, 10 classes, images of 8x8 with 1 "
        f"channel; try it with: ctkd-search predict {file} IMAGE\n"
    )
    assert sorted(path.name for path in Path.cwd().iterdir()) == sorted([file, "trials"])
    assert gives_what(file, networks[3])
    assert not gives_what(file, networks[2])


@pytest.mark.slow
def test_a_trials_student_goes_where_it_is_asked_and_the_name_says_the_format(call):
    networks = a_search_with_students(TRIALS, trials=(1, 2, 3), kept=(2, 3))
    assert call("export", "digits", "--trial", "2", "-o", "new/second.onnx")[0] == 0
    assert call("export", "digits", "--trial", "2", "-o", "new/second.pt2")[0] == 0
    assert gives_what("new/second.onnx", networks[2])
    assert gives_what("new/second.pt2", networks[2])
    (classes,) = [entry.value for entry in onnx.load("new/second.onnx").metadata_props if entry.key == "classes"]
    assert json.loads(classes) == list("0123456789")


@pytest.mark.slow
def test_the_student_of_the_newest_final_training_is_written(call):
    networks = {number: a_final_student(TRIALS, "mine", number) for number in (2, 9, 10)}
    (TRIALS / "mine" / "final-11").mkdir()
    code, out, err = call("export", "mine", "--final", "--format", "onnx")
    assert (code, err) == (0, "")
    assert "wrote mine.onnx: the student of the final training in trials/mine/final-10, resnet8," in out
    assert gives_what("mine.onnx", networks[10])
    assert not gives_what("mine.onnx", networks[9])


def test_a_record_without_its_images_cannot_be_exported(call):
    a_search_with_students(TRIALS, mean=None)
    code, _, err = call("export", "digits", "--format", "torch")
    assert code == 2
    assert "the record of the search 'digits' is incomplete" in err


def test_a_student_that_cannot_be_read_now_is_said_in_a_line(call):
    a_search_with_students(TRIALS, trials=(1, 2), kept=(2,))
    path = TRIALS / "digits" / "states" / "00002.pt"
    path.unlink()
    path.symlink_to(path.name)
    code, _, err = call("export", "digits", "--trial", "2", "--format", "torch")
    assert code == 2
    assert f"{path}: Too many levels of symbolic links; try again, or " in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("digits --trial 1 --format onnx", "the student of trial 1 was not kept; trials 2, 3 of the search 'digits' "),
        ("digits --trial 9 --format onnx", "there is no trial 9; ctkd-search show lists the trials"),
        ("none --format torch", "there is no search 'none' in trials; there are: digits"),
        ("digits --trial 3 --format torch", "the student of trial 3 cannot be read: "),
        ("digits --final --format onnx", "there is no final training of 'digits' in trials; there are: mine; make one"),
        ("broken --final --format onnx", "trials/broken/final-1/student.pt is not a student of a final training"),
        ("bare --final --format onnx", "the weights in trials/bare/final-1/student.pt do not fit the network: "),
        ("digits --final", "--final exports a student: add --format onnx or --format torch"),
        ("digits --final --trial 2", "not allowed with argument"),
        (
            "digits --format onnx -o -",
            "--format onnx writes a binary file, which standard output is not for; name a file with -o FILE",
        ),
        ("digits --format onnx -o x.pt2", "--format onnx and -o x.pt2 contradict each other: .pt2 is for torch"),
        ("digits --format torch -o x.pt", "the suffix of an exported file sets its format and must be one of "),
        ("digits --format yaml -o x.onnx", "--format yaml and -o x.onnx contradict each other: .onnx is for onnx"),
        ("digits --format onnx --trial 2 -o file/x.onnx", "cannot write to the directory file"),
        ("digits --format tflite", "invalid choice: 'tflite'"),
    ],
)
def test_what_cannot_be_exported_is_said_in_a_line(call, words, answer):
    a_search_with_students(TRIALS, trials=(1, 2, 3), kept=(2, 3))
    damaged = TRIALS / "digits" / "states" / "00003.pt"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    a_final_student(TRIALS, "mine")
    a_final_student(TRIALS, "bare", architecture="resnet14")
    a_final_student(TRIALS, "broken", classes=None)
    if not words.startswith(("broken", "bare")):
        for name in ("broken", "bare"):
            (TRIALS / name / "final-1" / "student.pt").unlink()
    Path("file").touch()
    before = sorted(Path.cwd().rglob("*"))
    code, out, err = call("export", *words.split())
    assert (code, out) == (2, "")
    assert answer in err
    assert len(err.splitlines()) == 1 or err.startswith("usage: ")
    assert sorted(Path.cwd().rglob("*")) == before


def test_a_student_that_was_not_kept_by_any_trial_is_said(call):
    a_search_with_students(TRIALS, kept=())
    assert "was not kept; no trial of the search 'digits' has one" in call("export", "digits", "--format", "onnx")[2]


def test_a_student_that_does_not_export_is_a_failure_of_the_work(call):
    network = a_network("resnet8", Geometry(10, 1, 8))
    weights = network.state_dict()
    weights["classifier.weight"][:] = 3e38  # finite, but not what comes of them
    a_final_student(TRIALS, "mine", student=weights)
    code, out, err = call("export", "mine", "--final", "--format", "torch")
    assert (code, out) == (1, "")
    assert err.startswith(
        "ctkd-search: mine.pt2 would not return the student's probabilities (off by nan in a batch of 1)"
    )
    assert not Path("mine.pt2").exists()


def test_the_config_is_what_is_written_unless_a_student_is_asked_for(call):
    a_search_with_students(TRIALS)
    code, out, err = call("export", "digits")
    assert (code, err) == (0, "")
    assert out.startswith("# Trial 2 of the search 'digits'")
    assert call("export", "digits", "-o", "-") == (0, out, "")
    assert call("export", "digits", "--format", "yaml") == (0, out, "")
    assert call("export", "digits", "-o", "any.yml")[0] == 0
    assert Path("any.yml").read_text(encoding="utf-8") == out
    assert call("export", "digits", "-o", "any.name")[0] == 2
    assert not Path("any.name").exists()
