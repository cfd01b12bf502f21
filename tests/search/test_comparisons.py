"""The trials that a search adds itself: baselines, and the confirmation of its best."""

from __future__ import annotations

import pytest
from support.factories import RESNET, WRN, a_space, a_trial

from ctkd_search.records.store import BASELINE, DIVERGED, FAILED, RUNNING, SEARCHED, STOPPED
from ctkd_search.search.comparisons import may_win, missing_baselines, missing_confirmations, to_confirm

COSTS = {"resnet8": {"params": 1.0}, "wrn-16-1": {"params": 2.0}}
TWO = ["validation_accuracy", "params"]


def by_number(*records):
    return {record.number: record for record in records}


def baseline(number, name, pair=RESNET, *accuracies, **more):
    return a_trial(number, *(accuracies or [0.5]), pair=pair, kind=BASELINE, baseline=name, **more)


def test_baselines_come_in_order_with_their_values():
    space = a_space(baselines=["kd", "student-alone"], seed=7)
    found = missing_baselines(space, {})
    assert [(trial.number, trial.baseline, trial.values["pair"]) for trial in found] == [
        (1, "student-alone", RESNET),
        (2, "kd", RESNET),
        (3, "student-alone", WRN),
        (4, "kd", WRN),
    ]
    assert {(trial.kind, trial.seed, trial.optuna, trial.repeats) for trial in found} == {(BASELINE, 7, None, None)}
    assert missing_baselines(space, by_number(*found)) == []


def test_only_those_are_added_that_are_not_there_whatever_became_of_them():
    space = a_space(baselines=["kd", "at"])
    there = [
        a_trial(1, 0.5),
        baseline(2, "kd", status=FAILED),
        baseline(5, "at", WRN, status=RUNNING),
        # A repetition of a baseline is not the baseline.
        baseline(9, "at", RESNET, repeats=3, seed=1),
    ]
    found = missing_baselines(space, by_number(*there))
    assert [(trial.number, trial.baseline, trial.values["pair"]) for trial in found] == [
        (10, "at", RESNET),
        (11, "kd", WRN),
    ]
    assert missing_baselines(a_space(), by_number(*there)) == []


TRIALS = [
    a_trial(1, 0.5, values={"alpha": 0.1}),
    a_trial(2, 0.9, pair=WRN),
    a_trial(3, 0.7, values={"alpha": 0.3}),
    a_trial(4, 0.99, status=STOPPED),
    a_trial(5, 0.99, status=DIVERGED),
    a_trial(6, 0.8),
    baseline(10, "student-alone"),
    baseline(11, "kd"),
    baseline(12, "at", RESNET, status=FAILED),
    baseline(13, "student-alone", WRN),
    baseline(14, "kd", WRN),
    baseline(15, "kd", "wrn-16-1/resnet8"),
    baseline(16, "student-alone", "wrn-16-1/resnet8"),
]


@pytest.mark.parametrize(
    ("best", "trials", "baselines"),
    [
        (1, [2], [13, 14]),
        (2, [2, 6], [10, 11, 13, 14, 16]),
        (3, [2, 6, 3], [10, 11, 13, 14, 16]),
        (9, [2, 6, 3, 1], [10, 11, 13, 14, 16]),
    ],
)
def test_the_best_that_finished_and_the_baselines_of_their_pairs_are_confirmed(best, trials, baselines):
    space = a_space(confirm={"best": best, "seeds": 2}, seed=4)
    found = missing_confirmations(space, by_number(*TRIALS), {})
    again = [*trials, *baselines]
    assert [(trial.seed, trial.repeats) for trial in found] == [(seed, n) for seed in (5, 6) for n in again]
    assert [trial.number for trial in found] == list(range(17, 17 + 2 * len(again)))
    repeated = by_number(*TRIALS)
    for trial in found:
        original = repeated[trial.repeats]
        for key in ("values", "stored", "kind", "baseline"):
            assert getattr(trial, key) == getattr(original, key)
        assert (trial.optuna, trial.epochs, trial.explores) == (None, [], False)


