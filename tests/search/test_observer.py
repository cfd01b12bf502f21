"""Ray's events in the records, the calls of listeners, and the files that are kept."""

from __future__ import annotations

import copy
import errno
import math
import pickle
from types import SimpleNamespace

import pytest
import torch
from support.factories import a_trial

from ctkd_search.records.listener import TrialListener
from ctkd_search.records.states import state_path, write_state
from ctkd_search.records.store import (
    BASELINE,
    DIVERGED,
    FAILED,
    FINISHED,
    INTERRUPTED,
    RUNNING,
    STOPPED,
    WAITING,
    SearchFolder,
    contenders,
)
from ctkd_search.search.observer import Observer
from ctkd_search.search.record_writer import RecordWriter
from ctkd_search.search.stop_signal import StopReason, StopSignal

LUCK, CUDA = (
    "OSError: [Errno 5] Input/output error",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20 MiB",
)
WRONG, FULL = "ctkd_search.errors.UserError: cannot read w.pt", "OSError: [Errno 28] No space left on device"
DEAD = "The actor died unexpectedly before finishing this task."


class Log(TrialListener):
    """A listener that records its calls."""

    def __init__(self):
        self.events = []

    def trial_started(self, trial):
        self.events.append(("started", trial.number, trial.status, trial.reason))

    def trial_reported(self, trial):
        self.events.append(("reported", trial.number, trial.epochs[-1]["epoch"]))

    def trial_ended(self, trial):
        self.events.append(("ended", trial.number, trial.status, trial.reason))

    def tick(self, trials):
        self.events.append(("tick", [trial.number for trial in trials]))


class Ray:
    """Trials as Ray reports them to an observer of three epochs and two retries."""

    def __init__(self, directory, retries=2, packed=False, listeners=None):
        self.directory = directory
        self.records = {number: a_trial(number, status=WAITING) for number in (1, 2)}
        self.log, self.stop_signal, self.said = Log(), StopSignal(None), []
        listeners = [*(listeners or []), self.log]
        self.observer = Observer(3, retries, directory, listeners, self.records, self.stop_signal, self.said.append)
        self.observer.packed = packed

    def trial(self, number, **more):
        return SimpleNamespace(trial_id="r", config={"number": number}, last_result=None, error_file=None, **more)

    def start(self, number):
        self.observer.on_trial_start(0, [], self.trial(number))

    def report(self, number, *epochs, notes=(), **metrics):
        for epoch in epochs:
            told = {"epoch": epoch, "validation_accuracy": epoch / 10, **metrics}
            result = {"metrics": told, "notes": list(notes), "training_iteration": epoch}
            self.observer.on_trial_result(0, [], self.trial(number), result)

    def complete(self, number, **result):
        trial = self.trial(number)
        trial.last_result = result or None
        self.observer.on_trial_complete(0, [], trial)

    def fail(self, number, message):
        path = self.directory / "error.txt"
        path.write_text(f"Failure # 1 (occurred at noon)\n{message}\n")
        trial = self.trial(number)
        trial.error_file = str(path)
        self.observer.on_trial_error(0, [], trial)


@pytest.fixture
def ray(tmp_path):
    return Ray(tmp_path)


@pytest.mark.parametrize(
    ("epochs", "result", "status", "reason"),
    [
        ((1, 2, 3), {}, FINISHED, "all 3 epochs"),
        ((1, 2), {}, STOPPED, "after epoch 2"),
        ((1, 2), {"diverged": False}, STOPPED, "after epoch 2"),
        ((1, 2), {"diverged": True}, DIVERGED, "the loss was no longer a finite number in epoch 2"),
        ((1, 2, 3), {"diverged": True}, DIVERGED, "the loss was no longer a finite number in epoch 3"),
    ],
)
def test_a_trial_that_completes_has_a_reason(ray, epochs, result, status, reason):
    ray.start(1)
    ray.report(1, *epochs)
    ray.complete(1, **result)
    told = [("reported", 1, epoch) for epoch in epochs]
    assert ray.log.events == [("started", 1, RUNNING, ""), *told, ("ended", 1, status, reason)]
    assert (ray.records[1].status, ray.records[1].reason) == (status, reason)
    assert [epoch["epoch"] for epoch in ray.records[1].epochs] == list(epochs)
    assert ray.records[2] == a_trial(2, status=WAITING)


