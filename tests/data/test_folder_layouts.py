"""Folders as people have them: nested, with other files between, with splits and classes of other names."""

import os

import numpy as np
import pytest
from PIL import Image
from support.layouts import FOLDER_CLASSES, folder_config, write_folder

from ctkd_search import data
from ctkd_search.errors import UserError


def test_class_of_one_image_is_told_before_anything_is_loaded_unless_there_is_a_validation_split(tmp_path):
    write_folder(tmp_path, splits=("train", "val", "test"))
    for number in range(1, 6):
        (tmp_path / "train" / "cow" / f"{number}.png").unlink()
    assert data.problems(folder_config(tmp_path)) == []
    assert (data.load_train(folder_config(tmp_path)).train.labels == 2).sum() == 1
    (tmp_path / "val").rename(tmp_path / "elsewhere")
    ((key, message),) = data.problems(folder_config(tmp_path))
    assert key == "root"
    assert "train has too few images of 'cow' (1); a validation split needs at least 2 of each class" in message


def _nested(root):
    """Moves some of the images of each class deeper."""
    for number, path in enumerate(sorted(root.glob("*/*/*.png"))):
        deeper = path.parent / ("sub" if number % 2 else "sub/deeper")
        deeper.mkdir(parents=True, exist_ok=True)
        path.rename(deeper / path.name)


def test_images_of_a_class_are_found_however_deep(tmp_path):
    write_folder(tmp_path)
    flat = data.load_train(folder_config(tmp_path))
    _nested(tmp_path)
    deep = data.load_train(folder_config(tmp_path))
    assert (len(deep.train), len(deep.validation)) == (len(flat.train), len(flat.validation))
    both = [
        sorted(map(bytes, np.concatenate([splits.train.pixels, splits.validation.pixels]))) for splits in (flat, deep)
    ]
    assert both[0] == both[1]
    assert data.sizes(folder_config(tmp_path)) == (16, 2)
    assert data.recognised(folder_config(tmp_path))[0] == (
        f"{tmp_path / 'train'}: 18 training images in 3 classes (18 PNG); 18 of them in folders inside the classes"
    )


def test_what_systems_leave_between_the_images_changes_nothing_and_is_told(tmp_path):
    write_folder(tmp_path)
    before = data.load_train(folder_config(tmp_path))
    assert data.notes(folder_config(tmp_path)) == []
    train = tmp_path / "train"
    (train / "ant" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100))
    (train / "ant" / "README.txt").write_text("read me")
    (train / "ant_boxes.txt").write_text("0 0 1 1")
    for folder in ("__MACOSX", "@eaDir"):
        (train / folder).mkdir()
        Image.new("L", (8, 8)).save(train / folder / "x.png")
    Image.new("L", (8, 8)).save(train / "lost.png")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "raw").mkdir()
    after = data.load_train(folder_config(tmp_path))
    assert (after.fingerprint, after.classes) == (before.fingerprint, FOLDER_CLASSES)
    assert data.notes(folder_config(tmp_path)) == [
        f"skipped in {train}: 1 OLE file of Windows (ant/Thumbs.db), 2 text files (ant/README.txt, "
        "ant_boxes.txt), 2 folders (@eaDir, __MACOSX)",
        f"warning: 1 image lies in {train} itself, in no class: lost.png",
        f"not read, beside train, test: {tmp_path / 'raw'}",
    ]


@pytest.mark.parametrize("name", ["valid", "Val", "validation", "Validation "])
def test_a_validation_split_by_another_name_is_refused(tmp_path, name):
    write_folder(tmp_path, splits=("train", "val", "test"))
    (tmp_path / "val").rename(tmp_path / name)
    assert data.problems(folder_config(tmp_path)) == [
        ("root", f"{tmp_path / name} is not read; did you mean val? rename it")
    ]


@pytest.mark.parametrize("name", ["Test", "testing", "test-set"])
def test_a_test_split_by_another_name_is_refused(tmp_path, name):
    write_folder(tmp_path)
    (tmp_path / "test").rename(tmp_path / name)
    ((key, message),) = data.problems(folder_config(tmp_path))
    assert (key, message) == ("root", f"{tmp_path / name} is not read; did you mean test? rename it")


def test_a_directory_beside_the_splits_is_named_where_none_is_missing(tmp_path):
    write_folder(tmp_path, splits=("train", "val", "test"))
    (tmp_path / "validation").mkdir()
    assert data.problems(folder_config(tmp_path)) == []
    assert data.notes(folder_config(tmp_path)) == [f"not read, beside train, val, test: {tmp_path / 'validation'}"]


def test_missing_training_images_are_looked_for_where_they_may_be(tmp_path):
    def message(root):
        return dict(data.problems(folder_config(root)))["root"]

    write_folder(tmp_path / "outer" / "inner")
    assert f"did you mean root: {tmp_path / 'outer' / 'inner'}?" in message(tmp_path / "outer")
    for split in ("train", "test"):
        told = message(tmp_path / "outer" / "inner" / split)
        assert told.endswith(f"is not a directory; did you mean root: {tmp_path / 'outer' / 'inner'}?")
    (tmp_path / "outer" / "inner" / "train").rename(tmp_path / "outer" / "inner" / "Training")
    assert f"did you mean {tmp_path / 'outer' / 'inner' / 'Training'}? rename it to train" in message(
        tmp_path / "outer" / "inner"
    )
    assert "if ant, bee, cow in" in message(tmp_path / "outer" / "inner" / "test")
    assert f"{tmp_path / 'none'} is not a directory" in message(tmp_path / "none")


