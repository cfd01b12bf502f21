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


def test_transparent_among_16_bits_is_seen_on_white_and_the_shades_beside_it_as_they_are(tmp_path):
    shades = np.full((SIZE, SIZE), 257 * 40, dtype=np.uint16)
    shades[0], shades[1] = 257 * 30, 257 * 30 + 1
    found = decoded(
        tmp_path, lambda directory: Image.fromarray(shades).save(directory / "0.png", transparency=257 * 30), channels=1
    )
    assert (found[0] == 255).all()
    assert (found[1] == 30).all()
    assert (found[2:] == 40).all()


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
