"""`ctkd-search predict`: from every kind of student, of every kind of image, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from support.cli import process
from support.kept_students import MEAN, STD, a_final_student, a_search_with_students, probabilities

from ctkd_search import __version__
from ctkd_search.config import DatasetConfig
from ctkd_search.data import load_test
from ctkd_search.errors import WorkFailed
from ctkd_search.students.predict import predict
from ctkd_search.students.predictor import Predictor
from ctkd_search.students.served import Metadata, ServedStudent

STUDENT = "trials/digits/final-1/student.pt"
UTF8 = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
FILES = ("digits.onnx", "digits.pt2", STUDENT, "trials/digits/final-1")

pytestmark = pytest.mark.usefixtures("single_thread", "own_directory")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A directory with one student in every format, and 30 digits as PNG files."""
    from ctkd_search import cli

    directory = tmp_path_factory.mktemp("predict")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        network = a_final_student(Path("trials"))
        for form in ("onnx", "torch"):
            assert cli.main(["export", "digits", "--final", "--format", form]) == 0
    test = load_test(DatasetConfig("digits"))
    for number in range(30):
        (directory / "digits" / "deep").mkdir(parents=True, exist_ok=True)
        place = directory / "digits" / ("deep" if number % 2 else "")
        Image.fromarray(test.pixels[number, :, :, 0]).save(place / f"{number:02d}.png")
    (directory / "digits" / ".hidden").write_text("no image")
    (directory / "digits" / ".cache").mkdir()
    (directory / "digits" / ".cache" / "notes").write_text("no image")
    expected = probabilities(ServedStudent(network, MEAN, STD), test.pixels[:30])
    return {"directory": directory, "probabilities": expected, "pixels": test.pixels[:30]}


@pytest.fixture
def there(made, monkeypatch):
    """Works there."""
    monkeypatch.chdir(made["directory"])
    return made


@pytest.mark.parametrize("model", FILES)
def test_every_file_says_of_a_digit_what_the_student_says_of_its_pixels(call, there, model):
    code, out, err = call("predict", model, "digits", "--top", 3, "--json")
    assert (code, err) == (0, "skipped in digits: 1 hidden file (.hidden), 1 folder (.cache)\n")
    said = {Path(entry["image"]).stem: entry for entry in json.loads(out)}
    assert len(said) == 30
    for number, row in enumerate(there["probabilities"]):
        entry = said[f"{number:02d}"]
        order = np.argsort(-row)[:3]
        assert [top["class"] for top in entry["top"]] == [str(index) for index in order]
        np.testing.assert_allclose([top["probability"] for top in entry["top"]], row[order], atol=1e-4)
        assert (entry["class"], entry["probability"]) == tuple(entry["top"][0].values())
    assert len({entry["class"] for entry in said.values()}) > 1


@pytest.mark.parametrize("words", [["--json"], []], ids=["json", "table"])
def test_an_image_whose_name_is_no_text_is_classified_like_any_other(there, words):
    name = b"caf\xe9.png"
    shutil.copy("digits/02.png", os.fsdecode(name))
    try:
        ended = process("predict", "digits.onnx", "digits/02.png", os.fsdecode(name), *words, env=UTF8)
    finally:
        os.remove(name)
    assert (ended.returncode, ended.stderr) == (0, "")
    if words:
        first, second = json.loads(ended.stdout)
        assert os.fsencode(second.pop("image")) == name
        assert second == {key: value for key, value in first.items() if key != "image"}
    else:
        assert r"caf\udce9.png" in ended.stdout


def test_the_table_has_a_line_for_each_image_in_the_order_given(call, there):
    given = ["digits/deep/03.png", "digits/02.png", "digits/deep/01.png"]
    code, out, err = call("predict", "digits.onnx", *given)
    assert (code, err) == (0, "")
    rows = re.findall(r"^ (\S+\.png) +(\d) +([\d.]+) %", out, flags=re.MULTILINE)
    assert [row[0] for row in rows] == given
    for name, label, share in rows:
        row = there["probabilities"][int(Path(name).stem)]
        assert int(label) == row.argmax()
        assert float(share) == pytest.approx(100 * row.max(), abs=0.02)


def test_more_classes_are_named_below_one_another_and_all_where_more_are_asked_for(call, there):
    out = call("predict", "digits.onnx", "digits/02.png", "--top", "99")[1]
    rows = re.findall(r"^ (\S*\.png)? +(\d) +([\d.]+) %", out, flags=re.MULTILINE)
    assert [row[0] for row in rows] == ["digits/02.png", *[""] * 9]
    assert sorted(row[1] for row in rows) == list("0123456789")
    shares = [float(row[2]) for row in rows]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=0.1)


