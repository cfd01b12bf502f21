"""One pass over an epoch records what all trials of a search ask of an expert, and one process at a time does it."""

import dataclasses
import itertools
import json
import signal
import threading
import time

import pytest
import torch
from support.processes import PIPE, Process
from support.tiny import CPU, TINY, changed, prepare_teachers, tiny_splits

from ctkd_search.config import MethodConfig
from ctkd_search.distill.asked import (
    ExpertKey,
    Passes,
    asked_of_experts,
    augmented_teacher,
    bytes_of,
    passes_of_teachers,
    whole,
)
from ctkd_search.distill.build import make_trainer
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.expert import Expert
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.requests import EMBEDDING, LOGITS, TeacherOutput
from ctkd_search.leases.lease import try_acquire
from ctkd_search.models import build
from ctkd_search.storage import MapForm, TopLogits

pytestmark = pytest.mark.usefixtures("single_thread")
ATTENTION = [TeacherOutput("attention", layer) for layer in (1, 2, 3)]
STATISTICS = [TeacherOutput("statistics", layer) for layer in (1, 2, 3)]
NAMES = ("kd", "at", "fs")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A config with an expert of the user's own, so that no teacher is trained."""
    path = tmp_path_factory.mktemp("expert") / "expert.pt"
    torch.save(build(TINY.teacher, tiny_splits().geometry, seed=9).state_dict(), path)
    return changed(changed(TINY, "teachers.mode", "recorded"), "teachers.expert.checkpoint", str(path))


@pytest.fixture
def cache(tmp_path):
    return TeacherCache(tmp_path / "teachers")


@pytest.fixture
def passes(monkeypatch):
    """What the expert is asked for in each pass over an epoch."""
    found = []
    original = Expert.outputs

    def counted(self, batches, outputs):
        found.append(list(outputs))
        return original(self, batches, outputs)

    monkeypatch.setattr(Expert, "outputs", counted)
    return found


def by(config, name, **values):
    return dataclasses.replace(config, method=MethodConfig(name, values))


def union(*configs):
    return asked_of_experts((config, make_method(config.method).needs) for config in configs)


def trained(config, splits, cache, asked=None):
    trainer = make_trainer(config, splits, cache, CPU, asked=asked)
    history = [trainer.run_epoch() for _ in range(config.epochs)]
    return history, [value.clone() for value in trainer.student.state_dict().values()]


def assert_same(one, other):
    assert [epoch["loss"] for epoch in one[0]] == [epoch["loss"] for epoch in other[0]]
    assert all(torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))


def exact(config):
    """Kept in full, so that recorded equals live bit for bit."""
    return changed(config, "teachers.storage", "float32")


@pytest.mark.parametrize("order", list(itertools.permutations(NAMES))[::2], ids="-".join)
def test_a_search_over_kd_at_and_fs_goes_once_over_each_epoch(order, base, splits, cache, passes):
    configs = [by(exact(base), name) for name in order]
    asked = union(*configs)
    recorded = [trained(config, splits, cache, asked) for config in configs]
    assert len(passes) == base.epochs
    assert [set(each) for each in passes] == [{LOGITS, *ATTENTION, *STATISTICS}] * base.epochs
    for config, found in zip(configs, recorded, strict=True):
        assert_same(found, trained(changed(config, "teachers.mode", "live"), splits, cache))


def test_what_an_earlier_search_has_kept_is_not_recorded_again(base, splits, cache, passes):
    kd, at, fs = (by(base, name) for name in NAMES)
    trained(kd, splits, cache, union(kd))
    kept = {path: path.stat().st_ino for path in cache.directory.rglob("*-logits.rec")}
    assert len(kept) == base.epochs
    asked = union(kd, at, fs)
    trained(kd, splits, cache, asked)
    assert passes == [[LOGITS]] * base.epochs
    trained(at, splits, cache, asked)
    assert [set(each) for each in passes[base.epochs :]] == [{*ATTENTION, *STATISTICS}] * base.epochs
    assert {path: path.stat().st_ino for path in cache.directory.rglob("*-logits.rec")} == kept
    trained(fs, splits, cache, asked)
    trained(at, splits, cache)
    assert len(passes) == 2 * base.epochs


def test_names_do_not_depend_on_what_is_asked_together(base, splits, tmp_path):
    kd, at = by(base, "kd"), by(base, "at")
    together, apart = TeacherCache(tmp_path / "a"), TeacherCache(tmp_path / "b")
    trained(kd, splits, together, union(kd, at))
    trained(at, splits, apart)
    contents = [
        {path.relative_to(cache.directory): path.read_bytes() for path in cache.directory.rglob("*.rec")}
        for cache in (together, apart)
    ]
    assert contents[0] == contents[1]


