"""Fixtures of several tests of data sets."""

import pytest
from PIL import Image
from support.layouts import write_folder

from ctkd_search.data import picture_store


@pytest.fixture
def few_in_a_block(monkeypatch):
    """Stores of pictures in blocks of few, with nothing remembered of those that a test before has read."""
    monkeypatch.setattr(picture_store, "BLOCK", 5)
    monkeypatch.setattr(picture_store, "_blocks", {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures of unequal sizes, 54 in all to learn from; some are smaller than what is kept of the others."""
    root = tmp_path_factory.mktemp("pictures")
    write_folder(root, images=18, size=12)
    for number, path in enumerate(sorted((root / "train").glob("*/*"))):
        Image.open(path).resize((14 + 3 * (number % 5), 13 + 5 * (number % 7))).save(path)
    return root
