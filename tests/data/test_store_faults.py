"""Damage, kills, full disks, other processes and broken files, under which a store of pictures gives the same bits."""

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from support.layouts import BROKEN_IMAGE, folder_config, write_folder
from support.owners import elsewhere, impatient
from support.processes import PIPE, Process
from support.stored import CROP, RESIZED, Told, assert_same, blocks_of, epoch_of, splits_of

from ctkd_search import data
from ctkd_search.data import picture_store
from ctkd_search.data.picture_store import PictureStore
from ctkd_search.data.watching import watched_by
from ctkd_search.errors import UserError
from ctkd_search.leases.lease import acquire

pytestmark = pytest.mark.usefixtures("few_in_a_block")


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


def test_another_process_that_stores_them_is_named_and_not_disturbed(folder, tmp_path):
    files = splits_of(folder).train
    everything = data.load_train(folder_config(folder, loading="streamed", validation=0.2), [RESIZED])
    names = everything.train.joined(everything.validation)
    order = np.argsort(names.names)
    store = PictureStore(tmp_path, files.kept, names.names[order], names.marks[order], names[order].paths)
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


def test_store_whose_writer_died_on_another_machine_is_completed(folder, tmp_path, monkeypatch):
    impatient(monkeypatch)
    whole = splits_of(folder, tmp_path / "whole", [RESIZED])
    parts = tmp_path / "stores" / Path(whole.train.parts.directories[0]).name
    parts.mkdir(parents=True)
    elsewhere(parts, name="writer")
    told = Told()
    with watched_by(told):
        splits_of(folder, tmp_path / "stores", [RESIZED])
    assert len(told.notes) == 1
    assert told.notes[0].startswith("the store of the training images was started by process")
    assert len(blocks_of(tmp_path / "stores")) == len(blocks_of(tmp_path / "whole"))


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