COMPOSED, SEPARATE = "caf\u00e9", "cafe\u0301"


def test_class_names_are_compared_whatever_way_accents_are_encoded(tmp_path):
    write_folder(tmp_path, splits=("train", "val", "test"))
    for split, name in (("train", COMPOSED), ("val", SEPARATE), ("test", SEPARATE)):
        (tmp_path / split / "bee").rename(tmp_path / split / name)
    assert data.problems(folder_config(tmp_path)) == []
    splits = data.load_train(folder_config(tmp_path))
    assert splits.classes == ("ant", COMPOSED, "cow")
    assert len(splits.validation) == len(data.load_test(folder_config(tmp_path))) == 18
    (tmp_path / "train" / COMPOSED).rename(tmp_path / "train" / SEPARATE)
    assert data.load_train(folder_config(tmp_path)).classes == ("ant", COMPOSED, "cow")


def test_two_directories_of_one_class_are_an_error_that_says_so(tmp_path):
    write_folder(tmp_path)
    for split in ("train", "test"):
        (tmp_path / split / "bee").rename(tmp_path / split / COMPOSED)
    (tmp_path / "test" / "cow").rename(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").rename(tmp_path / "test" / SEPARATE)
    told = [message for _, message in data.problems(folder_config(tmp_path))]
    assert len(told) == 2
    assert f"{tmp_path / 'test'} has 2 directories {COMPOSED!r}, whose names are encoded differently" in told[0]
    assert "has no class 'cow'" in told[1]


def test_a_class_whose_name_is_no_text_is_refused_in_words_that_can_be_printed(tmp_path):
    write_folder(tmp_path)
    os.rename(tmp_path / "train" / "bee", os.fsencode(tmp_path / "train") + b"/caf\xe9")
    told = [message for _, message in data.problems(folder_config(tmp_path))]
    assert told[0] == (
        f"{tmp_path / 'train'} has a class b'caf\\xe9', whose name is not encoded in UTF-8; rename it in every split"
    )
    assert "".join(told).isascii()
    with pytest.raises(UserError, match="not encoded in UTF-8"):
        data.load_train(folder_config(tmp_path))


def test_a_class_in_other_case_is_asked_about(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "test" / "cow").rename(tmp_path / "test" / "Cow")
    ((_, message),) = data.problems(folder_config(tmp_path))
    assert f"{tmp_path / 'test'} has a class 'Cow', which {tmp_path / 'train'} has not; did you mean 'cow'?" in message
    for split in ("train", "test"):
        (tmp_path / split / "bee").rename(tmp_path / split / "COW")
        if split == "test":
            (tmp_path / split / "Cow").rename(tmp_path / split / "cow")
    assert data.problems(folder_config(tmp_path)) == []
    assert "warning: the classes 'COW', 'cow' differ in case or spaces alone" in data.notes(folder_config(tmp_path))


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(60)


def test_images_that_pillow_does_not_read_are_refused_by_their_format(tmp_path, monkeypatch):
    monkeypatch.setattr("ctkd_search.data.kinds.reads_heic", lambda: False)
    write_folder(tmp_path)
    before = data.load_train(folder_config(tmp_path))
    for number in range(4):
        (tmp_path / "train" / "ant" / f"IMG_{number}.HEIC").write_bytes(HEIC)
    ((key, message),) = data.problems(folder_config(tmp_path))
    assert key == "root"
    assert message == (
        f"{tmp_path / 'train'} has 4 HEIC images, which Pillow cannot read here (ant/IMG_0.HEIC, ant/IMG_1.HEIC, "
        "ant/IMG_2.HEIC and 1 more): convert them, or pip install pillow-heif; or skip them with "
        "dataset.skip_broken: true"
    )
    skipping = folder_config(tmp_path, skip_broken=True)
    assert data.load_train(skipping).fingerprint == before.fingerprint
    assert data.notes(skipping)[0].startswith(f"warning: skipped: {tmp_path / 'train'} has 4 HEIC images")


def test_a_class_without_images_says_what_it_holds_instead(tmp_path):
    write_folder(tmp_path)
    for path in (tmp_path / "train" / "bee").iterdir():
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    ((_, message),) = data.problems(folder_config(tmp_path))
    assert message == (
        f"{tmp_path / 'train' / 'bee'} contains no images (6 Git LFS pointers (git lfs pull brings the images))"
    )


def test_a_folder_without_test_images_is_searched_and_cannot_be_tested(tmp_path):
    write_folder(tmp_path)
    whole = data.load_train(folder_config(tmp_path))
    (tmp_path / "test").rename(tmp_path.parent / f"{tmp_path.name} test")
    config = folder_config(tmp_path)
    assert data.problems(config) == []
    assert data.load_train(config).fingerprint == whole.fingerprint
    assert data.notes(config)[-1].startswith("no test images: a search needs none, but its final training does")
    with pytest.raises(UserError, match="there are no test images for the final training"):
        data.load_test(config)
