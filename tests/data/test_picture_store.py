"""Images stored decoded: the same bits as from their files, whatever becomes of the store."""

import dataclasses
import os
import random
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
import torch
from PIL import Image
from support.layouts import BROKEN_IMAGE, folder_config, write_folder
from support.processes import PIPE, Process
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import resized_crop

from ctkd_search import data
from ctkd_search.config import Augment
from ctkd_search.data import ImageFiles, picture_store
from ctkd_search.data.file_stream import plain_batches, stream_of
from ctkd_search.data.picture_form import Kept
from ctkd_search.data.picture_store import PictureStore
from ctkd_search.data.stream import Normalise
from ctkd_search.data.watching import watched_by
from ctkd_search.errors import UserError
from ctkd_search.leases.lease import acquire

CPU = torch.device("cpu")
CROP, RESIZED, MIXED = Augment(crop=3), Augment(crop=0, resized_crop=(0.2, 1.0)), Augment(crop=2, mixup=0.4)
BOTH = [CROP, RESIZED]


class Told:
    """A receiver of progress and notes that keeps them."""

    def __init__(self):
        self.done, self.notes = [], []

    def progress(self, what, done, total):
        self.done.append((what, done, total))

    def note(self, text):
        self.notes.append(text)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    """Several blocks of few pictures, and nothing remembered of those that a test before has read."""
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


def splits_of(root, stores=None, augments=BOTH, loading="stored", **options):
    options = {"workers": 0, "validation": 0.2, **options}
    return data.load_train(folder_config(root, loading=loading, **options), augments, stores=stores)


def epoch_of(splits, augment, epoch=1):
    stream = stream_of(splits.train, Normalise(splits.mean, splits.std), augment, 5, CPU)
    return [torch.cat(parts) for parts in zip(*stream.batches(stream.plan(epoch), 16), strict=True)]


def validation_of(splits):
    return [torch.cat(parts) for parts in zip(*plain_batches(splits.validation, 4, CPU), strict=True)]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def blocks_of(stores):
    return sorted(stores.glob("pictures-*/*.rec"))


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


def damage(path, way, chance):
    """Does something to a block that a disk, a crash or a person might."""
    content = bytearray(path.read_bytes())
    header = 64 + int.from_bytes(content[11:19], "little")
    if way == "removed":
        path.unlink()
    elif way == "a directory":
        path.unlink()
        path.mkdir()
    elif way == "another block":
        shutil.copy(next(other for other in blocks_of(path.parent.parent) if other != path), path)
    else:
        changed = {
            "empty": lambda: b"",
            "cut short": lambda: content[: chance.randrange(header, len(content))],
            "cut in its header": lambda: content[: chance.randrange(1, header)],
            "longer": lambda: content + b"x",
            "another content": lambda: bytes(chance.randrange(256) for _ in range(len(content))),
            "a byte of its header": lambda: flipped(content, chance.randrange(64, header)),
            "a byte of its pictures": lambda: flipped(content, chance.randrange(header, len(content))),
            "all its pictures": lambda: content[:header] + bytes(len(content) - header),
        }[way]()
        path.write_bytes(changed)


def flipped(content, position):
    return content[:position] + bytes([content[position] ^ 16]) + content[position + 1 :]


WAYS = (
    *("removed", "a directory", "another block", "empty", "cut short", "cut in its header", "longer"),
    *("another content", "a byte of its header", "a byte of its pictures", "all its pictures"),
)


@pytest.mark.parametrize("way", WAYS)
def test_damaged_store_gives_the_same_bits_and_is_repaired(folder, tmp_path, way):
    expected = epoch_of(splits_of(folder).with_validation(), RESIZED)
    splits = splits_of(folder, tmp_path, [RESIZED]).with_validation()
    (parts,) = splits.train.parts.directories
    paths = [path for path in blocks_of(tmp_path) if str(path.parent) == parts]
    whole = [path.read_bytes() for path in paths]
    picture_store._blocks.clear()
    for number in (0, 4, 10):
        damage(paths[number], way, random.Random(number))
    assert_same(epoch_of(splits, RESIZED), expected)
    picture_store._blocks.clear()
    if way == "a directory":
        return  # it is not ours to remove
    again = splits_of(folder, tmp_path, [RESIZED]).with_validation()
    assert [path.read_bytes() for path in paths] == whole
    assert_same(epoch_of(again, RESIZED), expected)


def test_store_that_is_removed_or_cut_short_while_it_is_read_is_written_again(folder, tmp_path):
    splits = splits_of(folder, tmp_path, [RESIZED])
    expected = epoch_of(splits, RESIZED)  # this process has read every block, and compared its checksums
    (parts,) = splits.train.parts.directories
    paths = [path for path in blocks_of(tmp_path) if str(path.parent) == parts]
    whole = [path.read_bytes() for path in paths]
    os.truncate(paths[0], len(whole[0]) - 40)
    paths[1].unlink()
    assert_same(epoch_of(splits, RESIZED), expected)
    splits_of(folder, tmp_path, [RESIZED])
    assert [path.read_bytes() for path in paths] == whole


