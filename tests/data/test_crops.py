"""Random resized crops: torchvision's draws, a resize that is the same everywhere, and pictures decoded in part."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from ctkd_search.data.crops import Box, draw_crop, random_crop, resize_square
from ctkd_search.data.decode import decode_image, decode_random_crop, open_upright


def smooth(height, width):
    """A colourful picture without noise, of which a reduced copy has all the detail."""
    rows, columns = np.mgrid[0:height, 0:width]
    parts = (np.sin(rows / height * 9), np.cos(columns / width * 7), np.sin((rows + columns) / width * 5))
    return Image.fromarray(np.stack([127 + 120 * part for part in parts], axis=2).astype(np.uint8))


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.5, 0.6), (1.0, 1.0)])
@pytest.mark.parametrize(("height", "width"), [(375, 500), (64, 64), (2, 90), (90, 2), (1, 1), (10, 33)])
def test_draws_are_those_of_torchvision(height, width, scale):
    crop = v2.RandomResizedCrop(8, scale=scale)
    torch.manual_seed(9)
    before = torch.get_rng_state()
    drawn = [draw_crop(height, width, scale, seed) for seed in range(50)]
    assert torch.equal(torch.get_rng_state(), before)
    for seed, box in enumerate(drawn):
        torch.manual_seed(seed)
        assert box._asdict() == crop.make_params([torch.empty(3, height, width)])


def test_box_of_a_resized_picture_stays_inside():
    assert Box(10, 20, 30, 40).scaled((100, 200), (50, 100)) == (5, 10, 15, 20)
    for before, after in (((101, 57), (13, 8)), ((3, 1000), (1, 125)), ((999, 999), (125, 125))):
        for seed in range(60):
            box = draw_crop(*before, (0.08, 1.0), seed).scaled(before, after)
            assert 0 <= box.top <= after[0] - box.height
            assert 0 <= box.left <= after[1] - box.width
            assert min(box.height, box.width) >= 1


# Prints a hash of resized noise, computed with the instructions that the environment allows.
RESIZING = """
import hashlib
import torch
from ctkd_search.data.crops import resize_square
noise = torch.randint(0, 256, (150, 211, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
sizes = [resize_square(part, size) for part in (noise, noise[:40, :30], noise[..., :1]) for size in (32, 64, 224)]
print(hashlib.sha256(b"".join(made.contiguous().numpy().tobytes() for made in sizes)).hexdigest())
"""


def test_resize_is_the_same_with_every_set_of_instructions():
    # New interpreters: torch chooses its instructions when it is imported.
    found = {
        subprocess.run(
            [sys.executable, "-c", RESIZING], env={**os.environ, **chosen}, capture_output=True, text=True, check=True
        ).stdout
        for chosen in ({}, {"ATEN_CPU_CAPABILITY": "default"})
    }
    assert len(found) == 1
    assert len(found.pop()) == 65


def test_resize_is_pillow_s_but_for_rounding():
    noise = np.random.default_rng(0).integers(0, 256, (180, 200, 3), dtype=np.uint8)
    for size in (32, 224):
        expected = np.asarray(Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC)).astype(int)
        found = resize_square(torch.from_numpy(noise), size).numpy().astype(int)
        assert abs(found - expected).max() <= 2
        assert (found != expected).mean() < 0.01


def test_crop_is_the_drawn_part_resized(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    for seed in range(5):
        box = draw_crop(40, 50, (0.1, 1.0), seed)
        part = pixels[box.top : box.top + box.height, box.left : box.left + box.width]
        expected = resize_square(torch.from_numpy(part.copy()), 16)
        assert torch.equal(random_crop(torch.from_numpy(pixels), 16, (0.1, 1.0), seed), expected)
        assert torch.equal(decode_random_crop(tmp_path / "noise.png", 16, 3, (0.1, 1.0), seed), expected)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_large_jpeg_is_decoded_smaller_and_looks_the_same(tmp_path, orientation, channels):
    """Of a picture and of the same one in another format, which is decoded whole, everything that is seen agrees."""
    picture = smooth(600, 800)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "large.jpg", quality=98, subsampling=0, exif=exif)
    whole = open_upright(tmp_path / "large.jpg", channels)
    whole.save(tmp_path / "whole.png")
    for times, shorter in ((8, 150), (4, 300), (3.9, 600), (100, 75)):
        reduced = open_upright(tmp_path / "large.jpg", channels, lambda height, width, times=times: times)
        assert min(reduced.size) == shorter
        assert (reduced.width > reduced.height) == (whole.width > whole.height)
    for seed in range(4):
        seen, expected = (
            decode_random_crop(tmp_path / name, 32, channels, (0.2, 1.0), seed).numpy().astype(int)
            for name in ("large.jpg", "whole.png")
        )
        assert abs(seen - expected).mean() < 6
    seen, expected = (
        decode_image(tmp_path / name, 32, channels, 40).astype(int) for name in ("large.jpg", "whole.png")
    )
    assert abs(seen - expected).mean() < 6


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 7, 8])
@pytest.mark.parametrize("suffix", ["jpg", "tif", "png", "webp"])
def test_excess_is_asked_of_the_upright_picture(tmp_path, suffix, orientation):
    path, exif = tmp_path / f"turned.{suffix}", Image.Exif()
    exif[0x0112] = orientation
    smooth(30, 50).save(path, exif=exif)
    asked = []
    picture = open_upright(path, 3, lambda height, width: asked.append((height, width)) or 1)
    assert asked == [(50, 30) if orientation >= 5 else (30, 50)]
    assert asked == [(picture.height, picture.width)]


def test_crops_of_a_turned_picture_are_those_of_it_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    smooth(60, 100).save(tmp_path / "turned.tif", exif=exif)
    open_upright(tmp_path / "turned.tif", 3).save(tmp_path / "upright.png")
    for seed in range(4):
        found, expected = (
            decode_random_crop(tmp_path / name, 16, 3, (0.2, 1.0), seed) for name in ("turned.tif", "upright.png")
        )
        assert torch.equal(found, expected)
