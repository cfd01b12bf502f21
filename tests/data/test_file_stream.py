"""Images that stay in their files: the same stream as from memory, whoever decodes it."""

import dataclasses
import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from support.layouts import folder_config, write_folder
from support.processes import PIPE, Process

from ctkd_search import data
from ctkd_search.config import Augment
from ctkd_search.data import ImageFiles, Images
from ctkd_search.data.file_stream import FileStream, plain_batches, stream_of
from ctkd_search.data.stream import Normalise, Stream
from ctkd_search.data.workers import Job, decoding_pool
from ctkd_search.errors import UserError, WorkFailed

CPU = torch.device("cpu")
CROP, RESIZED = Augment(crop=3), Augment(crop=0, resized_crop=(0.2, 1.0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures of unequal sizes, 54 in all to learn from."""
    root = tmp_path_factory.mktemp("pictures")
    write_folder(root, images=18, size=12)
    for number, path in enumerate(sorted((root / "train").glob("*/*"))):
        picture = Image.open(path).resize((14 + number % 5, 13 + number % 7))
        picture.save(path)
    return root


def splits_of(folder, loading="streamed", workers=0, augment=None, **options):
    config = folder_config(folder, validation=0.2, loading=loading, workers=workers, **options)
    return data.load_train(config, [augment] if augment else [])


def stream(splits, augment=CROP, seed=5):
    return stream_of(splits.train, Normalise(splits.mean, splits.std), augment, seed, CPU)


def epoch_of(stream, epoch=1, batch_size=16):
    batches = list(stream.batches(stream.plan(epoch), batch_size))
    return torch.cat([images for images, _ in batches]), torch.cat([labels for _, labels in batches])


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def workers_of(process):
    """The processes that a process has started, and those that these have."""
    return psutil.Process(process).children(recursive=True)


def gone(processes, seconds=20):
    """Whether processes end within a time; one that nobody has asked for its end has ended too."""

    def left():
        return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]

    ends = time.monotonic() + seconds
    while left() and time.monotonic() < ends:
        time.sleep(0.1)
    return not left()


@pytest.mark.parametrize("augment", [CROP, Augment(crop=0, flip=False)], ids=["crop and flip", "plain"])
def test_streamed_and_resident_views_are_the_same_bits(folder, augment):
    resident, streamed = splits_of(folder, "resident", None), splits_of(folder)
    assert isinstance(resident.train, Images)
    assert isinstance(streamed.train, ImageFiles)
    assert (streamed.mean, streamed.std, streamed.geometry) == (resident.mean, resident.std, resident.geometry)
    kept, files = stream(resident, augment), stream(streamed, augment)
    assert isinstance(files, FileStream)
    for epoch in range(3):
        assert_same(epoch_of(files, epoch), epoch_of(kept, epoch))


@pytest.mark.parametrize("augment", [CROP, RESIZED], ids=["crop", "resized crop"])
@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_batches_of_any_size_cut_the_same_sequence(folder, monkeypatch, augment, batch_size):
    expected = epoch_of(stream(splits_of(folder, augment=augment), augment))
    monkeypatch.setattr("ctkd_search.data.file_stream._PIECE_IMAGES", 5)
    assert_same(epoch_of(stream(splits_of(folder, augment=augment), augment), batch_size=batch_size), expected)


@pytest.mark.parametrize("augment", [CROP, RESIZED], ids=["crop", "resized crop"])
def test_stream_is_the_same_however_many_processes_decode(folder, monkeypatch, augment):
    monkeypatch.setattr("ctkd_search.data.file_stream._PIECE_IMAGES", 4)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    expected = [epoch_of(stream(splits_of(folder, augment=augment), augment), epoch) for epoch in (0, 1)]
    for workers in (1, 2) if augment is RESIZED else (2,):
        several = stream(splits_of(folder, workers=workers, augment=augment), augment)
        for epoch in (0, 1):
            assert_same(epoch_of(several, epoch, batch_size=3 + workers), expected[epoch])
        assert len(workers_of(os.getpid())) >= workers
    assert torch.equal(torch.get_rng_state(), before)


def test_view_is_the_same_when_it_is_asked_for_alone(folder):
    files = stream(splits_of(folder, augment=RESIZED), RESIZED)
    images, labels = epoch_of(files, epoch=2)
    assert_same(files.views(files.plan(2), 11, 14), (images[11:14], labels[11:14]))


def test_resized_crops_change_with_the_epoch_and_with_the_seed_and_leave_the_rest(folder):
    splits = splits_of(folder, augment=RESIZED)
    plans = [stream(splits, RESIZED, seed).plan(epoch) for seed in (5, 6) for epoch in (0, 1)]
    assert len({tuple(plan.crops.tolist()) for plan in plans}) == 4
    plain = stream(splits, Augment(crop=0)).plan(0)
    assert plain.crops is None
    assert_same((plans[0].order, plans[0].flipped), (plain.order, plain.flipped))


def test_resized_crops_are_torchvision_s(tmp_path):
    """A picture whose every pixel says where it stands: parts have the areas and ratios that they should."""
    rows, columns = np.mgrid[0:100, 0:100]
    Image.fromarray(np.stack([rows * 2, columns * 2, rows], axis=2).astype(np.uint8)).save(tmp_path / "place.png")
    path = str(tmp_path / "place.png")
    seeds = tuple(range(300))
    cut = Job([path] * 300, 50, 3, scale=(0.25, 0.5), crops=seeds).done().numpy().astype(float) / 2
    high = cut[:, 40, 25, 0] - cut[:, 10, 25, 0]
    wide = cut[:, 25, 40, 1] - cut[:, 25, 10, 1]
    high, wide = high * 50 / 30, wide * 50 / 30
    area, ratio = high * wide / 100**2, wide / high
    assert 0.23 < area.min() < 0.28
    assert 0.47 < area.max() < 0.53
    assert 0.72 < ratio.min() < 0.8
    assert 1.25 < ratio.max() < 1.39
    assert abs(area.mean() - 0.375) < 0.02


def test_readers_of_one_plan_share_what_is_decoded(folder, monkeypatch):
    monkeypatch.setattr("ctkd_search.data.file_stream._PIECE_IMAGES", 4)
    files = stream(splits_of(folder))
    decoded = []
    monkeypatch.setattr(Job, "done", lambda job, done=Job.done: decoded.extend(job.paths) or done(job))
    expected = epoch_of(files)
    decoded.clear()
    plan = files.plan(1)
    student, scratch, expert = (files.batches(plan, size) for size in (10, 3, 16))
    seen = {name: [] for name in ("student", "scratch", "expert")}
    for batch in student:
        seen["student"].append(batch)
        for name, reader in (("scratch", scratch), ("expert", expert)):
            while sum(len(labels) for _, labels in seen[name]) < sum(len(labels) for _, labels in seen["student"]):
                seen[name].append(next(reader))
    assert len(decoded) == len(set(decoded)) == len(files)
    for batches in seen.values():
        assert_same([torch.cat(parts) for parts in zip(*batches, strict=True)], expected)
    # What all have passed is kept no longer.
    assert not files._passing[1]._window


def test_plain_batches_are_the_images_in_their_order(folder):
    for images in (splits_of(folder, "resident", None).validation, splits_of(folder, workers=1).validation):
        batches = list(plain_batches(images, 4, CPU))
        assert [len(labels) for _, labels in batches[:-1]] == [4] * (len(batches) - 1)
        held = images.held()
        assert np.array_equal(torch.cat([pixels for pixels, _ in batches]).numpy(), held.pixels)
        assert np.array_equal(torch.cat([labels for _, labels in batches]).numpy(), held.labels)


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_image_is_named_in_a_line_and_the_processes_go_on(folder, tmp_path, workers):
    good, broken = str(next((folder / "train").glob("*/*"))), tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    pool = decoding_pool(workers, False)
    with pytest.raises(UserError, match=r"cannot read the image .*broken\.png .*; repair or remove it") as caught:
        list(pool.run([Job([good], 8, 3), Job([good, str(broken)], 8, 3)]))
    assert "\n" not in str(caught.value)
    assert [len(done) for done in pool.run([Job([good, good], 8, 3)])] == [2]


@pytest.mark.parametrize("before", [0, 1], ids=["between runs", "within a run"])
def test_process_that_dies_fails_the_work_and_is_replaced(folder, before):
    path = str(next((folder / "train").glob("*/*")))
    pool = decoding_pool(1, False)
    assert len(list(pool.run([Job([path], 8, 3)]))) == 1
    results = pool.run(Job([path], 8, 3) for _ in range(50))
    for _ in range(before):
        next(results)
    # Those of this pool alone: what else the tests' process has started is not to be disturbed.
    killed = [psutil.Process(worker.pid) for worker in pool._loader._iterator._workers]
    for worker in killed:
        worker.kill()
    assert gone(killed)
    with pytest.raises(WorkFailed, match="a process that decodes images died") as caught:
        list(results)
    assert pool.closed
    assert "\n" not in str(caught.value)
    assert len(list(decoding_pool(1, False).run([Job([path], 8, 3)]))) == 1


def _look(event, begun):
    begun.set()
    while True:
        event.is_set()


def _ask(event, answers):
    answers += [event.is_set(), event.set(), event.is_set()]


def test_a_process_that_is_killed_while_it_looks_whether_to_end_holds_up_nobody():
    context = decoding_pool(1, False)._loader.multiprocessing_context
    for _ in range(5):
        event, begun, answers = context.Event(), context.Event(), []
        looking = context.Process(target=_look, args=(event, begun))
        looking.start()
        while not begun.is_set():
            time.sleep(0.01)
        time.sleep(0.05)
        looking.kill()
        looking.join()
        asking = threading.Thread(target=_ask, args=(event, answers), daemon=True)
        asking.start()
        asking.join(timeout=20)
        assert answers == [False, None, True]


def test_run_that_begins_ends_the_one_before(folder):
    path = str(next((folder / "train").glob("*/*")))
    pool = decoding_pool(1, False)
    first = pool.run(Job([path], 8, 3) for _ in range(20))
    next(first)
    assert len(list(pool.run(Job([path] * 2, 8, 3) for _ in range(3)))) == 3
    with pytest.raises(RuntimeError, match="ended by another"):
        next(first)


# Reads a stream slowly and says which processes it has started.
READING = """
import json, sys
import psutil
from test_file_stream import CROP, splits_of, stream
files = stream(splits_of(sys.argv[1], workers=2))
batches = files.batches(files.plan(0), 1)
next(batches)
print(json.dumps([child.pid for child in psutil.Process().children(recursive=True)]), flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_killed_it_leaves_no_processes(folder, number):
    process = Process((str(folder),), READING, stdin=PIPE, stdout=PIPE)
    started = [psutil.Process(child) for child in json.loads(process.stdout.readline())]
    assert len(started) >= 3
    process.send_signal(number)
    process.wait()
    assert gone(started)


def test_fingerprint_notices_every_change_of_the_files_and_of_the_view(folder, tmp_path):
    root = tmp_path / "copy"
    write_folder(root, images=18, size=12)
    train = splits_of(root).train
    assert splits_of(root).train.fingerprint() == train.fingerprint()
    found = {train.fingerprint(), train[np.arange(len(train))[::-1]].fingerprint(), train[np.arange(9)].fingerprint()}
    found.add(dataclasses.replace(train, labels=train.labels[::-1].copy()).fingerprint())
    found.add(splits_of(root, resize=14).train.fingerprint())
    found.add(splits_of(root, image_size=13).train.fingerprint())
    path = Path(train.paths(slice(3, 4))[0])
    path.touch()
    found.add(splits_of(root).train.fingerprint())
    path.write_bytes(path.read_bytes() + b"\0")
    found.add(splits_of(root).train.fingerprint())
    path.rename(path.with_name("zzz.png"))
    found.add(splits_of(root).train.fingerprint())
    assert len(found) == 9
    assert dataclasses.replace(train, workers=7).fingerprint() == train.fingerprint()


def test_what_is_free_decides_unless_it_is_said(folder, monkeypatch):
    size = 54 * 12 * 12 * 3
    for room, streamed in ((size, False), (size - 1, True)):
        monkeypatch.setattr("ctkd_search.data.registry.room_for_images", lambda room=room: room)
        for loading in (None, "auto"):
            assert isinstance(splits_of(folder, loading, None).train, ImageFiles) == streamed
        assert isinstance(splits_of(folder, "streamed").train, ImageFiles)
        assert isinstance(splits_of(folder, "resident", None).train, Images)
        # What cuts parts out of the originals needs the originals.
        assert isinstance(splits_of(folder, None, None, RESIZED).train, ImageFiles)


def test_work_that_goes_on_loads_as_it_began(folder, monkeypatch):
    began = {loading: splits_of(folder, loading, None).fingerprint for loading in ("resident", "streamed")}
    for room in (0, 10**12):
        monkeypatch.setattr("ctkd_search.data.registry.room_for_images", lambda room=room: room)
        for loading, fingerprint in began.items():
            found = data.load_train(folder_config(folder, validation=0.2), like=fingerprint)
            assert isinstance(found.train, ImageFiles) == (loading == "streamed")
            assert found.fingerprint == fingerprint


def test_final_training_joins_what_is_streamed(folder):
    splits = splits_of(folder)
    final = splits.with_validation()
    assert len(final.train) == len(splits.train) + len(splits.validation) == 54
    assert sorted(final.train.paths(slice(None))) == sorted(map(str, (folder / "train").glob("*/*")))
    resident = splits_of(folder, "resident", None).with_validation()
    assert np.array_equal(final.train.held().pixels, resident.train.pixels)
    assert isinstance(stream(resident), Stream)


def test_resize_keeps_the_middle_of_the_square(tmp_path):
    write_folder(tmp_path, images=2, size=16)
    path = min((tmp_path / "test").glob("*/*"))
    pixels = np.full((16, 16, 3), 255, np.uint8)
    pixels[2:14, 2:14] = 40
    Image.fromarray(pixels).save(path)
    narrow, whole = (data.load_test(folder_config(tmp_path, 12, resize=resize)).pixels for resize in (16, None))
    assert (narrow[0] == 40).all()
    assert (whole[0] == 255).any()
    faults = data.problems(folder_config(tmp_path, 12, resize=11))
    assert faults == [("resize", "must be at least the image size 12, which is cut out of it, but got 11")]
