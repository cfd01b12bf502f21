"""The scheduler: which trials go on, also after an interruption, and what ends them all."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
import random
import warnings

import pytest
from support.factories import RESNET, WRN, a_space
from support.scheduled import CONTINUE, STOP, a_trial, decision, grouped_asha

from ctkd_search.records.store import (
    BASELINE,
    DIVERGED,
    FINISHED,
    INTERRUPTED,
    STOPPED,
    WAITING,
)
from ctkd_search.search.scheduler import GroupedAsha


def test_a_new_bracket_lets_the_first_trial_pass():
    assert decision(*grouped_asha(), 1, 1, 0.1) == CONTINUE


def test_trials_are_judged_at_rungs_alone():
    found, known = grouped_asha(a_trial(1, *[0.9] * 9))
    reports = {1: 0.9, 2: 0.1, 3: 0.9, 4: 0.1, 5: 0.1, 6: 0.1, 7: 0.1, 8: 0.1}
    assert [decision(found, known, 2, *report) for report in reports.items()] == [CONTINUE] * 8
    assert decision(found, known, 3, 1, 0.89) == STOP
    assert [decision(found, known, 4, *report) for report in ((1, 0.9), (2, 0.1), (3, 0.89))][2] == STOP


def test_a_bracket_is_filled_from_the_earlier_trials():
    # At the first rung 0.5, 0.6 and 0.7 were seen, of which the best third goes on; at the second 0.9 and 0.8.
    before = a_trial(1, 0.5, 0.6, 0.9), a_trial(2, 0.6, status=STOPPED), a_trial(3, 0.7, 0.7, 0.8, status=STOPPED)
    found, known = grouped_asha(*before)
    assert decision(found, known, 4, 1, 0.62) == STOP
    assert decision(found, known, 5, 1, 0.7) == CONTINUE
    assert decision(found, known, 6, 3, 0.81) == STOP
    assert decision(found, known, 7, 3, 0.95) == CONTINUE


@pytest.mark.parametrize("status", [INTERRUPTED, WAITING])
def test_a_trial_that_goes_on_is_not_stopped_where_it_had_passed_and_is_judged_again_at_its_last_epoch(status):
    better = [a_trial(number, *[0.9] * 9) for number in (1, 2, 3)]
    # It was let past the first rung when there was nobody else; whether past the second, may not have been decided.
    found, known = grouped_asha(*better, a_trial(4, 0.5, 0.5, 0.5, status=status))
    assert [decision(found, known, 4, epoch, 0.5) for epoch in (1, 2)] == [CONTINUE, CONTINUE]
    assert decision(found, known, 4, 3, 0.5) == STOP
    found, known = grouped_asha(*better, a_trial(4, 0.5, 0.5, 0.5, 0.5, status=status))
    assert [decision(found, known, 4, epoch, 0.5) for epoch in range(1, 9)] == [CONTINUE] * 8
    found, known = grouped_asha(*better, a_trial(4, 0.5, status=status))
    assert decision(found, known, 4, 1, 0.5) == STOP


def test_what_a_trial_reports_again_counts_once():
    before = a_trial(1, 0.9, status=STOPPED), a_trial(2, 0.2, 0.2, status=INTERRUPTED)
    found, known = grouped_asha(*before, budget={"grace_period": 1, "reduction_factor": 2})
    assert [decision(found, known, 2, epoch, 0.2) for epoch in (1, 2)] == [CONTINUE, CONTINUE]
    # One of three goes on; with 0.2 twice it would be two of four.
    assert decision(found, known, 3, 1, 0.5) == STOP


def test_a_trial_that_failed_goes_on_where_it_had_passed_though_better_ones_have_come():
    found, known = grouped_asha()
    assert decision(found, known, 1, 1, 0.5) == CONTINUE
    assert [decision(found, known, number, 1, 0.9) for number in (2, 3, 4)] == [CONTINUE] * 3
    assert decision(found, known, 1, 1, 0.5) == CONTINUE
    assert decision(found, known, 5, 1, 0.5) == STOP


def test_what_has_diverged_is_not_judged_by_its_last_epoch():
    # Ray does not ask about an epoch with which a trial is done; the same holds when it is read from its record.
    found, known = grouped_asha(a_trial(1, 0.2, status=DIVERGED), a_trial(2, 0.5, 0.5, 0.9, status=DIVERGED))
    assert decision(found, known, 3, 1, 0.4) == CONTINUE
    # Of three at the first rung, one of which diverged later, one goes on; with the first one it would be one of four.
    assert decision(found, known, 4, 1, 0.3) == STOP
    assert decision(found, known, 5, 3, 0.1) == CONTINUE


@pytest.mark.parametrize("accuracy", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_what_is_no_number_goes_no_further_and_is_no_measure_for_others(accuracy, epoch):
    found, known = grouped_asha()
    assert decision(found, known, 1, epoch, accuracy) == STOP
    assert decision(found, known, 2, 1, 0.1) == CONTINUE
    found, known = grouped_asha(
        a_trial(1, *[0.5] * (epoch - 1), accuracy, status=STOPPED), a_trial(2, 0.4, status=STOPPED)
    )
    assert decision(found, known, 3, 3, 0.1) == CONTINUE
    assert decision(found, known, 4, 1, 0.39) == STOP


def test_baselines_and_confirmations_are_never_stopped_and_judge_nobody():
    others = [a_trial(number, *[0.95] * 9, kind=BASELINE, baseline="kd") for number in (1, 2)]
    others += [a_trial(3, *[0.95] * 9, repeats=9)]
    found, known = grouped_asha(*others, a_trial(4, *[0.9] * 9))
    for number, more in [(5, {"kind": BASELINE, "baseline": "at"}), (6, {"repeats": 4})]:
        assert [decision(found, known, number, epoch, 0.1, **more) for epoch in range(1, 9)] == [CONTINUE] * 8
        assert decision(found, known, number, 1, math.nan, **more) == CONTINUE
    assert decision(found, known, 7, 1, 0.9) == CONTINUE
    assert decision(found, known, 8, 1, 0.89) == STOP


def test_without_a_scheduler_nothing_is_stopped():
    found, known = grouped_asha(a_trial(1, *[0.9] * 9), scheduler="none")
    reports = itertools.product(range(1, 9), [0.1, math.nan])
    assert {decision(found, known, 2, epoch, accuracy) for epoch, accuracy in reports} == {CONTINUE}


def test_of_several_objectives_only_trials_of_the_same_student_are_compared():
    seen = [a_trial(1, *[0.9] * 9, pair=RESNET), a_trial(2, *[0.5] * 9, pair=WRN)]
    for objectives, small in [(["validation_accuracy"], STOP), (["validation_accuracy", "params"], CONTINUE)]:
        found, known = grouped_asha(*seen, objectives=objectives)
        assert decision(found, known, 3, 1, 0.6, pair=RESNET) == STOP
        assert decision(found, known, 4, 1, 0.6, pair=WRN) == small
        assert decision(found, known, 5, 1, 0.4, pair=WRN) == STOP


def first_stops(found, known, count):
    """After how many epochs each of some trials is stopped, every one of them worse than all before it."""
    stops = []
    for number in range(1, count + 1):
        reports = (epoch for epoch in range(1, 9) if decision(found, known, number, epoch, -number) == STOP)
        stops.append(next(reports, None))
    return stops


def test_hyperband_spreads_trials_over_its_brackets_by_their_numbers():
    asha = first_stops(*grouped_asha(), 200)
    assert asha == [None] + [1] * 199
    both = first_stops(*grouped_asha(scheduler="hyperband"), 200)
    # The second bracket judges after epoch 3 for the first time; as Ray weighs it, it gets 1 of 1 + e trials.
    assert set(both) == {None, 1, 3}
    assert both.count(None) == 2
    assert both.count(3) / 200 == pytest.approx(1 / (1 + math.e), abs=0.1)
    assert first_stops(*grouped_asha(scheduler="hyperband"), 200) == both
    assert first_stops(*grouped_asha(scheduler="hyperband", seed=1), 200) != both


def test_hyperband_has_as_many_brackets_as_it_is_told_or_as_there_are_rungs():
    budget = {"epochs": 28, "grace_period": 1, "reduction_factor": 3}
    every = first_stops(*grouped_asha(scheduler="hyperband", budget=budget), 200)
    two = first_stops(*grouped_asha(scheduler={"name": "hyperband", "brackets": 2}, budget=budget), 200)
    assert a_space(budget=budget).budget.rungs() == [1, 3, 9, 27]
    assert set(every) - {None} == {1, 3}  # nine epochs are beyond what is reported here
    assert every.count(None) > two.count(None) == 2
    assert set(two) - {None} == {1, 3}


def test_a_trial_keeps_its_bracket_after_an_interruption():
    space = a_space(scheduler={"name": "hyperband", "signal": "objective", "horizon": 0})
    known, reports = {}, []
    found, draw = GroupedAsha(space, known), random.Random(0)
    for number in range(1, 60):
        for epoch in range(1, 9):
            accuracy = draw.random()
            goes_on = decision(found, known, number, epoch, accuracy) == CONTINUE
            reports.append((number, epoch, accuracy, goes_on))
            known[number].epochs.append({"epoch": epoch, "validation_accuracy": accuracy})
            if not goes_on:
                known[number].status = STOPPED
                break
        else:
            known[number].status = FINISHED
    # The same reports, with everything read again from the records before each trial.
    again = {}
    for number, told in itertools.groupby(reports, key=lambda report: report[0]):
        found = GroupedAsha(space, again)
        for _, epoch, accuracy, goes_on in told:
            assert decision(found, again, number, epoch, accuracy) == (CONTINUE if goes_on else STOP)
        again[number] = known[number]
    assert {trial.status for trial in known.values()} == {FINISHED, STOPPED}


@pytest.mark.parametrize(
    "budget",
    [
        {"epochs": 9, "grace_period": 1, "reduction_factor": 3},
        {"epochs": 10, "grace_period": 1, "reduction_factor": 3},
        {"epochs": 60, "grace_period": 3, "reduction_factor": 3},
        {"epochs": 200, "grace_period": 1, "reduction_factor": 2},
        {"epochs": 244, "grace_period": 1, "reduction_factor": 3},
        {"epochs": 126, "grace_period": 1, "reduction_factor": 5},
        {"epochs": 7, "grace_period": 7, "reduction_factor": 2},
    ],
    ids=str,
)
def test_trials_are_stopped_after_the_epochs_that_the_budget_announces_and_no_others(budget):
    rungs = a_space(budget=budget).budget.rungs()
    # Every rung and its neighbours, and what lies in the middle between two.
    near = {rung + off for rung in rungs for off in (-1, 0, 1)}
    between = {(one + other) // 2 for one, other in itertools.pairwise([*rungs, budget["epochs"]])}
    stopping = []
    for epoch in sorted((near | between) & set(range(1, budget["epochs"]))):
        found, known = grouped_asha(a_trial(1, *[0.9] * budget["epochs"]), budget=budget)
        for earlier in range(1, epoch):
            assert decision(found, known, 2, earlier, 0.9) == CONTINUE
        if decision(found, known, 2, epoch, 0.1) == STOP:
            stopping.append(epoch)
    assert stopping == rungs


def test_records_of_what_is_no_number_are_read_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, known = grouped_asha(a_trial(1, math.nan, status=STOPPED), a_trial(2, math.nan, status=STOPPED))
        assert decision(found, known, 3, 1, 0.1) == CONTINUE


def test_rays_snapshots_hold_a_placeholder_and_copies_are_the_scheduler_itself():
    scheduler = grouped_asha()[0]
    assert pickle.loads(pickle.dumps(scheduler)) == "GroupedAsha, which stays in its process"
    assert copy.deepcopy(scheduler) is scheduler
