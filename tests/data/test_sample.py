"""The sample of validation images on which `check` measures an expert."""

import numpy as np
import pytest
from support.layouts import BROKEN_IMAGE, folder_config, write_folder

from ctkd_search import data
from ctkd_search.data.sample import validation_sample
from ctkd_search.errors import UserError


def assert_of(sample, splits):
    """Every image of a sample of all is one of those that a search holds out."""
    held = splits.validation.held()
    assert sample.total == len(sample.images) == len(held)
    found, expected = (sorted(each.tobytes() for each in images.pixels) for images in (sample.images, held))
    assert found == expected
    assert (sample.mean, sample.std) == (splits.mean, splits.std)


@pytest.mark.parametrize("options", [{}, {"stored_side": 16}, {"stored_side": 16, "stored_as": "jpeg"}])
def test_images_that_a_search_stores_are_sampled_from_their_files(tmp_path, options):
    write_folder(tmp_path)
    config = folder_config(tmp_path, loading="stored", **options)
    assert_of(validation_sample(config, 100), data.load_train(folder_config(tmp_path, loading="streamed")))
    assert not list(tmp_path.rglob("*.rec"))


def test_a_sample_is_of_the_split_that_is_left_where_a_search_skips_files(tmp_path):
    write_folder(tmp_path, images=12)
    for path in ("ant/0.png", "bee/3.png", "bee/4.png"):
        (tmp_path / "train" / path).write_bytes(BROKEN_IMAGE)
    # Told by its first bytes, before anything is decoded.
    (tmp_path / "train" / "cow" / "raw.jxl").write_bytes(b"\xff\x0a" + bytes(60))
    config = folder_config(tmp_path, skip_broken=True)
    assert_of(validation_sample(config, 100), data.load_train(config))
    with pytest.raises(UserError, match=r"raw\.jxl"):
        validation_sample(folder_config(tmp_path), 100)


def test_a_sample_is_in_random_order_and_no_larger_than_asked_for(tmp_path):
    write_folder(tmp_path, images=12)
    sample = validation_sample(folder_config(tmp_path, validation=0.5), 5)
    assert (len(sample.images), sample.total) == (5, 18)
    assert len(np.unique(sample.images.labels)) > 1


def test_files_that_are_too_large_to_be_decoded_for_a_check_are_refused(tmp_path, monkeypatch):
    write_folder(tmp_path, images=12)
    monkeypatch.setattr("ctkd_search.data.sample._MOST_BYTES", 10_000)
    monkeypatch.setattr("ctkd_search.data.sample._MEASURED", 5)
    assert len(validation_sample(folder_config(tmp_path), 2).images) == 2
    with pytest.raises(UserError, match="too large for check"):
        validation_sample(folder_config(tmp_path, skip_broken=True), 2)
