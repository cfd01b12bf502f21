"""A look into image files before anything is trained: what is broken, and what is decoded otherwise than it seems."""

import dataclasses
import io
import struct

import numpy as np
import pytest
from PIL import Image
from support.layouts import FOLDER_CLASSES, folder_config, random_pixels, write_folder

from ctkd_search import data
from ctkd_search.config import DatasetConfig
from ctkd_search.data.decode import BrokenImage, decode_image, open_upright
from ctkd_search.data.look import look, peculiarities
from ctkd_search.errors import UserError

GREY = random_pixels(1, 12)[0, :, :, 0]


def write_all(root, save, count=6):
    root.mkdir(exist_ok=True)
    for number in range(count):
        save(root / f"{number}", number)
    return sorted(map(str, root.iterdir()))


def told(paths, kind):
    return list(peculiarities(paths, [kind] * len(paths)))


@pytest.mark.parametrize(
    ("bits", "shades", "factor"), [(8, 1, 256), (10, 4, 64), (12, 16, 16), (14, 64, 4)], ids=lambda value: str(value)
)
@pytest.mark.parametrize("form", ["png", "tif", "pgm"])
def test_images_of_16_bits_that_use_fewer_are_told_with_the_range(tmp_path, bits, shades, factor, form):
    highest = 2**bits - 1
    pixels = (GREY.astype(np.uint16) * highest // 255).astype(np.uint16)
    pixels[3, 3] = highest

    def save(path, number):
        # One image alone reaches the highest value.
        shown = pixels if number == 4 else pixels // 2
        Image.fromarray(shown.astype(np.int32) if form == "pgm" else shown).save(f"{path}.{form}")

    (said,) = told(write_all(tmp_path, save), {"png": "PNG", "tif": "TIFF", "pgm": "Netpbm"}[form])
    assert f"images of 16 bits use 0 to {highest} of 65535 (6 looked at, " in said
    assert f"they become nearly black, with {shades} shades; multiply their values by {factor}, or save" in said


def test_images_that_use_all_of_16_bits_or_have_8_are_not_spoken_of(tmp_path):
    for name, pixels in (("deep", GREY.astype(np.uint16) * 257), ("flat", GREY // 16)):
        paths = write_all(
            tmp_path / name, lambda path, number, pixels=pixels: Image.fromarray(pixels).save(f"{path}.png")
        )
        assert told(paths, "PNG") == []


def test_colour_images_of_16_bits_are_told_by_what_pillow_leaves_of_them(tmp_path):
    import struct
    import zlib

    def save(path, number):
        rows = b"".join(b"\0" + struct.pack(">36H", *[4095 * (x % 2) for x in range(36)]) for _ in range(12))

        def chunk(kind, body):
            return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 12, 12, 16, 2, 0, 0, 0))
        content = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
        (path.parent / f"{number}.png").write_bytes(content)

    (said,) = told(write_all(tmp_path, save), "PNG")
    assert "images of 16 bits use 0 to 4095 of 65535" in said


@pytest.mark.parametrize(("form", "kind"), [("gif", "GIF"), ("tif", "TIFF"), ("webp", "WebP"), ("png", "PNG")])
def test_of_several_frames_the_first_is_taken_and_that_is_told(tmp_path, form, kind):
    frames = [Image.fromarray(pixels) for pixels in random_pixels(3, 12)]

    def save(path, number):
        several = {"save_all": True, "append_images": frames[1:]} if number == 2 else {}
        frames[0].save(f"{path}.{form}", **several)

    paths = write_all(tmp_path, save)
    assert told(paths, kind) == [
        f"1 of 6 images looked at has several frames or pages, of which the first is taken: {paths[2]}"
    ]


def test_broken_images_are_found_and_named_without_a_decoded_one_kept(tmp_path):
    write_folder(tmp_path, images=30)
    (files,) = data.find(folder_config(tmp_path)).files(folder_config(tmp_path))
    assert look(files, 60.0).broken == []
    broken = [tmp_path / "train" / name / "7.png" for name in FOLDER_CLASSES]
    for path in broken:
        path.write_bytes(path.read_bytes()[:100])
    found = look(files, 60.0)
    assert (found.what, found.total, found.opened) == ("training images", 90, 90)
    assert [error.path for error in found.broken] == sorted(map(str, broken))
    assert look(files, 0.0).opened == 0


def test_an_image_of_too_many_pixels_is_a_broken_one_with_that_reason(tmp_path, monkeypatch):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(BrokenImage, match="it has more than 100 pixels; shrink it"):
        open_upright(tmp_path / "a.png", 3)


def _saved(form, **options):
    into = io.BytesIO()
    Image.fromarray(random_pixels(1, 12)[0]).save(into, form, **options)
    return into.getvalue()


# A texture of 64x64 pixels in a format that Pillow does not have.
UNUSUAL_DDS = b"".join(
    (
        b"DDS " + struct.pack("<7I44x", 124, 0x1007, 64, 64, 0, 0, 0),
        struct.pack("<2I4s5I", 32, 4, b"DX10", *[0] * 5) + struct.pack("<5I", 0x1000, 0, 0, 0, 0),
        struct.pack("<5I", 1, 3, 0, 1, 0) + bytes(64),
    )
)
DAMAGED = {
    "a.png": (lambda: _saved("PNG", exif=b"Exif\0\0II*\0"), "error: unpack requires a buffer"),
    "a.webp": (lambda: _saved("WEBP", exif=b"Exif\0\0II*\0"), "error: unpack requires a buffer"),
    "a.dds": (lambda: UNUSUAL_DDS, "NotImplementedError: Unimplemented DXGI format 1"),
    # A box of 2**61 bytes.
    "a.jp2": (
        lambda: b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x01jp2h" + (2**61).to_bytes(8, "big"),
        "it needs more memory than there is, or is damaged",
    ),
    "a.avif": (lambda: _saved("AVIF").replace(b"av01", b"av00"), "RuntimeError: Failed to decode"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_whatever_pillow_raises_of_a_file_it_is_a_broken_one_that_is_skipped(tmp_path, name):
    make, reason = DAMAGED[name]
    write_folder(tmp_path, images=4, size=12)
    path = tmp_path / "train" / FOLDER_CLASSES[0] / name
    path.write_bytes(make())
    config = DatasetConfig("folder", root=str(tmp_path))
    assert data.problems(config) == []
    with pytest.raises(BrokenImage, match=reason):
        open_upright(path, 3)
    with pytest.raises(UserError, match=f"1 of 13 training images cannot be read: .*{reason}"):
        data.load_train(dataclasses.replace(config, image_size=12, channels=3))
    skipping = dataclasses.replace(config, image_size=12, channels=3, skip_broken=True)
    splits = data.load_train(skipping)
    assert len(splits.train) + len(splits.validation) == 12


def test_memory_that_runs_out_elsewhere_is_no_fault_of_an_image(tmp_path, monkeypatch):
    def short(*arguments):
        raise MemoryError

    Image.fromarray(GREY).save(tmp_path / "a.png")
    monkeypatch.setattr("ctkd_search.data.decode.upright", short)
    with pytest.raises(MemoryError):
        open_upright(tmp_path / "a.png", 3)


def test_heic_is_read_where_pillow_heif_is_installed(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(Image.fromarray(random_pixels(1, 64)[0])).save(tmp_path / "a.heic")
    from ctkd_search.data.listing import listing_of

    assert listing_of(str(tmp_path)).kinds == ("HEIC",)
    assert decode_image(tmp_path / "a.heic", 32, 3).shape == (32, 32, 3)