def test_a_trial_that_goes_on_reports_its_epochs_again_and_they_count_once(ray):
    ray.start(1)
    ray.report(1, 1, 2)
    ray.fail(1, LUCK)
    ray.start(1)
    ray.report(1, 1, 2, 3, validation_accuracy=math.nan)
    ray.complete(1)
    assert [epoch["epoch"] for epoch in ray.records[1].epochs] == [1, 2, 3]
    assert [epoch["validation_accuracy"] for epoch in ray.records[1].epochs[:2]] == [0.1, 0.2]
    assert [event for event in ray.log.events if event[0] == "reported"] == [("reported", 1, n) for n in (1, 2, 3)]


@pytest.mark.parametrize("retries", [0, 1, 3])
@pytest.mark.parametrize("message", [LUCK, DEAD], ids=["raised", "died"])
def test_what_may_pass_is_tried_again_as_often_as_the_space_sets(tmp_path, retries, message):
    ray = Ray(tmp_path, retries)
    reason = LUCK if message == LUCK else "its worker process died"
    for number in range(1, retries + 1):
        ray.start(1)
        ray.fail(1, message)
        assert (ray.records[1].status, ray.records[1].retries) == (WAITING, number)
        assert ray.records[1].reason == f"to be tried again: {reason}"
        assert len(ray.said) == number
        assert ray.said[-1] == f"trial 1: {reason}; going on from its last epoch"
    ray.start(1)
    ray.fail(1, message)
    again = {0: "", 1: " (tried again once)", 3: " (tried again 3 times)"}[retries]
    assert (ray.records[1].status, ray.records[1].reason) == (FAILED, f"{reason}{again}")
    assert ray.records[1].retries == retries
    assert ray.log.events[-1] == ("ended", 1, FAILED, f"{reason}{again}")
    assert ray.stop_signal.reason is None


def test_what_the_user_must_change_is_not_tried_again(ray):
    ray.start(1)
    ray.fail(1, WRONG)
    assert (ray.records[1].status, ray.records[1].reason, ray.records[1].retries) == (FAILED, "cannot read w.pt", 0)
    assert (ray.said, ray.stop_signal.reason) == ([], None)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("message", [FULL, "ctkd_search.errors.UserError: cannot write x: No space left on device"])
def test_a_full_disk_ends_the_search_and_costs_no_retry(tmp_path, packed, message):
    ray = Ray(tmp_path, packed=packed)
    ray.start(1)
    ray.fail(1, message)
    assert (ray.records[1].status, ray.records[1].retries, ray.stop_signal.reason) == (WAITING, 0, StopReason.DISK_FULL)
    assert ray.log.events[-1][:3] == ("ended", 1, WAITING)


def test_trials_that_are_packed_too_tightly_stop_all_and_cost_no_retry(tmp_path):
    ray = Ray(tmp_path, packed=True)
    ray.start(1)
    ray.fail(1, CUDA)
    assert (ray.records[1].status, ray.records[1].reason, ray.records[1].retries) == (WAITING, CUDA, 0)
    assert ray.stop_signal.reason is StopReason.GPU_MEMORY
    # Another failure is one, packed or not.
    ray.start(2)
    ray.fail(2, LUCK)
    assert (ray.records[2].status, ray.records[2].retries) == (WAITING, 1)


def test_a_trial_alone_on_its_gpu_that_needs_too_much_is_a_failure_like_others(tmp_path):
    ray = Ray(tmp_path, retries=1)
    for status in (WAITING, FAILED):
        ray.start(1)
        ray.fail(1, CUDA)
        assert (ray.records[1].status, ray.stop_signal.reason) == (status, None)


