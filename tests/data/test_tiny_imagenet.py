"""Tiny ImageNet's files: the published layout, zipped or not, and all that its lists may disagree on."""

import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image
from support.layouts import WNIDS, tiny_imagenet_config, write_tiny_imagenet, zipped

from ctkd_search import data
from ctkd_search.config import DatasetConfig
from ctkd_search.data.sets import tiny_imagenet
from ctkd_search.errors import UserError


def load(root, **options):
    config = tiny_imagenet_config(root, **options)
    return data.load_train(config), data.load_test(config)


def pixels_of(path):
    return np.asarray(Image.open(path).convert("RGB"))


def test_images_have_the_class_that_directory_and_annotations_give_them(tmp_path):
    folder = write_tiny_imagenet(tmp_path)
    whole = data.describe("tiny-imagenet").load_train(tiny_imagenet_config(tmp_path))
    test = data.load_test(tiny_imagenet_config(tmp_path))
    assert whole.classes == ("crane (n02085620)", "Egyptian cat", "crane (n03126707)")
    train = whole.train.held()
    # Labels count the identifiers in alphabetical order, as torchvision's ImageFolder does.
    assert whole.train.labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    for label, wnid in enumerate(sorted(WNIDS)):
        first = train.pixels[train.labels == label][0]
        assert np.array_equal(first, pixels_of(folder / "train" / wnid / "images" / f"{wnid}_0.JPEG"))
    names = sorted(f"val_{number}.JPEG" for number in range(18))
    assert test.labels.tolist() == [sorted(WNIDS).index(WNIDS[int(name[4:-5]) // 6]) for name in names]
    assert np.array_equal(test.pixels[3], pixels_of(folder / "val" / "images" / names[3]))


def test_grey_files_among_the_coloured_are_read_in_colour(tmp_path):
    folder = write_tiny_imagenet(tmp_path)
    path = folder / "train" / min(WNIDS) / "images" / f"{min(WNIDS)}_0.JPEG"
    Image.open(path).convert("L").save(path)
    pixels = data.describe("tiny-imagenet").load_train(tiny_imagenet_config(tmp_path)).train.held().pixels[0]
    assert (pixels == pixels[..., :1]).all()


def test_the_directory_itself_may_be_named(tmp_path):
    folder = write_tiny_imagenet(tmp_path)
    assert load(folder)[0].fingerprint == load(tmp_path)[0].fingerprint


def test_zip_that_lies_there_is_unpacked_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setattr(tiny_imagenet, "_URL", "http://127.0.0.1:9/tiny-imagenet-200.zip")
    folder = write_tiny_imagenet(tmp_path)
    splits, test = load(tmp_path)
    zipped(folder)
    assert not folder.exists()
    # Before it is unpacked, what has been published is expected.
    assert data.geometry(DatasetConfig("tiny-imagenet", root=str(tmp_path))).classes == 200
    after, test_after = load(tmp_path)
    assert folder.is_dir()
    assert (after.fingerprint, test_after.fingerprint()) == (splits.fingerprint, test.fingerprint())
    assert data.geometry(tiny_imagenet_config(tmp_path)) == after.geometry


def test_zip_of_something_else_is_refused_unless_verify_is_false(tmp_path):
    zipped(write_tiny_imagenet(tmp_path))
    with pytest.raises(UserError, match="does not have its published checksum"):
        data.load_train(DatasetConfig("tiny-imagenet", root=str(tmp_path)))
    assert not (tmp_path / "tiny-imagenet-200").exists()


@pytest.mark.parametrize(
    ("breaking", "phrase"),
    [
        (lambda path: path.write_bytes(b"no zip"), "is not a whole zip file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-2000]), "is not a whole zip file"),
        (
            lambda path: path.write_bytes(path.read_bytes()[:3000] + bytes(500) + path.read_bytes()[3500:]),
            "is not a who",
        ),
        (lambda path: zipfile.ZipFile(path, "w").writestr("other/file", "x"), "contains no tiny-imagenet-200"),
    ],
    ids=["text", "cut off", "damaged", "another"],
)
def test_broken_zip_is_named_and_nothing_of_it_is_left(tmp_path, breaking, phrase):
    archive = zipped(write_tiny_imagenet(tmp_path))
    breaking(archive)
    with pytest.raises(UserError, match=phrase) as caught:
        load(tmp_path)
    assert str(archive) in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", archive.name]


def annotate(folder, change):
    path = folder / "val" / "val_annotations.txt"
    path.write_text(change(path.read_text()))


def rename_class(folder):
    (folder / "train" / WNIDS[0]).rename(folder / "train" / "n00001740")


DISAGREEING = {
    "annotations name a file that is not there": (
        lambda folder: (folder / "val" / "images" / "val_3.JPEG").unlink(),
        "val_annotations.txt annotates val_3.JPEG, which ",
    ),
    "annotations name many of them": (
        lambda folder: shutil.rmtree(folder / "val" / "images"),
        "annotates val_0.JPEG, val_1.JPEG, val_10.JPEG, val_11.JPEG, val_12.JPEG and 13 more, which ",
    ),
    "a file without an annotation": (
        lambda folder: annotate(folder, lambda text: text.split("\n", 1)[1]),
        "val_annotations.txt has no class for val_0.JPEG in ",
    ),
    "an unknown class": (
        lambda folder: annotate(folder, lambda text: text.replace(WNIDS[1], "n00000009", 1)),
        "val_annotations.txt has the classes n00000009, which wnids.txt does not name",
    ),
    "a class without an image": (
        lambda folder: annotate(folder, lambda text: text.replace(WNIDS[1], WNIDS[0])),
        f"val_annotations.txt has no image of the classes {WNIDS[1]}",
    ),
    "a file with two annotations": (
        lambda folder: annotate(folder, lambda text: text + f"val_0.JPEG\t{WNIDS[2]}\t0\t0\t1\t1\n"),
        "val_annotations.txt annotates val_0.JPEG more than once",
    ),
    "a line of something else": (
        lambda folder: annotate(folder, lambda text: "val_0.JPEG n01\n" + text),
        "val_annotations.txt, line 1: must be FILE, a tab and a class, but got 'val_0.JPEG n01'",
    ),
    "bytes that are no text": (
        lambda folder: (folder / "val" / "val_annotations.txt").write_bytes(b"\xff\xfe"),
        "cannot read ",
    ),
    "no annotations": (
        lambda folder: (folder / "val" / "val_annotations.txt").unlink(),
        "there is no ",
    ),
    "no list of classes": (lambda folder: (folder / "wnids.txt").unlink(), "there is no "),
    "an empty list of classes": (lambda folder: (folder / "wnids.txt").write_text(""), "must name at least 2 classes"),
    "a class named twice": (
        lambda folder: (folder / "wnids.txt").write_text(f"{WNIDS[0]}\n{WNIDS[1]}\n{WNIDS[0]}\n"),
        "must name at least 2 classes, each once",
    ),
    "a class without words": (
        lambda folder: (folder / "words.txt").write_text(f"{WNIDS[0]}\tcrane\n{WNIDS[2]}\tcrane\n"),
        f"words.txt has no words for {WNIDS[1]}",
    ),
    "a class without a directory": (
        lambda folder: shutil.rmtree(folder / "train" / WNIDS[0]),
        f"train has no directory for {WNIDS[0]}, which wnids.txt names",
    ),
    "a directory of no class": (
        lambda folder: (folder / "train" / "n00000009").mkdir(),
        "train has n00000009, which wnids.txt does not name",
    ),
    "a class without images": (
        lambda folder: shutil.rmtree(folder / "train" / WNIDS[0] / "images"),
        "images contains no images",
    ),
}


@pytest.mark.parametrize(("change", "phrase"), DISAGREEING.values(), ids=DISAGREEING.keys())
def test_lists_that_disagree_are_told_before_anything_is_loaded(tmp_path, change, phrase):
    folder = write_tiny_imagenet(tmp_path)
    assert data.problems(tiny_imagenet_config(tmp_path)) == []
    change(folder)
    ((key, message),) = data.problems(tiny_imagenet_config(tmp_path))
    assert key == "root"
    assert phrase in message
    assert str(folder) in message
    assert "\n" not in message
    with pytest.raises(UserError) as caught:
        load(tmp_path)
    assert phrase in str(caught.value)


def test_too_few_images_are_refused_where_the_published_ones_are_expected(tmp_path, monkeypatch):
    folder = write_tiny_imagenet(tmp_path)
    for name, count in (("_CLASSES", 3), ("_PER_CLASS", 6), ("_TEST_PER_CLASS", 6)):
        monkeypatch.setattr(tiny_imagenet, name, count)
    config = DatasetConfig("tiny-imagenet", root=str(tmp_path))
    assert data.problems(config) == []
    next((folder / "train" / WNIDS[0] / "images").iterdir()).unlink()
    ((_, message),) = data.problems(config)
    assert "contains 5 images instead of 6" in message
    assert data.problems(tiny_imagenet_config(tmp_path)) == []


def test_broken_images_are_all_counted_and_passed_over_only_when_asked(tmp_path, caplog):
    folder = write_tiny_imagenet(tmp_path)
    before = load(tmp_path)[0].fingerprint
    broken = [folder / "train" / wnid / "images" / f"{wnid}_2.JPEG" for wnid in sorted(WNIDS)]
    for path in broken:
        path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UserError, match="3 of 18 training images cannot be read: ") as caught:
        load(tmp_path)
    assert all(str(path) in str(caught.value) for path in broken)
    assert "dataset.skip_broken: true" in str(caught.value)
    splits, test = load(tmp_path, skip_broken=True)
    assert len(splits.train) + len(splits.validation) == 15
    assert len(test) == 18
    assert splits.fingerprint != before
    (record,) = caplog.records
    assert record.getMessage() == (
        f"skipping 3 of 18 training images, which cannot be read: {', '.join(map(str, broken))}"
    )
