"""The cache after SIGKILL at random moments: never wrong, and the next run comes to the same numbers."""

import json
import random
import signal
import time

import pytest
from support.processes import PIPE, Process
from support.tiny import CPU, TINY

from ctkd_search.distill.build import teacher_runs
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.recording import prepare

pytestmark = pytest.mark.slow
KILLS = 8
# Prepares the teachers and trains two students, one after the other, and prints what came of it.
WORK = """
import hashlib, json, sys
from pathlib import Path
import torch
from support.tiny import CPU, TINY, changed, prepare_teachers, tiny_splits
from ctkd_search.distill.build import make_trainer
from ctkd_search.distill.cache import TeacherCache

torch.set_num_threads(1)
splits = tiny_splits(train=160)
cache = TeacherCache(Path(sys.argv[1]), "work")
base = changed(changed(TINY, "teachers.mode", "recorded"), "epochs", 4)
print("ready", flush=True)
sys.stdin.readline()
results = []
for config in (base, changed(base, "method.alpha", 0.3)):
    prepare_teachers(config, splits, cache)
    trainer = make_trainer(config, splits, cache, CPU)
    history = [trainer.run_epoch()["loss"] for _ in range(config.epochs)]
    weights = b"".join(value.numpy().tobytes() for value in trainer.student.state_dict().values())
    results.append([history, hashlib.sha256(weights).hexdigest()])
print(json.dumps(results), flush=True)
"""


def start(directory):
    """A process that has imported everything, or is about to, and begins its work when `go` tells it to."""
    return Process((str(directory),), WORK, stdin=PIPE, stdout=PIPE)


def go(process):
    """Returns at the moment the work begins: importing torch is of no interest."""
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("go\n")
    process.stdin.flush()


def outcome(process):
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 0
    return json.loads(output.splitlines()[-1])


def finished(directory):
    process = start(directory)
    go(process)
    return outcome(process)


def contents(directory):
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*.rec")}


def recorded(directory):
    return len(list(directory.rglob("*.rec")))


def wait_for_more(directory, before, process):
    while recorded(directory) <= before and process.poll() is None:
        time.sleep(0.005)


def test_killed_at_random_moments_it_comes_to_the_same_in_the_end(tmp_path):
    undisturbed = start(tmp_path / "undisturbed")
    go(undisturbed)
    started = time.monotonic()
    expected = outcome(undisturbed)
    whole = time.monotonic() - started
    draw = random.Random(20)
    killed = tmp_path / "killed"
    reached = set()
    following = start(killed)
    for number in range(KILLS):
        process, following = following, start(killed)
        go(process)
        # At any moment, but every second time soon after a record was written, so that the work moves on.
        if number % 2:
            wait_for_more(killed, max(reached), process)
        time.sleep(draw.uniform(0, whole / (40 if number % 2 else 4)))
        process.send_signal(signal.SIGKILL)
        process.wait()
        reached.add(recorded(killed))
    following.kill()
    cache = TeacherCache(killed)
    for path in killed.rglob("*.rec"):
        assert str(path.relative_to(killed).with_suffix("")) in cache
    assert finished(killed) == expected
    assert contents(killed) == contents(tmp_path / "undisturbed")
    # The kills struck at different stages of the work.
    assert len(reached) > 1


def test_two_at_once_come_to_the_same(tmp_path):
    expected = finished(tmp_path / "alone")
    together = [start(tmp_path / "shared") for _ in range(3)]
    for process in together:
        go(process)
    for process in together:
        assert outcome(process) == expected
    assert contents(tmp_path / "shared") == contents(tmp_path / "alone")


def test_a_state_that_a_finished_training_left_is_removed_and_that_of_an_unfinished_one_is_kept(cache, splits):
    runs = teacher_runs(TINY, splits.fingerprint, CPU, make_method(TINY.method).needs, len(splits.train))
    (run, wanted), *_ = runs.items()
    list(prepare(run, splits, cache, CPU, wanted))
    for epochs, kept in ((run.epochs - 1, True), (run.epochs, False)):
        # The process was killed between its last record and the removal of its state.
        cache.write_state(run.state(), {"epoch": epochs})
        assert list(prepare(run, splits, cache, CPU, wanted)) == []
        assert (run.state() in cache) == kept
