"""The size of images that are stored decoded, or that could be, as `check` says it."""

import re

import pytest
from PIL import Image
from support.space_texts import space

from ctkd_search.checks.stores import store_line

pytestmark = pytest.mark.usefixtures("_in_folder")
SPACE = """
name: x
dataset: {name: folder, root: images, image_size: 32, channels: 3}
search: {alpha: {float: [1, 2]}}
"""
CUT = ("augment.crop=0", "augment.resized_crop=[0.1, 1.0]")


@pytest.fixture
def _in_folder(tmp_path, monkeypatch):
    """Twelve pictures of 40 times 50 pixels to learn from, in a working directory of their own."""
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        (tmp_path / "images" / "train" / name).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (50, 40), (number, 0, 0)).save(tmp_path / "images" / "train" / name / f"{number}.png")


def line(tmp_path, *changes, held_out=2):
    return store_line(space(SPACE, *changes), held_out, tmp_path / "trials" / "teachers")


def test_size_of_what_is_stored_is_told_and_where(tmp_path):
    as_seen, whole = (line(tmp_path, "dataset.loading=stored", *changes) for changes in ((), CUT))
    for found, needed in ((as_seen, 12 * 32 * 32 * 3), (whole, 12 * 37 * 46 * 3 + 2 * 32 * 32 * 3)):
        assert found.startswith(f"images stored decoded: about {needed / 1000:.3g} kB in {tmp_path / 'trials'}")
        assert re.search("once for all searches; .* free$", found)


def test_store_is_proposed_where_every_epoch_decodes_pictures(tmp_path):
    found = line(tmp_path, *CUT)
    assert "dataset.loading: stored would decode them once, and take about 67.4 kB of disk, or" in found
    assert found.endswith("with stored_as: jpeg")
    assert line(tmp_path) is None
    assert line(tmp_path, *CUT, "dataset.loading=streamed") is None
    assert (
        store_line(space("name: x\ndataset: {name: digits}\nsearch: {alpha: {float: [1, 2]}}\n"), 2, tmp_path) is None
    )