def test_what_is_too_large_is_computed_in_its_trials_and_the_rest_recorded(base, splits, cache, passes):
    fitnets, kd = by(base, "fitnets"), by(base, "kd")
    asked = union(fitnets, kd)
    assert list(asked.values()) == [(LOGITS,)]
    assert union(fitnets) == {}
    trained(fitnets, splits, cache, asked)
    assert {output.kind for each in passes for output in each} == {"features"}
    assert not list(cache.directory.rglob("maps-*"))
    trained(kd, splits, cache, asked)
    assert passes[base.epochs :] == [[LOGITS]] * base.epochs


def test_beyond_the_limit_nothing_is_recorded_for_others(base, splits, cache, passes):
    nothing = changed(base, "teachers.cache_limit", 0)
    kd, at = by(nothing, "kd"), by(nothing, "at")
    trained(kd, splits, cache, union(kd, at))
    assert passes == [[LOGITS]] * base.epochs
    assert not list(cache.directory.rglob("*.rec"))


def test_the_last_anchor_is_the_expert_that_others_ask(splits, cache, passes):
    config = changed(changed(TINY, "teachers.mode", "recorded"), "epochs", 6)
    rco, kd = by(config, "rco", anchors=3), by(config, "kd")
    asked = union(rco, kd)
    assert asked == {ExpertKey("wrn-10-1", 0, anchor): (LOGITS,) for anchor in (2, 4, None)}
    assert passes_of_teachers((each, make_method(each.method).needs) for each in (rco, kd)) == {
        augmented_teacher(config): [Passes((LOGITS,), 4), Passes((LOGITS,), 6)]
    }
    for each in (rco, kd):
        prepare_teachers(each, splits, cache)
        trained(each, splits, cache, asked)
    # Six by the anchors, the last two of which are epochs of the expert itself.
    assert len(passes) == 6 + 4


def test_each_teacher_and_each_stream_has_what_is_asked_of_it():
    kd, at = by(TINY, "kd"), by(changed(TINY, "teacher", "wrn-16-1"), "at")
    other = changed(kd, "seed", 5)
    asked = union(kd, at, other, by(kd, "none"), by(kd, "fs", statistics_layers=(2,)))
    assert asked == {
        ExpertKey("wrn-10-1", 0): (LOGITS, TeacherOutput("statistics", 2)),
        ExpertKey("wrn-16-1", 0): tuple(ATTENTION),
        ExpertKey("wrn-10-1", 5): (LOGITS,),
    }


def test_the_seconds_of_recording_are_told_apart(base, splits, cache):
    kd = by(base, "kd")
    first, second = trained(kd, splits, cache)[0], trained(kd, splits, cache)[0]
    for epoch in first:
        assert 0 < epoch["recording_seconds"] < epoch["seconds"]
        # Images are learned from in the rest of the time.
        assert epoch["images_per_second"] > len(splits.train) / (epoch["seconds"] - epoch["recording_seconds"])
    assert not any("recording_seconds" in epoch or "waiting_seconds" in epoch for epoch in second)


def lease_of(config, splits, cache, epoch):
    """Directory and name of the lease under which an epoch is recorded."""
    recording = make_trainer(config, splits, cache, CPU).teachers.recording
    return cache.directory / recording._entry(epoch), f"maps-{recording.storage}-{epoch:04d}"


HOLD = """
import sys, time
from pathlib import Path
from ctkd_search.leases.lease import try_acquire
assert try_acquire(Path(sys.argv[1]), sys.argv[2], "recording")
print("held", flush=True)
time.sleep(600)
"""


def test_what_a_killed_process_was_recording_is_taken_over(base, splits, cache, passes):
    kd = by(exact(base), "kd")
    directory, name = lease_of(kd, splits, cache, 0)
    owner = Process((str(directory), name), HOLD, stdout=PIPE)
    try:
        assert owner.stdout.readline() == "held\n"

        def kill():
            # Meanwhile the epoch after it has been recorded.
            while not list(directory.glob("maps-*-0001-logits.rec")):
                time.sleep(0.01)
            owner.kill()
            owner.wait()

        killer = threading.Thread(target=kill)
        killer.start()
        found = trained(kd, splits, cache)
        killer.join()
    finally:
        owner.kill()
        owner.wait()
    assert len(passes) == base.epochs
    assert found[0][0]["waiting_seconds"] > 0
    assert_same(found, trained(changed(kd, "teachers.mode", "live"), splits, cache))


