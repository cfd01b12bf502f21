"""The scheduler: which trials go on, also after an interruption, and what ends them all."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
import random
import warnings
from types import SimpleNamespace

import pytest
from support import factories
from support.factories import RESNET, WRN, a_space

from ctkd_search.records.store import (
    BASELINE,
    DIVERGED,
    FAILED,
    FINISHED,
    INTERRUPTED,
    PAUSED,
    STOPPED,
    WAITING,
)
from ctkd_search.search.scheduler import GroupedAsha

STOP, CONTINUE = "STOP", "CONTINUE"


def a_trial(number, *accuracies, alpha=None, **more):
    """Return the record of a trial with a config of its own, unless it is given."""
    return factories.a_trial(number, *accuracies, values={"alpha": number if alpha is None else alpha}, **more)


def grouped_asha(*records, **sections):
    """Return the scheduler of a search of nine epochs with rungs after epochs 1 and 3, and its trials."""
    known = {record.number: record for record in records}
    given = sections.pop("scheduler", "asha")
    scheduler = {"name": given} if isinstance(given, str) else given
    if scheduler["name"] != "none":
        scheduler = {"signal": "objective", "horizon": 0, **scheduler}
    return GroupedAsha(a_space(**sections, scheduler=scheduler), known), known


def decision(found, known, number, epoch, accuracy, **more):
    """Returns the decision about a trial that reports a value; an unknown trial begins."""
    known.setdefault(number, a_trial(number, status="running", **more))
    trial = SimpleNamespace(config={"number": number}, trial_id=f"r{number}")
    result = {"training_iteration": epoch, "metrics": (("validation_accuracy", accuracy),)}
    return found.on_trial_result(None, trial, result)


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
    before = a_trial(1, 0.5, 0.6, 0.9), a_trial(2, 0.6, status=STOPPED), a_trial(3, 0.7, 0.7, 0.8, status=FAILED)
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
    assert decision(found, known, 3, 1, 0.4) == STOP
    assert decision(found, known, 4, 3, 0.1) == CONTINUE


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


def paused(found, known, *trials):
    """Trials that have reached a rung and do not go on: (number, epochs, accuracy)."""
    for number, epochs, accuracy in trials:
        known[number] = a_trial(number, *[accuracy] * epochs, status=PAUSED)
        found.on_trial_result(
            None,
            SimpleNamespace(config={"number": number}),
            {"training_iteration": epochs, "metrics": (("validation_accuracy", accuracy),)},
        )


def test_a_paused_trial_is_promoted_once_its_rung_has_room_the_best_of_the_highest_rung_first():
    found, known = grouped_asha(budget={"trials": 40})
    assert decision(found, known, 1, 1, 0.9) == CONTINUE
    paused(found, known, (2, 1, 0.7), (3, 1, 0.8))
    assert found.promoted(more=True) is None
    paused(found, known, (4, 1, 0.1), (5, 1, 0.2))
    assert found.promoted(more=True) is None  # five have come, of which one goes on
    paused(found, known, (6, 1, 0.3))
    assert found.promoted(more=True).number == 3  # the second best of six
    known[3].status = "running"
    assert found.promoted(more=True) is None
    # At the next rung too.
    assert decision(found, known, 3, 3, 0.5) == CONTINUE
    paused(found, known, (7, 3, 0.4), *((number, 3, 0.3) for number in range(8, 12)))
    assert found.promoted(more=True).number == 7
    # It passes the epochs that it reports again, though better ones have come meanwhile.
    assert decision(found, known, 12, 3, 0.99) == decision(found, known, 13, 3, 0.99) == CONTINUE
    known[7].status = "running"
    assert decision(found, known, 7, 3, 0.4) == CONTINUE


def test_a_trial_is_paused_only_as_long_as_it_may_still_be_promoted():
    found, known = grouped_asha(budget={"trials": 6})
    paused(found, known, (1, 1, 0.9), (2, 1, 0.5), (3, 1, 0.6))
    # Of six trials two go on.
    assert [found.pauses(known[number]) for number in (1, 2, 3)] == [True, False, True]
    assert [record.number for record in found.hopeless()] == [2]
    known[2].status = STOPPED
    paused(found, known, (4, 1, 0.7))
    assert [record.number for record in found.hopeless()] == [3]
    # One that failed before the rung will not make room: of five trials one goes on.
    known[5] = a_trial(5, status=FAILED)
    assert [record.number for record in found.hopeless()] == [3, 4]


def test_trials_that_are_not_to_be_promoted_are_stopped_at_once():
    found, known = grouped_asha(scheduler={"name": "asha", "promote": False}, budget={"trials": 40})
    paused(found, known, (1, 1, 0.9), (2, 1, 0.5))
    assert not found.pauses(known[2])
    never, known = grouped_asha(scheduler="none")
    known[1] = a_trial(1, 0.5)
    assert not never.pauses(known[1])


def test_after_a_constant_number_of_epochs_all_wait_and_the_best_of_all_are_trained_to_their_end():
    scheduler = {"name": "constant", "best": 2}
    found, known = grouped_asha(scheduler=scheduler, budget={"trials": 4, "grace_period": 2})
    for number, accuracy in ((1, 0.9), (2, 0.5), (3, 0.6), (4, 0.7)):
        assert decision(found, known, number, 1, accuracy) == CONTINUE
        assert decision(found, known, number, 2, accuracy) == STOP
    for number, accuracy in ((1, 0.9), (2, 0.5), (3, 0.6), (4, 0.7)):
        known[number] = a_trial(number, accuracy, accuracy, status=PAUSED)
    assert [record.number for record in found.hopeless()] == [2, 3]
    assert found.promoted(more=True) is None
    known[5] = a_trial(5, 0.1, status="running")  # one more is on its way to the rung
    assert found.promoted(more=False) is None
    del known[5]
    first = found.promoted(more=False)
    first.status = "running"
    second = found.promoted(more=False)
    second.status = "running"
    assert (first.number, second.number) == (1, 4)
    assert found.promoted(more=False) is None
    assert [decision(found, known, 4, epoch, 0.7) for epoch in range(1, 9)] == [CONTINUE] * 8


def test_after_a_constant_number_of_epochs_no_more_than_the_best_go_on_where_scores_are_equal():
    found, known = grouped_asha(scheduler={"name": "constant", "best": 2}, budget={"trials": 4, "grace_period": 2})
    for number in (3, 1, 4, 2):
        known[number] = a_trial(number, 0.5, 0.5, status=PAUSED)
        assert decision(found, known, number, 2, 0.5) == STOP
    assert sorted(record.number for record in found.hopeless()) == [3, 4]
    promoted = []
    while (record := found.promoted(more=False)) is not None:
        record.status = "running"
        promoted.append(record.number)
    assert promoted == [1, 2]


def test_of_trials_with_the_same_config_and_score_the_first_alone_goes_on_and_counts():
    found, known = grouped_asha(budget={"trials": 40})
    assert decision(found, known, 1, 1, 0.9, alpha=1.0) == CONTINUE
    assert decision(found, known, 2, 1, 0.9, alpha=2.0) == CONTINUE
    for number in range(3, 9):
        assert decision(found, known, number, 1, 0.9, alpha=1.0) == STOP
        known[number] = a_trial(number, 0.9, alpha=1.0, status=PAUSED)
    assert not found.pauses(known[3])
    assert [record.number for record in found.hopeless()] == list(range(3, 9))
    assert found.promoted(more=False) is None
    # Where it has learned otherwise, as on another machine, it is a trial as any other.
    assert decision(found, known, 9, 1, 0.91, alpha=1.0) == CONTINUE
    known[1] = a_trial(1, *[0.9] * 9, alpha=1.0)
    again, _ = grouped_asha(*known.values(), budget={"trials": 40})
    assert [record.number for record in again.hopeless()] == list(range(3, 9))


def test_trials_are_compared_by_the_signal_that_the_space_names():
    def order(**scheduler):
        """The trials in the order in which the scheduler would promote them."""
        space = a_space(scheduler={"name": "asha", **scheduler}, budget={"trials": 40, "grace_period": 1})
        epoch = {"epoch": 1}
        measured = {
            1: {"validation_accuracy": 0.9, "validation_loss": 0.5},
            2: {"validation_accuracy": 0.8, "validation_loss": 0.4},
        }
        measured[1] |= {"averaged_validation_accuracy": 0.6, "averaged_validation_loss": 0.2}
        measured[2] |= {"averaged_validation_accuracy": 0.7, "averaged_validation_loss": 0.3}
        known = {n: a_trial(n, status=PAUSED, epochs=[{**epoch, **values}]) for n, values in measured.items()}
        return GroupedAsha(space, known).promoted(more=True).number

    assert order(signal="objective", horizon=0) == 1
    assert order(signal="loss", horizon=0) == 2
    assert order(signal="objective", horizon=0.5) == 2
    assert order(signal="loss", horizon=2) == order(signal="loss") == 1
