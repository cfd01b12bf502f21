"""The signal that ends all trials: its reasons, and the time budget."""

from __future__ import annotations

import copy
import pickle
import threading

import pytest

from ctkd_search.search.stop_signal import StopReason, StopSignal


def test_the_signal_ends_all_trials_and_none_alone_until_its_reasons_are_forgotten():
    signal = StopSignal(None)
    assert (signal.seconds_left(), signal.reason, signal.stop_all()) == (None, None, False)
    signal.set(StopReason.DISK_FULL)
    signal.set(StopReason.GPU_MEMORY)
    assert (signal.reason, signal.stop_all(), signal("r1", {})) == (StopReason.DISK_FULL, True, False)
    signal.forget()
    assert (signal.reason, signal.stop_all()) == (None, False)


@pytest.mark.parametrize("first", [StopReason.GPU_MEMORY, StopReason.NO_NEXT_TRIAL])
def test_an_interruption_is_not_lost_behind_a_reason_that_came_before(first):
    signal = StopSignal(None)
    signal.set(first)
    signal.set(StopReason.INTERRUPTED)
    assert signal.reason is StopReason.INTERRUPTED
    signal.forget(first)
    assert signal.reason is StopReason.INTERRUPTED


@pytest.mark.parametrize("other", [StopReason.GPU_MEMORY, StopReason.INTERRUPTED, StopReason.DISK_FULL])
def test_a_search_that_another_process_has_taken_over_stays_so(other):
    signal = StopSignal(None)
    for reason in (other, StopReason.TAKEN_OVER, other):
        signal.set(reason)
    assert signal.reason is StopReason.TAKEN_OVER
    signal.forget(other)
    signal.forget()
    assert (signal.reason, signal.stop_all()) == (StopReason.TAKEN_OVER, True)


def test_the_signal_is_set_when_the_time_budget_is_over_and_another_reason_comes_first():
    assert 99 < StopSignal(100).seconds_left() <= 100
    assert (StopSignal(100).reason, StopSignal(100).stop_all()) == (None, False)
    over = StopSignal(0)
    assert (over.seconds_left(), over.reason, over.stop_all(), over("r1", {})) == (
        0,
        StopReason.TIME_BUDGET,
        True,
        False,
    )
    over.forget()
    assert over.stop_all()
    over.set(StopReason.INTERRUPTED)
    assert over.reason is StopReason.INTERRUPTED


def test_a_callback_ends_all_trials_and_other_reasons_come_first_until_they_are_forgotten():
    asked = threading.Event()
    signal = StopSignal(0, asked)
    assert signal.reason is StopReason.TIME_BUDGET
    asked.set()
    assert (signal.reason, signal.stop_all()) == (StopReason.CALLBACK, True)
    signal.set(StopReason.GPU_MEMORY)
    assert signal.reason is StopReason.GPU_MEMORY
    signal.forget()
    assert signal.reason is StopReason.CALLBACK
    signal.set(StopReason.INTERRUPTED)
    assert signal.reason is StopReason.INTERRUPTED


def test_the_texts_of_the_reasons_stay_as_they_are_in_kept_records():
    assert StopReason.TIME_BUDGET.value == "the time budget ended"
    assert StopReason.INTERRUPTED.value == "stopped by a signal"
    assert StopReason.CALLBACK.value == "stopped by a callback"
    assert StopReason.GPU_MEMORY.value == "the GPU has no room for so many trials"


def test_rays_snapshots_hold_a_placeholder_and_copies_are_the_signal_itself():
    signal = StopSignal(1)
    assert pickle.loads(pickle.dumps(signal)) == "StopSignal, which stays in its process"
    assert copy.deepcopy(signal) is signal