def test_a_note_is_reported_once_whoever_has_it(ray):
    ray.start(1)
    ray.start(2)
    ray.report(1, 1, notes=["maps are computed", "maps are computed"])
    ray.report(2, 1, notes=["maps are computed", "its kept state is damaged"])
    assert ray.said == ["maps are computed", "its kept state is damaged"]


def test_what_was_running_is_closed_and_the_rest_left_as_it_is(ray):
    ray.start(1)
    ray.report(1, 1)
    before = copy.deepcopy(ray.records[2])
    ray.observer.close_running(WAITING, StopReason.GPU_MEMORY.value)
    assert (ray.records[1].status, ray.records[1].reason) == (WAITING, StopReason.GPU_MEMORY.value)
    assert ray.records[2] == before
    ray.observer.close_running(INTERRUPTED, "again")
    assert ray.records[1].status == WAITING


@pytest.mark.parametrize("reported", [0, 1, 2, 3])
def test_an_interrupted_trial_takes_up_what_it_had_kept_and_not_reported(ray, reported):
    ray.start(1)
    ray.report(1, *range(1, reported + 1))
    history = [{"epoch": epoch, "validation_accuracy": epoch / 10} for epoch in (1, 2)]
    write_state(state_path(ray.directory, 1), {"history": history, "weights": torch.ones(2)})
    ray.observer.close_running(INTERRUPTED, "the search was interrupted")
    assert [epoch["epoch"] for epoch in ray.records[1].epochs] == list(range(1, max(reported, 2) + 1))
    reports = [event[2] for event in ray.log.events if event[0] == "reported"]
    assert reports == list(range(1, max(reported, 2) + 1))
    assert ray.log.events[-1] == ("ended", 1, INTERRUPTED, "the search was interrupted")


def test_a_damaged_state_is_no_obstacle_to_an_interruption(ray):
    ray.start(1)
    state_path(ray.directory, 1).write_bytes(b"half a state")
    ray.observer.close_running(INTERRUPTED, "the search was interrupted")
    assert (ray.records[1].status, ray.records[1].epochs) == (INTERRUPTED, [])


def test_a_state_that_cannot_be_read_now_is_no_obstacle_to_an_interruption(ray):
    ray.start(1)
    path = state_path(ray.directory, 1)
    path.symlink_to(path)
    ray.observer.close_running(INTERRUPTED, "the search was interrupted")
    assert (ray.records[1].status, ray.records[1].epochs) == (INTERRUPTED, [])


def test_listeners_are_called_in_order_also_between_events(ray):
    ray.observer.on_step_end(0, [])
    assert ray.log.events == [("tick", [1, 2])]


