"""The user's own images: every kind of picture becomes the same bytes, and what is amiss is named."""

import numpy as np
import pytest
from PIL import Image
from support.layouts import BROKEN_IMAGE, FOLDER_CLASSES, folder_config, write_folder

from ctkd_search import data
from ctkd_search.config import DatasetConfig
from ctkd_search.errors import UserError

SIZE = 12
# A grey picture whose every row and column differs, so that a turned or mirrored one is told apart.
RAMP = (np.add.outer(np.arange(SIZE) * 13, np.arange(SIZE) * 7) + 20).astype(np.uint8)
COLOUR = np.stack([RAMP, RAMP.T, 255 - RAMP], axis=2)

KINDS = {
    "rgb.png": (Image.fromarray(COLOUR), 0),
    "rgb.bmp": (Image.fromarray(COLOUR), 0),
    "rgb.ppm": (Image.fromarray(COLOUR), 0),
    "rgb.jpg": (Image.fromarray(COLOUR), 40),
    "grey.png": (Image.fromarray(RAMP), 0),
    "grey.jpg": (Image.fromarray(RAMP), 4),
    "grey with alpha.png": (Image.fromarray(RAMP).convert("LA"), 0),
    "palette.png": (Image.fromarray(RAMP).convert("P"), 0),
    "palette.gif": (Image.fromarray(RAMP).convert("P"), 0),
    "rgb with alpha.png": (Image.fromarray(COLOUR).convert("RGBA"), 0),
    "bits.png": (Image.fromarray(RAMP).convert("1"), 300),
    "sixteen bits.pgm": (Image.fromarray(RAMP.astype(np.int32) * 257), 1),
    "cmyk.tif": (Image.fromarray(RAMP).convert("CMYK"), 4),
    "cmyk.jpg": (Image.fromarray(RAMP).convert("CMYK"), 4),
    "sixteen bits.png": (Image.fromarray(RAMP.astype(np.uint16) * 257), 1),
    "sixteen bits.tif": (Image.fromarray(RAMP.astype(np.uint16) * 257), 1),
}


def decoded(root, save, **options):
    """What becomes of one picture: it stands in for the first image of the first class."""
    write_folder(root, images=2, size=SIZE)
    (root / "test" / FOLDER_CLASSES[0] / "0.png").unlink()
    save(root / "test" / FOLDER_CLASSES[0])
    return data.load_test(folder_config(root, **options)).pixels[0]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_picture_shows_the_same(tmp_path, name, channels):
    picture, tolerance = KINDS[name]
    found = decoded(tmp_path, lambda directory: picture.save(directory / f"0 {name}"), channels=channels)
    colour = COLOUR if name.startswith("rgb") else np.stack([RAMP] * 3, axis=2)
    # ITU-R 601, by which a colour picture becomes grey.
    grey = (colour @ [0.299, 0.587, 0.114])[..., None]
    assert found.shape == (SIZE, SIZE, channels)
    np.testing.assert_allclose(found.astype(float), colour if channels == 3 else grey, atol=tolerance + 1)


def test_camera_s_orientation_is_undone(tmp_path):
    def save(directory):
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned clockwise by a quarter
        Image.fromarray(np.rot90(COLOUR)).save(directory / "0.png", exif=exif)

    assert np.array_equal(decoded(tmp_path, save), COLOUR)