# Stores pictures, and says so before it begins.
STORING = """
import sys
from pathlib import Path
from ctkd_search import data
from ctkd_search.config import Augment, DatasetConfig
from ctkd_search.data import picture_store
picture_store.BLOCK = 5
config = DatasetConfig("folder", root=sys.argv[1], image_size=12, channels=3, validation=0.2, loading="stored")
print("begins", flush=True)
data.load_train(config, [Augment(crop=0, resized_crop=(0.2, 1.0))], stores=Path(sys.argv[2]))
print("ended", flush=True)
"""


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Some 600 pictures, whose store takes a moment to write."""
    root = tmp_path_factory.mktemp("many")
    write_folder(root, images=200, size=24)
    return root


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_and_leaves_the_same_store(many, tmp_path):
    chance = random.Random(0)

    def store(stores, seconds=None):
        process = Process((str(many), str(stores)), STORING, stdout=PIPE)
        assert process.stdout.readline() == "begins\n"
        if seconds is not None:
            time.sleep(seconds)
            process.send_signal(signal.SIGKILL)
        said = process.stdout.read()
        process.wait()
        return said

    began = time.monotonic()
    assert store(tmp_path / "whole") == "ended\n"
    took = time.monotonic() - began
    found = []
    for _ in range(20):
        store(tmp_path / "killed", chance.uniform(0, took / 6))
        found.append(len(blocks_of(tmp_path / "killed")))
    assert sorted(found) == found
    assert store(tmp_path / "killed") == "ended\n"
    contents = [
        {path.relative_to(stores): path.read_bytes() for path in blocks_of(stores)}
        for stores in (tmp_path / "whole", tmp_path / "killed")
    ]
    assert contents[0] == contents[1]
    assert len(contents[0]) == 120 + 24


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, with little room."""
    place = tmp_path / "disk"
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=300k", "none", str(place)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_full_disk_is_said_and_survived(many, small_disk, monkeypatch):
    monkeypatch.setattr(picture_store, "RESERVE", -(2**40))
    monkeypatch.setattr("ctkd_search.data.storing.RESERVE", -(2**40))
    told = Told()
    with watched_by(told):
        splits = splits_of(many, small_disk, [RESIZED])
    assert len(told.notes) == 2
    for note, what in zip(told.notes, ("training images", "validation images"), strict=True):
        assert "No space left on device" in note
        assert f"{what} are stored decoded" in note
        assert note.endswith("; the others are decoded in every epoch")
    assert blocks_of(small_disk)
    assert not list(small_disk.glob("pictures-*/.*.rec.*"))
    assert_same(epoch_of(splits, RESIZED), epoch_of(splits_of(many, augments=[RESIZED]), RESIZED))


def test_room_is_left_on_the_disk(many, tmp_path, monkeypatch):
    free = shutil.disk_usage(tmp_path).free
    monkeypatch.setattr(picture_store, "RESERVE", free + 2**30)
    monkeypatch.setattr("ctkd_search.data.storing.RESERVE", 0)
    told = Told()
    with watched_by(told):
        splits_of(many, tmp_path, [CROP])
    assert "only 0 of 600 training images are stored decoded, because less than" in told.notes[0]
    assert not blocks_of(tmp_path)


def test_disk_without_room_is_refused_before_anything_is_decoded(many, tmp_path, monkeypatch):
    monkeypatch.setattr("ctkd_search.data.storing.RESERVE", 2**60)
    with pytest.raises(UserError, match=r"dataset.loading: stored needs about .*, whose disk has .* left") as caught:
        splits_of(many, tmp_path, [RESIZED])
    assert str(caught.value).endswith("free some, or set loading: streamed, or stored_as: jpeg")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"259 kB in .*set loading: streamed$"):
        splits_of(many, tmp_path, [CROP])


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


def test_another_process_that_stores_them_is_named_and_not_disturbed(folder, tmp_path):
    files = splits_of(folder).train
    everything = data.load_train(folder_config(folder, loading="streamed", validation=0.2), [RESIZED])
    names = everything.train.joined(everything.validation)
    order = np.argsort(names.names)
    store = PictureStore(tmp_path, files.kept, names.names[order], names.marks[order])
    told = Told()
    with acquire(store.directory, "writer", "a test", what="x"), watched_by(told):
        splits = splits_of(folder, tmp_path, [RESIZED])
    assert "the training images are being stored by" in told.notes[0]
    assert not blocks_of(store.directory.parent / store.directory.name)
    assert_same(epoch_of(splits, RESIZED), epoch_of(splits_of(folder), RESIZED))
    # What is stored meanwhile is read from then on.
    splits_of(folder, tmp_path, [RESIZED])
    assert store.missing() == []
    assert_same(epoch_of(splits, RESIZED), epoch_of(splits_of(folder), RESIZED))


def test_broken_files_are_counted_and_named(folder, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(folder, root)
    for number in (3, 7):
        (root / "train" / "bee" / f"{number}.png").write_bytes(BROKEN_IMAGE)
    with pytest.raises(UserError, match=r"^2 of 54 training images cannot be read: .*bee/3.png") as caught:
        splits_of(root, tmp_path / "stores", [RESIZED])
    assert "\n" not in str(caught.value)
    splits = splits_of(root, tmp_path / "stores", [RESIZED], skip_broken=True)
    assert len(splits.train) + len(splits.validation) == 52
    epoch_of(splits, RESIZED)