def test_only_those_confirmations_are_added_that_are_not_there():
    trials = by_number(*TRIALS)
    two = missing_confirmations(a_space(confirm={"best": 2, "seeds": 2}), trials, {})
    assert missing_confirmations(a_space(confirm={"best": 2, "seeds": 2}), trials | by_number(*two), {}) == []
    more = missing_confirmations(a_space(confirm={"best": 3, "seeds": 3}), trials | by_number(*two), {})
    pairs = {(trial.repeats, trial.seed) for trial in two}
    added = {(trial.repeats, trial.seed) for trial in more}
    assert added == {(3, 1), (3, 2)} | {(n, 3) for n in (2, 6, 3, 10, 11, 13, 14, 16)}
    assert not pairs & added
    # A repetition is not confirmed in its turn, however well it did.
    for trial in two:
        trial.status, trial.epochs = "finished", [{"epoch": 1, "validation_accuracy": 1.0}]
    assert missing_confirmations(a_space(confirm={"best": 2, "seeds": 2}), trials | by_number(*two), {}) == []


def test_a_config_that_was_tried_several_times_is_confirmed_and_kept_once():
    accuracies = {1: (0.5, 1.0), 2: (0.9, 3.0), 3: (0.9, 3.0), 4: (0.9, 3.0), 5: (0.7, 2.0)}
    trials = [a_trial(n, accuracy, values={"alpha": alpha}) for n, (accuracy, alpha) in accuracies.items()]
    space = a_space(confirm={"best": 3, "seeds": 2})
    found = missing_confirmations(space, by_number(*trials), {})
    assert [trial.repeats for trial in found] == [2, 5, 1] * 2
    for each in (space, a_space()):
        assert {trial.number for trial in may_win(each, trials, {})} == {2, 5, 1}


@pytest.mark.parametrize("trials", [[], [a_trial(1, 0.9, status=STOPPED)], [baseline(1, "kd")]])
def test_where_nothing_finished_nothing_is_confirmed(trials):
    assert missing_confirmations(a_space(confirm={}), by_number(*trials), {}) == []


def test_nothing_is_confirmed_unless_it_is_asked_for():
    assert missing_confirmations(a_space(), by_number(*TRIALS), {}) == []


@pytest.mark.parametrize(("confirm", "kept"), [({"best": 1}, {2}), ({"best": 2}, {2, 6}), (None, {2, 6, 3})])
def test_students_are_kept_of_all_that_are_confirmed_or_may_be_later(confirm, kept):
    space = a_space() if confirm is None else a_space(confirm=confirm)
    assert {trial.number for trial in may_win(space, TRIALS, {})} == kept


def test_the_student_of_a_confirmed_trial_is_kept_while_a_better_one_is_not_confirmed():
    space = a_space(confirm={"best": 1, "seeds": 2})
    trials = by_number(*TRIALS)
    for again in missing_confirmations(space, trials, {}):
        trials[again.number] = again
    later = a_trial(max(trials) + 1, 0.99)
    assert {trial.number for trial in may_win(space, [*trials.values(), later], {})} == {2, later.number}


def test_of_several_objectives_the_front_is_confirmed():
    finished = [trial.number for trial in to_confirm(a_space(), TRIALS, {})]
    assert finished == [2, 6, 3, 1]
    # The larger student's best trial, and the smaller one's, however many of the larger ones do better than that.
    trials = [*TRIALS, a_trial(7, 0.95, pair=WRN), a_trial(8, 0.85, pair=WRN)]
    assert [trial.number for trial in to_confirm(a_space(objectives=TWO), trials, COSTS)] == [7, 6]
    found = missing_confirmations(a_space(objectives=TWO, confirm={"best": 2, "seeds": 2}), by_number(*trials), COSTS)
    assert {trial.repeats for trial in found if trial.kind == SEARCHED} == {7, 6}