class Broken(Log):
    """A listener that fails to write."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def trial_reported(self, trial):
        raise self.error


def test_a_listener_without_room_stops_the_search_and_other_faults_are_raised(tmp_path):
    ray = Ray(tmp_path, listeners=[Broken(OSError(errno.ENOSPC, "No space left on device"))])
    ray.start(1)
    ray.report(1, 1)
    assert ray.stop_signal.reason is StopReason.DISK_FULL
    # Those after it are not told either: nobody knows more than is on disk.
    assert [event[0] for event in ray.log.events] == ["started"]
    ray = Ray(tmp_path, listeners=[Broken(ValueError("a fault"))])
    ray.start(1)
    with pytest.raises(ValueError, match="a fault"):
        ray.report(1, 1)


def test_rays_snapshots_hold_a_placeholder(ray):
    assert pickle.loads(pickle.dumps(ray.observer)) == "Observer, which stays in its process"


def kept_states(directory):
    return sorted(int(path.stem) for path in directory.glob("*.pt"))


def writer_of(tmp_path, records, most=1):
    folder = SearchFolder(tmp_path, "x")
    for number in records:
        write_state(state_path(folder.states, number), {"history": []})
    return folder, RecordWriter(folder, records, lambda found: contenders(found)[:most], {1: "run 1"}.get)


@pytest.mark.parametrize(
    ("most", "states"),
    [(1, [2, 5, 6, 7]), (2, [2, 3, 5, 6, 7]), (9, [1, 2, 3, 5, 6, 7])],
)
def test_states_are_kept_of_what_may_win_or_go_on(tmp_path, most, states):
    records = {
        1: a_trial(1, 0.5),
        2: a_trial(2, 0.9),
        3: a_trial(3, 0.7),
        4: a_trial(4, 0.95, status=STOPPED),
        5: a_trial(5, 0.1, status=RUNNING),
        6: a_trial(6, status=WAITING),
        7: a_trial(7, 0.2, status=INTERRUPTED),
        8: a_trial(8, 0.99, kind=BASELINE, baseline="kd"),
        9: a_trial(9, 0.99, repeats=2),
        10: a_trial(10, 0.99, status=DIVERGED),
    }
    folder, writer = writer_of(tmp_path, records, most)
    writer.trial_reported(records[5])
    assert kept_states(folder.states) == list(range(1, 11))
    writer.trial_ended(records[10])
    assert kept_states(folder.states) == states


def test_while_nothing_has_finished_the_best_that_ran_is_kept(tmp_path):
    records = {1: a_trial(1, 0.5, status=STOPPED), 2: a_trial(2, 0.6, status=FAILED), 3: a_trial(3, status=FAILED)}
    folder, writer = writer_of(tmp_path, records)
    writer.trial_ended(records[1])
    assert kept_states(folder.states) == [2]


def test_every_event_of_a_trial_is_kept_with_its_run(tmp_path):
    records = {1: a_trial(1, status=WAITING), 2: a_trial(2, run_id="known")}
    folder, writer = writer_of(tmp_path, records)
    writer.trial_started(records[1])
    assert folder.trials() == [records[1]]
    records[1].epochs.append({"epoch": 1, "validation_accuracy": 0.5})
    writer.trial_reported(records[1])
    assert folder.trials() == [records[1]]
    records[1].status = FINISHED
    writer.trial_ended(records[1])
    writer.trial_ended(records[2])
    assert [(record.status, record.run_id) for record in folder.trials()] == [(FINISHED, "run 1"), (FINISHED, "known")]


def test_what_the_training_raises_is_told_at_once(ray):
    ray.start(1)
    ray.report(1, 1)
    ray.fail(1, "ValueError: Expected more than 1 value per channel when training")
    reason = "ValueError: Expected more than 1 value per channel when training"
    assert (ray.records[1].status, ray.records[1].reason, ray.records[1].retries) == (FAILED, reason, 0)
    assert ray.said == []


@pytest.mark.parametrize(("before", "second"), [("A: b", FAILED), ("A: c", WAITING)], ids=["the same", "another"])
def test_what_is_raised_twice_at_the_same_place_is_not_tried_a_third_time(tmp_path, before, second):
    ray = Ray(tmp_path, retries=5)
    ray.start(1)
    ray.report(1, 1)
    ray.fail(1, f"package.{before}")
    assert ray.records[1].status == WAITING
    ray.start(1)
    ray.fail(1, "package.A: b")
    assert ray.records[1].status == second


def test_what_is_raised_again_further_on_is_tried_again(tmp_path):
    ray = Ray(tmp_path, retries=5)
    for epoch in (1, 2, 3):
        ray.start(1)
        ray.report(1, *range(1, epoch + 1))
        ray.fail(1, "package.Mishap: once more")
        assert ray.records[1].status == WAITING


def test_an_interruption_is_said_once_at_the_next_step(ray):
    ray.observer.on_step_end(0, [])
    assert ray.said == []
    ray.stop_signal.set(StopReason.INTERRUPTED)
    ray.observer.on_step_end(1, [])
    ray.observer.on_step_end(2, [])
    assert ray.said == ["stopping; all results so far are kept ..."]