def test_a_trial_that_waits_can_be_interrupted(base, splits, cache):
    kd = changed(by(base, "kd"), "epochs", 1)
    held = try_acquire(*lease_of(kd, splits, cache, 0), "recording")

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    started = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            trained(kd, splits, cache)
    finally:
        signal.signal(signal.SIGALRM, before)
        held.release()
    assert time.monotonic() - started < 5


TWO = """
import json, sys, time
from pathlib import Path
import torch
from support.tiny import CPU, changed, tiny_splits
import test_asked
from ctkd_search.config import TrialConfig
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.expert import Expert

torch.set_num_threads(1)
passes, original = [], Expert.outputs

def slow(self, batches, outputs):
    passes.append(len(outputs))
    time.sleep(0.3)  # so that the two meet
    return original(self, batches, outputs)

Expert.outputs = slow
base = test_asked.TINY
for key, value in json.loads(sys.argv[2]).items():
    base = changed(base, key, value)
kd, at = test_asked.by(base, "kd"), test_asked.by(base, "at")
splits, asked = tiny_splits(train=150), test_asked.union(kd, at)
print("ready", flush=True)
sys.stdin.readline()
history, _ = test_asked.trained({"kd": kd, "at": at}[sys.argv[3]], splits, TeacherCache(Path(sys.argv[1])), asked)
print(json.dumps([passes, [epoch["loss"] for epoch in history]]), flush=True)
"""


@pytest.mark.slow
def test_two_processes_at_once_record_each_epoch_once(base, tmp_path):
    epochs = 4
    changes = {
        "teachers.mode": "recorded",
        "teachers.storage": "float32",
        "teachers.expert.checkpoint": base.teachers.expert.checkpoint,
        "epochs": epochs,
    }
    processes = [
        Process((str(tmp_path / "teachers"), json.dumps(changes), name), TWO, stdin=PIPE, stdout=PIPE)
        for name in ("kd", "at")
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    outcomes = []
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        outcomes.append(json.loads(output.splitlines()[-1]))
    # Logits and three maps, and between them each epoch once.
    assert sorted(itertools.chain(*(passes for passes, _ in outcomes))) == [4] * epochs
    splits = tiny_splits(train=150)
    config = dataclasses.replace(exact(base), epochs=epochs)
    for name, (_, losses) in zip(("kd", "at"), outcomes, strict=True):
        live = trained(changed(by(config, name), "teachers.mode", "live"), splits, TeacherCache(tmp_path / "none"))
        assert [epoch["loss"] for epoch in live[0]] == losses


def test_the_embedding_is_recorded_and_counted_only_where_it_is_asked_for():
    assert whole((LOGITS, *ATTENTION[1:2]), (1, 2, 3)) == (LOGITS, *ATTENTION)
    assert whole((EMBEDDING,), (1, 2, 3)) == (LOGITS, EMBEDDING)
    assert whole((*STATISTICS[:1], EMBEDDING), (1, 2)) == (LOGITS, *STATISTICS[:2], EMBEDDING)
    assert bytes_of(Passes((EMBEDDING,), 3), [(16, 64), (32, 16)], 10, 48, "float16", MapForm()) == 2 * (10 + 48)
    passes, maps = Passes((ATTENTION[0], EMBEDDING), 3), [(16, 64), (32, 16)]
    assert bytes_of(passes, maps, 10, 48, "float32", MapForm()) == 4 * (10 + 64 + 16 + 48)
    assert bytes_of(passes, maps, 100, 48, TopLogits(16), MapForm()) == 70 + 2 * (64 + 16 + 48)
    assert bytes_of(passes, maps, 10, 48, "float16", MapForm(4)) == 2 * (10 + 16 + 16 + 48)
    assert bytes_of(passes, maps, 10, 48, "float16", MapForm(4, "uint8")) == 2 * (10 + 48) + 2 * (16 + 4)


def test_an_embedding_is_shared_by_the_methods_that_compare_it(splits, cache, passes):
    base = changed(TINY, "teachers.mode", "recorded")
    configs = [by(base, "pkt"), by(base, "rkd"), by(base, "sp", activations="embedding"), by(base, "kd")]
    asked = union(*configs)
    prepare_teachers(base, splits, cache)
    for each in configs:
        trained(each, splits, cache, asked)
    assert [set(each) for each in passes] == [{LOGITS, EMBEDDING}] * base.epochs


def test_a_trial_whose_expert_computes_asks_for_no_recording():
    stages = by(TINY, "fitnets", training="stages")
    assert LOGITS in make_method(stages.method).needs.expert
    assert union(stages) == {}
    assert passes_of_teachers([(stages, make_method(stages.method).needs)]) == {}
