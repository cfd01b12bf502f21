"""Images stored decoded: the same bits as from their files."""

import dataclasses
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from support.layouts import write_folder
from support.stored import (
    BOTH,
    CPU,
    CROP,
    MIXED,
    RESIZED,
    Told,
    assert_same,
    blocks_of,
    epoch_of,
    splits_of,
    validation_of,
)
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import resized_crop

from ctkd_search.data import ImageFiles, picture_store
from ctkd_search.data.file_stream import stream_of
from ctkd_search.data.picture_form import Kept
from ctkd_search.data.stream import Normalise
from ctkd_search.data.watching import watched_by

pytestmark = pytest.mark.usefixtures("few_in_a_block")


@pytest.mark.parametrize("workers", [0, 2])
def test_stored_and_streamed_views_are_the_same_bits(folder, tmp_path, monkeypatch, workers):
    if workers:
        monkeypatch.setattr(picture_store, "BLOCK", 256)  # what other processes have
    streamed = splits_of(folder, loading="streamed")
    stored = splits_of(folder, tmp_path, workers=workers)
    assert len(stored.stores) == len(set(stored.stores)) == 2
    assert len(blocks_of(tmp_path)) == (2 if workers else 11 + 11)
    for augment in (CROP, MIXED):
        assert_same(epoch_of(stored, augment), epoch_of(streamed, augment))
    assert_same(validation_of(stored), validation_of(streamed))
    assert (stored.mean, stored.std) == (streamed.mean, streamed.std)


def test_nothing_but_the_store_is_read(folder, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(folder, root)
    stored = splits_of(root, tmp_path / "stores")
    before = [epoch_of(stored, augment) for augment in BOTH], validation_of(stored)
    shutil.rmtree(root)
    for found, expected in zip([epoch_of(stored, augment) for augment in BOTH], before[0], strict=True):
        assert_same(found, expected)
    assert_same(validation_of(stored), before[1])


@pytest.mark.parametrize(("encoding", "channels"), [("pixels", 3), ("pixels", 1), ("jpeg", 3), ("jpeg", 1)])
def test_crops_are_those_that_torchvision_cuts_from_the_stored_pictures(folder, tmp_path, encoding, channels):
    augment = dataclasses.replace(RESIZED, flip=False)
    splits = splits_of(folder, tmp_path, [augment], channels=channels, stored_side=15, stored_as=encoding)
    files = splits.train
    assert files.kept == Kept(12, channels, None, 15, encoding)
    stream = stream_of(files, Normalise((0.0,) * channels, (1.0,) * channels), augment, 5, CPU)
    plan = stream.plan(0)
    images, _ = next(stream.batches(plan, len(files)))
    crop = v2.RandomResizedCrop(12, scale=(0.2, 1.0))
    for position, image in enumerate(images):
        index = int(plan.order[position])
        picture = Image.open(files.paths(slice(index, index + 1))[0]).convert("RGB" if channels == 3 else "L")
        short = min(picture.size)
        if short > 15:
            picture = picture.resize([round(side * 15 / short) for side in picture.size], Image.Resampling.BICUBIC)
        whole = torch.from_numpy(np.array(picture).reshape(picture.height, picture.width, channels)).permute(2, 0, 1)
        stored = torch.from_numpy(files.kept.from_file(files.paths(slice(index, index + 1))[0])).permute(2, 0, 1)
        assert stored.shape == whole.shape
        if encoding == "pixels":
            assert torch.equal(stored, whole)
        torch.manual_seed(int(plan.crops[position]))
        box = crop.make_params([stored])
        expected = resized_crop(
            stored, *box.values(), [12, 12], interpolation=v2.InterpolationMode.BICUBIC, antialias=True
        )
        assert torch.equal(image.to(torch.uint8), expected)


def test_jpeg_takes_less_room_and_is_near(tmp_path):
    rows, columns = np.mgrid[0:200, 0:260]
    picture = np.stack([rows, columns % 256, (rows + columns) % 256], axis=2).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "one.png")
    path = str(tmp_path / "one.png")
    pixels, jpeg = (Kept(64, 3, None, 128, encoding) for encoding in ("pixels", "jpeg"))
    assert len(jpeg.encoded(path)[2]) < len(pixels.encoded(path)[2]) / 5
    assert abs(jpeg.from_file(path).astype(int) - pixels.from_file(path)).mean() < 2
    assert jpeg.bytes_of([path] * 100) == 100 * len(jpeg.encoded(path)[2])
    assert pixels.bytes_of([path] * 100) == 100 * len(pixels.encoded(path)[2])