def test_probabilities_that_are_no_numbers_are_no_prediction(there):
    broken = Predictor(
        Metadata(classes=tuple("0123456789"), image_size=8, channels=1, architecture="resnet8"),
        lambda images: np.full((len(images), 10), np.nan, dtype=np.float32),
    )
    with pytest.raises(WorkFailed, match=r"probabilities of digits/00\.png are not finite"):
        list(predict(broken, [Path("digits/00.png")], 1))


def test_a_student_of_another_format_is_refused_with_what_reads_it(call, there, tmp_path):
    content = torch.load(STUDENT, weights_only=True)
    torch.save({**content, "format": 2, "versions": {"ctkd-search": "0.7.1"}}, tmp_path / "student.pt")
    model = onnx.load("digits.onnx")
    for entry in model.metadata_props:
        entry.value = {"format": "2"}.get(entry.key, entry.value)
    onnx.save(model, tmp_path / "student.onnx")
    for name, reader in [("student.pt", "ctkd-search 0.7.1"), ("student.onnx", f"ctkd-search {__version__}, or")]:
        code, _, err = call("predict", tmp_path / name, "digits/00.png")
        assert code == 2
        assert f"{name} has format 2, and ctkd-search {__version__} reads format 1 alone; read it with {reader}" in err
        assert len(err.splitlines()) == 1


def test_a_directory_is_walked_in_alphabetical_order_without_what_is_hidden(call, there):
    said = json.loads(call("predict", STUDENT, "digits", "digits/00.png", "--json")[1])
    names = [entry["image"] for entry in said]
    assert names == [*sorted(names[:-1]), "digits/00.png"]
    assert len(names) == 31
    assert not any("/." in name for name in names)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp", "gif"])
def test_formats_modes_and_sizes_do_not_matter(call, there, tmp_path, suffix):
    # Eight times as large, in colour and lossless: reduced, it is the same picture but for rounding.
    large = np.kron(there["pixels"][4, :, :, 0], np.ones((8, 8), dtype=np.uint8))
    Image.fromarray(large).convert("RGB").save(
        tmp_path / f"large.{suffix}", **({"lossless": True} if suffix == "webp" else {})
    )
    Image.fromarray(large).resize((8, 8), Image.Resampling.BICUBIC).save(tmp_path / "small.png")
    said = json.loads(call("predict", STUDENT, tmp_path, "--json")[1])
    assert len(said) == 2
    assert said[0]["class"] == said[1]["class"]
    assert said[0]["probability"] == pytest.approx(said[1]["probability"], abs=0.05)


