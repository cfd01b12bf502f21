"""A teacher is trained by one process at a time."""

import itertools
import json
import os
import signal

import pytest
from support.processes import PIPE, Process
from support.tiny import CPU, TINY, changed

from ctkd_search.distill import recording
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.recording import TRAINING, Wanted, is_prepared, prepare, scratch_run
from ctkd_search.leases.lease import acquire

CONFIG = changed(changed(TINY, "teachers.mode", "recorded"), "epochs", 3)
WANTED = Wanted("float16")
# Prepares the teacher, and prints each thing that the preparation says as it comes.
WORK = """
import json, sys
from pathlib import Path
from test_one_training import CONFIG, CPU, WANTED
from support.tiny import tiny_splits
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.recording import prepare, scratch_run
import torch
torch.set_num_threads(1)
splits = tiny_splits()
run = scratch_run(CONFIG, splits.fingerprint, CPU, len(splits.train))
print("ready", flush=True)
sys.stdin.readline()
for progress in prepare(run, splits, TeacherCache(Path(sys.argv[1])), CPU, WANTED):
    print(json.dumps([progress.epoch, progress.done, progress.owner]), flush=True)
    if sys.argv[2:]:
        sys.stdin.readline()
"""


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(recording, "_POLL_SECONDS", 0.01)


@pytest.fixture
def run(splits):
    return scratch_run(CONFIG, splits.fingerprint, CPU, len(splits.train))


def start(directory, *words):
    started = Process((str(directory), *words), WORK, stdin=PIPE, stdout=PIPE)
    assert started.stdout.readline() == "ready\n"
    return started


def go(process):
    process.stdin.write("\n")
    process.stdin.flush()


def test_a_second_process_waits_and_then_has_nothing_to_do(tmp_path, splits, run, quick):
    cache = TeacherCache(tmp_path / "cache")
    first = prepare(run, splits, cache, CPU, WANTED)
    second = prepare(run, splits, cache, CPU, WANTED)
    assert next(first).epoch == 1
    waiting = next(second)
    assert not waiting.done
    assert f"process {os.getpid()} on" in waiting.owner
    assert [progress.epoch for progress in first] == [2, 3, 3]
    assert list(second) == []


def test_a_second_process_takes_over_from_one_that_gave_up(tmp_path, splits, run, quick):
    cache = TeacherCache(tmp_path / "cache")
    first = prepare(run, splits, cache, CPU, WANTED)
    second = prepare(run, splits, cache, CPU, WANTED)
    next(first)
    assert next(second).owner
    first.close()
    assert [progress.epoch for progress in second] == [2, 3, 3]


def test_a_second_process_takes_over_from_one_that_was_killed(tmp_path, splits, run, quick):
    killed = start(tmp_path / "cache", "step by step")
    go(killed)
    assert json.loads(killed.stdout.readline()) == [1, False, None]
    cache = TeacherCache(tmp_path / "cache")
    second = prepare(run, splits, cache, CPU, WANTED)
    assert f"process {killed.pid} on" in next(second).owner
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert [progress.epoch for progress in second if progress.owner is None] == [2, 3, 3]
    assert is_prepared(run, cache, WANTED)


@pytest.mark.slow
def test_of_three_processes_that_begin_at_once_one_trains_each_epoch(tmp_path, splits):
    together = [start(tmp_path / "cache") for _ in range(3)]
    for process in together:
        go(process)
    said = [[json.loads(line) for line in process.communicate(timeout=60)[0].splitlines()] for process in together]
    trained = [epoch for epoch, done, owner in itertools.chain(*said) if owner is None and not done]
    assert sorted(trained) == [1, 2, 3]


def test_a_training_that_raises_keeps_nobody_waiting(tmp_path, splits, run, quick, monkeypatch):
    cache = TeacherCache(tmp_path / "cache")

    def fail(*words):
        raise OSError("no room")

    with monkeypatch.context() as broken:
        broken.setattr(recording, "start_teacher", fail)
        with pytest.raises(OSError, match="no room"):
            list(prepare(run, splits, cache, CPU, WANTED))
    with acquire(cache.directory / run.entry, TRAINING, "the next", what="it"):
        pass
    assert len(list(prepare(run, splits, cache, CPU, WANTED))) == 4