def test_store_is_written_once_and_by_whatever_split_is_asked_for(folder, tmp_path):
    splits_of(folder, tmp_path, [RESIZED])
    written = {path: path.stat().st_mtime_ns for path in blocks_of(tmp_path)}
    told = Told()
    with watched_by(told):
        again = splits_of(folder, tmp_path, [RESIZED], split_seed=3)
    after = {path: path.stat().st_mtime_ns for path in blocks_of(tmp_path)}
    # The images that are held out now are other ones: theirs is the only new store.
    assert {path: after[path] for path in written} == written
    assert {path.parent for path in after} - {path.parent for path in written} == {again.stores[1]}
    assert {total for _, _, total in told.done} == {len(again.validation)}
    splits_of(folder, tmp_path, [RESIZED], stored_side=20)
    assert len({path.parent for path in blocks_of(tmp_path)}) == 4


def test_other_pictures_of_equal_names_sizes_and_times_have_a_store_of_their_own(folder, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for root in (one, other):
        shutil.copytree(folder, root)
        for path in root.rglob("*.png"):
            if root == other:
                Image.open(path).rotate(180).save(path)
            path.write_bytes(path.read_bytes().ljust(5000, b"\0"))
            os.utime(path, (1e9, 1e9))
    splits_of(one, tmp_path / "stores", BOTH)
    splits = splits_of(other, tmp_path / "stores", BOTH)
    for augment in BOTH:
        assert_same(epoch_of(splits, augment), epoch_of(splits_of(other, augments=BOTH), augment))


def test_pictures_of_another_decoder_have_a_store_of_their_own(folder, tmp_path, monkeypatch):
    before = splits_of(folder, tmp_path)
    encoded = Kept.encoded

    def slightly_other(kept, path):
        height, width, content = encoded(kept, path)
        return height, width, bytes([content[0] ^ 1]) + content[1:]

    monkeypatch.setattr(Kept, "encoded", slightly_other)
    assert not set(splits_of(folder, tmp_path).stores) & set(before.stores)


def test_final_training_finds_what_the_search_has_stored(folder, tmp_path):
    splits = splits_of(folder, tmp_path)
    final = splits.with_validation()
    assert final.train.parts.places.tolist() == [
        *splits.train.parts.places.tolist(),
        *splits.validation.parts.places.tolist(),
    ]
    assert (final.train.parts.places[:, 0] == 0).all()
    plain = splits_of(folder).with_validation()
    for augment in BOTH:
        assert_same(epoch_of(final, augment), epoch_of(plain, augment))


def test_own_validation_images_have_a_store_of_their_own_and_join(tmp_path):
    write_folder(tmp_path / "images", ("train", "val", "test"))
    options = {"validation": None, "augments": [CROP]}
    splits = splits_of(tmp_path / "images", tmp_path / "stores", **options)
    assert len(splits.stores) == 2
    final = splits.with_validation()
    places = final.train.squares.places
    assert places[:, 0].tolist() == [0] * len(splits.train) + [1] * len(splits.validation)
    streamed = splits_of(tmp_path / "images", loading="streamed", **options).with_validation()
    assert_same(epoch_of(final, CROP), epoch_of(streamed, CROP))


def test_where_pictures_are_stored_changes_no_fingerprint_but_their_form_does(folder, tmp_path):
    streamed = splits_of(folder, loading="streamed", augments=[CROP]).fingerprint
    assert splits_of(folder, tmp_path, [CROP]).fingerprint == streamed
    assert splits_of(folder, None, [CROP]).fingerprint == streamed
    parts = [
        splits_of(folder, stores, [RESIZED], **options).fingerprint
        for options in ({}, {"stored_side": 20}, {"stored_as": "jpeg"})
        for stores in (None, tmp_path)
    ]
    assert parts[0::2] == parts[1::2]
    assert len({streamed, *parts}) == 4


def test_auto_stores_what_takes_a_quarter_of_the_disk_at_most_and_never_reduced_pictures(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("ctkd_search.data.registry.room_for_images", lambda: 0)
    size = 54 * 12 * 12 * 3
    for free, stored in ((4 * size, True), (4 * size - 4, False)):
        stores = tmp_path / str(free)
        monkeypatch.setattr("ctkd_search.data.storing.free_on_disk", lambda _, free=free: free)
        monkeypatch.setattr(picture_store, "RESERVE", 0)
        splits = splits_of(folder, stores, [CROP], loading="auto")
        assert isinstance(splits.train, ImageFiles)
        assert bool(splits.train.squares) == stored
        assert len(blocks_of(stores)) == (11 if stored else 3)  # the images that are held out are fewer
    splits = splits_of(folder, tmp_path / "crops", [RESIZED], loading=None)
    assert (splits.train.kept, splits.train.parts) == (None, None)
    assert not splits_of(folder, tmp_path / "none", [CROP], loading="streamed").stores
    assert not (tmp_path / "none").exists()