def test_a_student_for_colour_gets_colour(call, tmp_path):
    from support.kept_students import a_network

    from ctkd_search.geometry import Geometry

    geometry = Geometry(3, 3, 12)
    network = a_network("resnet8", geometry)
    changes = {"student": network.state_dict(), "geometry": list(geometry), "classes": ["a|b", "[b]", "c"]}
    a_final_student(Path("trials"), **changes, mean=[70.0, 80.0, 90.0], std=[50.0] * 3)
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("one.png")
    (said,) = json.loads(call("predict", STUDENT, "one.png", "--json", "--top", "3")[1])
    row = probabilities(ServedStudent(network, (70.0, 80.0, 90.0), (50.0,) * 3), pixels[None])[0]
    found = {entry["class"]: entry["probability"] for entry in said["top"]}
    np.testing.assert_allclose([found["a|b"], found["[b]"], found["c"]], row, atol=1e-5)
    code, out, _ = call("predict", STUDENT, "one.png")
    assert code == 0
    assert said["class"] in out


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("digits.onnx none.png", "cannot read the image: none.png (there is no such file)"),
        ("digits.onnx notes.txt", "cannot read the image: notes.txt (it is not an image but a text file)"),
        (
            "digits.onnx notes.txt none.png",
            "cannot read any image: notes.txt (it is not an image but a text file), none",
        ),
        ("digits.onnx empty.jpg", "cannot read the image: empty.jpg (it is not an image but an empty file)"),
        ("digits.onnx texts", "the directory texts contains no images; skipped in texts: 1 text file (b.txt)"),
        ("digits.onnx hollow", "the directory hollow contains no images"),
        ("none.onnx digits", "there is no file none.onnx; MODEL is a file that export wrote (.onnx, .pt2), a final"),
        ("hollow digits", "hollow is a directory without a student; MODEL is a file that export wrote"),
        (
            "best.yaml digits",
            "best.yaml is a config and contains no student; train one with: ctkd-search train best.yaml",
        ),
        ("notes.txt digits", "notes.txt is not a student by its name; MODEL is a file"),
        ("notes.onnx digits", "notes.onnx is not an ONNX model that this runtime reads ("),
        ("notes.pt2 digits", "notes.pt2 is not a graph of torch.export that this torch reads ("),
        ("notes.pt digits", "notes.pt is not a student of a final training; a trial's is exported with: ctkd-search"),
        ("notes.pt digits", "; if it is one, it is damaged: copy it again, or train it again"),
        ("state.pt digits", "state.pt is not a student of a final training; a trial's is exported with: ctkd-search"),
        ("other.onnx digits", "other.onnx was not made by ctkd-search: it has no metadata on its classes and images"),
        ("other.pt2 digits", "other.pt2 was not made by ctkd-search: it has no metadata on its classes and images"),
        ("models:/ctkd-digits@champion digits", "there is no MLflow store "),
        ("digits.onnx digits --top 0", "--top: must be a whole number of at least 1, but got '0'"),
        ("digits.onnx", "the following arguments are required: IMAGE"),
    ],
)
def test_what_is_no_student_or_no_image_is_said_in_a_line(call, there, words, answer):
    for name in ("notes.txt", "notes.onnx", "notes.pt2", "notes.pt", "best.yaml"):
        Path(name).write_text("name: digits\n")
    Path("empty.jpg").write_bytes(b"")
    for name in ("hollow", "texts"):
        Path(name).mkdir(exist_ok=True)
    Path("texts/b.txt").write_text("no image")
    if words.startswith("state"):
        a_search_with_students(Path("searches"))
        Path("searches/digits/states/00002.pt").rename("state.pt")
    if words.startswith("other"):
        model = onnx.load("digits.onnx")
        del model.metadata_props[:]
        onnx.save(model, "other.onnx")
        exported = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(2, 2),))
        torch.export.save(exported, "other.pt2")
    before = sorted(Path.cwd().rglob("*"))
    code, out, err = call("predict", *words.split())
    assert (code, out) == (2, "")
    assert answer in err
    assert len(err.splitlines()) == 1 or err.startswith("usage: ")
    assert sorted(Path.cwd().rglob("*")) == before


@pytest.fixture
def mixed(there, tmp_path):
    """A directory of five digits, one of them cut off in the middle, and what is no image."""
    for number in range(6):
        Image.fromarray(np.kron(there["pixels"][number, :, :, 0], np.ones((9, 9), np.uint8))).save(
            tmp_path / f"{number}.png"
        )
    cut = tmp_path / "3.png"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (tmp_path / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "._0.png").write_bytes(b"\0\x05\x16\x07" + bytes(60))
    return tmp_path


def test_one_broken_image_leaves_the_others_to_be_classified(call, there, mixed):
    code, out, err = call("predict", STUDENT, mixed, "--json")
    assert code == 1
    said = json.loads(out)
    assert [Path(entry["image"]).name for entry in said] == [f"{number}.png" for number in range(6)]
    assert {frozenset(entry) - {"error"} for entry in said} == {frozenset({"image", "class", "probability", "top"})}
    assert [number for number, entry in enumerate(said) if "error" in entry] == [3]
    assert (said[3]["class"], said[3]["probability"], said[3]["top"]) == (None, None, [])
    whole = json.loads(call("predict", STUDENT, *(mixed / f"{n}.png" for n in (0, 1, 2, 4, 5)), "--json")[1])
    assert [entry for number, entry in enumerate(said) if number != 3] == whole
    told, failed = err.splitlines()
    assert told == f"skipped in {mixed}: 1 OLE file of Windows (Thumbs.db), 1 folder (__MACOSX)"
    assert failed.startswith(f"ctkd-search: 1 of 6 images cannot be read: {mixed / '3.png'} (")


def test_the_table_lists_what_could_not_be_read_and_what_is_not_there(call, there, mixed):
    code, out, err = call("predict", "digits.onnx", mixed / "0.png", "none.png", mixed / "3.png", mixed / "1.png")
    assert code == 1
    rows = out.split("\n")
    assert [row.split()[0] for row in rows if ".png" in row] == [
        str(mixed / "0.png"),
        "none.png",
        str(mixed / "3.png"),
        str(mixed / "1.png"),
    ]
    assert "none.png  not read: there is no such file" in re.sub(" {2,}", "  ", out)
    assert "2 of 4 images cannot be read: none.png (there is no such file), " in err


def test_predict_finds_the_very_files_that_the_folder_data_set_finds(call, there, mixed):
    from ctkd_search.data.listing import listing_of

    said = json.loads(call("predict", STUDENT, mixed, "--json")[1])
    assert [Path(entry["image"]).name for entry in said] == list(listing_of(str(mixed)).images)
