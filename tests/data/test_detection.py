"""What a folder's images have in common is found out, and where they differ it is asked for."""

import io
import sys
import types

import numpy as np
import pytest
from PIL import Image
from support.layouts import BROKEN_IMAGE, FOLDER_CLASSES, write_folder

from ctkd_search import data
from ctkd_search.config import DatasetConfig
from ctkd_search.data import kinds, pillow
from ctkd_search.errors import UserError


def config(root, **options):
    return DatasetConfig("folder", root=str(root), **options)


def repaint(root, change, which="train/*/*"):
    """Every image of a folder anew."""
    for number, path in enumerate(sorted(root.glob(which))):
        change(number, Image.open(path)).save(path)


def problem(root, **options):
    ((key, message),) = data.problems(config(root, **options))
    assert key == "image_size"
    assert "\n" not in message
    with pytest.raises(UserError, match="image_size"):
        data.load_train(config(root, **options))
    return message


@pytest.mark.parametrize("size", [8, 28, 64])
@pytest.mark.parametrize("mode", ["L", "RGB", "1", "I;16", "LA", "RGBA", "P"])
def test_one_size_and_one_colour_are_found(tmp_path, size, mode):
    write_folder(tmp_path, size=size)

    def painted(number, image):
        if mode == "I;16":
            return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        return image.convert(mode)

    repaint(tmp_path, painted)
    channels = 1 if mode in ("L", "1", "I;16", "LA") else 3
    resolved = data.resolved(config(tmp_path))
    assert (resolved.image_size, resolved.channels) == (size, channels)
    assert data.geometry(config(tmp_path)) == (3, channels, size)
    splits = data.load_train(config(tmp_path))
    assert splits.geometry == (3, channels, size)
    # What is found is the same as what is said.
    assert splits.fingerprint == data.load_train(resolved).fingerprint
    assert data.load_test(config(tmp_path)).fingerprint() == data.load_test(resolved).fingerprint()


def test_one_coloured_image_makes_the_data_set_coloured_wherever_it_is(tmp_path):
    write_folder(tmp_path, images=300, size=8)
    repaint(tmp_path, lambda number, image: image if number == 899 else image.convert("L"))
    assert data.geometry(config(tmp_path)).channels == 3
    assert data.geometry(config(tmp_path, channels=1)).channels == 1
    assert data.geometry(config(tmp_path, image_size=16)) == (3, 3, 16)


def test_what_is_said_is_not_looked_for(tmp_path):
    write_folder(tmp_path, size=12)
    repaint(tmp_path, lambda number, image: image.resize((200 + number, 100)))
    assert data.geometry(config(tmp_path, image_size=32)) == (3, 3, 32)
    assert data.problems(config(tmp_path, image_size=32)) == []
    for path in tmp_path.glob("*/*/*"):
        path.write_bytes(BROKEN_IMAGE)
    assert data.problems(config(tmp_path, image_size=32, channels=3)) == []


@pytest.mark.parametrize(
    ("sizes", "phrase"),
    [
        ([(300, 200), (150, 350), (20, 500)], "have 3 sizes, from 20x500 to 300x200 pixels; set"),
        ([(32, 32)] * 17 + [(32, 31)], "have 2 sizes, from 32x31 to 32x32 pixels; set"),
        ([(48, 32)], "are of 48x32 pixels, not square; set"),
        ([(224, 224)], "are of 224x224 pixels; set"),
        ([(7, 7)], "are of 7x7 pixels; set"),
    ],
)
def test_images_that_cannot_be_taken_as_they_are_need_a_size_and_one_is_suggested(tmp_path, sizes, phrase):
    write_folder(tmp_path)
    repaint(tmp_path, lambda number, image: image.resize(sizes[number % len(sizes)]))
    message = problem(tmp_path)
    assert f"is missing: the training images {phrase}" in message
    smallest = min(min(size) for size in sizes)
    suggested = {300: 64, 150: 64, 31: 24, 32: 32, 20: 16, 224: 64, 7: 8}[smallest]
    assert message.endswith(f"as in image_size: {suggested}")
    assert data.problems(config(tmp_path, image_size=suggested)) == []
    assert data.load_train(config(tmp_path, image_size=suggested)).geometry == (3, 3, suggested)


@pytest.fixture
def heif(monkeypatch):
    """A stand-in for pillow-heif, of which nothing is registered yet: its HEIC is a PNG behind a box."""

    def register():
        Image.register_open("HEIF", lambda file, _: Image.open(io.BytesIO(file.read()[16:])), _is_heic)

    def _is_heic(beginning):
        return beginning[4:12] == b"ftypheic"

    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setitem(sys.modules, "pillow_heif", types.SimpleNamespace(register_heif_opener=register))
    for module in (pillow, kinds):
        monkeypatch.setattr(module, "reads_heic", lambda: True)
    pillow._pillow.cache_clear()
    yield
    pillow._pillow.cache_clear()


@pytest.mark.usefixtures("heif")
def test_images_of_telephones_are_looked_at_where_pillow_heif_is_installed(tmp_path):
    write_folder(tmp_path, size=16)
    for path in tmp_path.glob("*/*/*"):
        path.with_suffix(".heic").write_bytes(b"\0\0\0\x10ftypheic\0\0\0\0" + path.read_bytes())
        path.unlink()
    assert data.problems(config(tmp_path)) == []
    assert data.geometry(config(tmp_path)) == (3, 3, 16)


def test_images_of_which_none_can_be_read_are_told(tmp_path):
    write_folder(tmp_path)
    for path in tmp_path.glob("train/*/*"):
        path.write_bytes(BROKEN_IMAGE)
    message = problem(tmp_path)
    assert "none of the training images can be read" in message
    assert str(tmp_path / "train" / FOLDER_CLASSES[0] / "0.png") in message


def test_broken_images_are_left_to_be_told_when_they_are_decoded(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "train" / "ant" / "0.png").write_bytes(BROKEN_IMAGE)
    assert data.problems(config(tmp_path)) == []
    assert data.geometry(config(tmp_path)) == (3, 3, 12)


def test_other_images_in_the_same_place_are_looked_at_again(tmp_path):
    write_folder(tmp_path, size=12)
    assert data.geometry(config(tmp_path)).image_size == 12
    repaint(tmp_path, lambda number, image: image.resize((20, 20)).convert("L"))
    assert data.geometry(config(tmp_path)) == (3, 1, 20)