@pytest.mark.parametrize("across", [True, False])
def test_picture_that_is_not_square_is_cut_in_the_middle_not_squeezed(tmp_path, across):
    border = np.full((SIZE, SIZE // 2, 3), 255, np.uint8)
    wide = np.concatenate([border, COLOUR, border], axis=1)
    shown = wide if across else wide.transpose(1, 0, 2)
    found = decoded(tmp_path, lambda directory: Image.fromarray(shown).save(directory / "0.png"))
    assert np.array_equal(found, COLOUR if across else COLOUR.transpose(1, 0, 2))


@pytest.mark.parametrize("factor", [2, 5])
def test_picture_of_another_size_is_resized(tmp_path, factor):
    large = COLOUR.repeat(factor, axis=0).repeat(factor, axis=1)
    found = decoded(tmp_path, lambda directory: Image.fromarray(large).save(directory / "0.png"))
    np.testing.assert_allclose(found.astype(float), COLOUR, atol=12)


def _palette_with_transparency(how):
    """A picture of a palette whose upper half is transparent; the colours behind it are not white."""
    palette = Image.new("P", (SIZE, SIZE), 1)
    palette.putpalette([200, 0, 0, 0, 0, 90])
    palette.paste(0, (0, 0, SIZE, SIZE // 2))
    return palette, {"transparency": how}


TRANSPARENT = {
    "one colour of a palette.png": _palette_with_transparency(0),
    "one colour of a palette.gif": _palette_with_transparency(0),
    "a palette of shades.png": _palette_with_transparency(bytes([0, 255])),
    "alpha.png": (_palette_with_transparency(0)[0].convert("RGB"), None),
    "one colour of all.png": (_palette_with_transparency(0)[0].convert("RGB"), {"transparency": (200, 0, 0)}),
}


@pytest.mark.parametrize("name", TRANSPARENT)
@pytest.mark.filterwarnings("error")
def test_transparent_is_seen_on_white(tmp_path, name):
    picture, options = TRANSPARENT[name]
    if options is None:
        alpha = Image.new("L", (SIZE, SIZE), 255)
        alpha.paste(0, (0, 0, SIZE, SIZE // 2))
        picture = picture.copy()
        picture.putalpha(alpha)
    for channels, blue in ((3, [0, 0, 90]), (1, [10])):
        path = tmp_path / str(channels)
        found = decoded(
            path, lambda directory: picture.save(directory / f"0 {name}", **(options or {})), channels=channels
        )
        assert (found[: SIZE // 2] == 255).all()
        assert (found[SIZE // 2 :] == blue).all()


def test_half_transparent_is_mixed_with_white(tmp_path):
    picture = Image.new("RGBA", (SIZE, SIZE), (0, 100, 200, 51))
    found = decoded(tmp_path, lambda directory: picture.save(directory / "0.png"))
    np.testing.assert_allclose(found[0, 0], [204, 224, 244], atol=1)


@pytest.mark.parametrize(
    ("pixels", "phrase"),
    [(RAMP.astype(np.int32), "whole numbers of 32 bits"), (RAMP.astype(np.float32), "real numbers of 32 bits")],
)
def test_numbers_of_which_nobody_knows_what_white_is_are_refused(tmp_path, pixels, phrase):
    with pytest.raises(UserError, match=phrase):
        decoded(tmp_path, lambda directory: Image.fromarray(pixels).save(directory / "0.tif"))


def test_classes_and_files_are_in_alphabetical_order(tmp_path):
    for split in ("train", "test"):
        for label, name in enumerate(("ant", "bee", "Zebra")):
            (tmp_path / split / name).mkdir(parents=True)
            for number in (10, 2, 1):
                Image.new("L", (8, 8), 100 * label + number).save(tmp_path / split / name / f"{number}.png")
    test = data.load_test(folder_config(tmp_path, image_size=8, channels=1))
    assert data.load_train(folder_config(tmp_path, image_size=8, channels=1)).classes == ("Zebra", "ant", "bee")
    assert test.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert test.pixels[:, 0, 0, 0].tolist() == [201, 210, 202, 1, 10, 2, 101, 110, 102]


def test_hidden_files_and_directories_are_passed_over(tmp_path):
    write_folder(tmp_path)
    before = data.load_train(folder_config(tmp_path))
    (tmp_path / "train" / FOLDER_CLASSES[0] / ".DS_Store").write_bytes(b"\0")
    (tmp_path / "train" / ".ipynb_checkpoints").mkdir()
    after = data.load_train(folder_config(tmp_path))
    assert after.fingerprint == before.fingerprint
    assert after.classes == FOLDER_CLASSES


def test_pixel_changed_on_disk_changes_the_fingerprint(tmp_path):
    write_folder(tmp_path)
    before = data.describe("folder").load_train(folder_config(tmp_path)).train.held()
    path = tmp_path / "train" / FOLDER_CLASSES[1] / "0.png"
    pixels = np.asarray(Image.open(path)).copy()
    pixels[0, 0] ^= 1
    Image.fromarray(pixels).save(path)
    after = data.describe("folder").load_train(folder_config(tmp_path)).train.held()
    assert after.fingerprint() != before.fingerprint()


def test_own_validation_split_is_used_as_it_is(tmp_path):
    write_folder(tmp_path, splits=("train", "val", "test"))
    splits = data.load_train(folder_config(tmp_path))
    assert len(splits.train) == len(splits.validation) == 18
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    (tmp_path / "val").rename(renamed / "test")
    (tmp_path / "train").rename(renamed / "train")
    assert data.load_test(folder_config(renamed)).fingerprint() == splits.validation.fingerprint()


def test_validation_share_beside_an_own_validation_split_is_refused(tmp_path):
    write_folder(tmp_path, splits=("train", "val", "test"))
    config = folder_config(tmp_path, validation=0.2)
    assert [key for key, _ in data.problems(config)] == ["validation"]
    with pytest.raises(UserError, match=r"dataset\.validation has no effect"):
        data.load_train(config)


def _remove(directory):
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()


@pytest.mark.parametrize("split", ["val", "test"])
@pytest.mark.parametrize(
    ("change", "phrase"),
    [
        (lambda split: _remove(split / "bee"), "has no class 'bee'"),
        (lambda split: (split / "wasp").mkdir(), "has not: wasp"),
        (lambda split: [path.unlink() for path in (split / "bee").iterdir()], "bee contains no images"),
        (lambda split: (split / "bee" / "3.png").write_bytes(BROKEN_IMAGE), "3.png"),
    ],
    ids=["missing class", "unknown class", "empty class", "broken image"],
)
def test_amiss_in_a_split_is_named_with_its_directory(tmp_path, split, change, phrase):
    write_folder(tmp_path, splits=("train", "val", "test"))
    change(tmp_path / split)
    with pytest.raises(UserError, match=phrase) as caught:
        (data.load_test if split == "test" else data.load_train)(folder_config(tmp_path))
    assert str(tmp_path / split) in str(caught.value)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_classes_that_differ_are_told_before_anything_is_loaded(tmp_path, split):
    write_folder(tmp_path, splits=("train", "val", "test"))
    assert data.problems(folder_config(tmp_path)) == []
    _remove(tmp_path / split / "bee")
    others = ["val", "test"] if split == "train" else [split]
    told = data.problems(folder_config(tmp_path))
    assert [key for key, _ in told] == ["root"] * len(others)
    for other, (_, message) in zip(others, told, strict=True):
        assert str(tmp_path / other) in message
        assert "bee" in message


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "tif"])
def test_picture_cut_off_in_the_middle_is_named(tmp_path, suffix):
    def save(directory):
        path = directory / f"0.{suffix}"
        Image.fromarray(COLOUR).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    with pytest.raises(UserError, match=rf"0\.{suffix}"):
        decoded(tmp_path, save)


@pytest.mark.parametrize("size", [0, 7])
def test_image_size_out_of_range_is_a_problem_of_that_key(tmp_path, size):
    write_folder(tmp_path)
    config = folder_config(tmp_path, image_size=size)
    assert [key for key, _ in data.problems(config)] == ["image_size"]
    with pytest.raises(UserError, match=r"dataset\.image_size"):
        data.load_train(config)


@pytest.mark.parametrize("size", [8, 224])
def test_image_size_at_the_ends_of_the_range_is_taken(tmp_path, size):
    write_folder(tmp_path)
    assert data.load_train(folder_config(tmp_path, image_size=size)).train.pixels.shape[1:] == (size, size, 3)


def test_problems_with_the_root_are_told_before_anything_is_loaded(tmp_path):
    def problem(root):
        ((key, message),) = data.problems(DatasetConfig("folder", root=root, image_size=8))
        assert key == "root"
        return message

    assert "is missing" in problem(None)
    assert str(tmp_path / "train") in problem(str(tmp_path))
    (tmp_path / "train" / "ant").mkdir(parents=True)
    assert f"{tmp_path / 'train' / 'ant'} contains no images" in problem(str(tmp_path))
    Image.new("L", (8, 8)).save(tmp_path / "train" / "ant" / "0.png")
    assert "at least 2 classes, but got 1" in problem(str(tmp_path))


def _break(root, split, names):
    for name in names:
        (root / split / name).write_bytes(BROKEN_IMAGE)
    return [str(root / split / name) for name in names]


def test_all_broken_images_of_a_split_are_counted_and_the_first_named(tmp_path):
    write_folder(tmp_path, images=8)
    broken = _break(tmp_path, "train", [f"bee/{number}.png" for number in range(7)])
    with pytest.raises(UserError, match="7 of 24 training images cannot be read: ") as caught:
        data.load_train(folder_config(tmp_path))
    assert [path in str(caught.value) for path in broken] == [True] * 5 + [False] * 2
    assert "and 2 more; repair or remove them, or skip them with dataset.skip_broken: true" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_broken_images_are_passed_over_when_asked_and_all_named(tmp_path, caplog):
    write_folder(tmp_path, splits=("train", "val", "test"))
    config, skipping = folder_config(tmp_path), folder_config(tmp_path, skip_broken=True)
    whole = data.load_train(config)
    assert data.load_train(skipping).fingerprint == whole.fingerprint
    assert caplog.records == []
    broken = {split: _break(tmp_path, split, ["ant/1.png", "bee/0.png"]) for split in ("train", "val", "test")}
    splits, test = data.load_train(skipping), data.load_test(skipping)
    assert [len(images) for images in (splits.train, splits.validation, test)] == [16] * 3
    assert splits.fingerprint != whole.fingerprint
    kept = [position for position in range(18) if position not in (1, 6)]
    assert np.array_equal(splits.train.pixels, whole.train.pixels[kept])
    assert np.array_equal(splits.train.labels, whole.train.labels[kept])
    told = [record.getMessage() for record in caplog.records]
    for split, kind in (("train", "training"), ("val", "validation"), ("test", "test")):
        assert f"skipping 2 of 18 {kind} images, which cannot be read: {', '.join(broken[split])}" in told
    with pytest.raises(UserError):
        data.load_train(config)


def test_class_of_which_no_image_can_be_read_is_named_although_broken_ones_are_passed_over(tmp_path):
    write_folder(tmp_path)
    _break(tmp_path, "train", [f"bee/{number}.png" for number in range(6)])
    with pytest.raises(UserError, match="none of the training images of bee can be read"):
        data.load_train(folder_config(tmp_path, skip_broken=True))


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
