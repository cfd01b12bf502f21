"""Who won, and what can be told from it."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from scipy import stats
from support.factories import a_trial, repetitions

from ctkd_search.analysis.intervals import Family, estimate
from ctkd_search.analysis.standing import (
    Standing,
    best_so_far,
    confirmed,
    find_trial,
    gap_to,
    verdicts,
    winner,
)
from ctkd_search.errors import UserError
from ctkd_search.records.store import BASELINE, DIVERGED, FAILED, RUNNING, STOPPED


@pytest.mark.parametrize(
    ("values", "mean", "deviation", "half_width"),
    [
        # One degree of freedom: the 97.5 % quantile is tan(0.475 pi).
        ([1.0, 3.0], 2.0, math.sqrt(2), math.tan(0.475 * math.pi)),
        # Two: it is 0.95 sqrt(2 / (1 - 0.95 ** 2)).
        ([1.0, 2.0, 3.0], 2.0, 1.0, 0.95 * math.sqrt(2 / (1 - 0.95**2)) / math.sqrt(3)),
        ([0.5, 0.5, 0.5, 0.5], 0.5, 0.0, 0.0),
    ],
)
def test_an_estimate_is_that_of_the_textbook(values, mean, deviation, half_width):
    found = estimate(values)
    assert found.mean == pytest.approx(mean)
    assert found.deviation == pytest.approx(deviation)
    assert found.half_width == pytest.approx(half_width)
    assert found.n == len(values)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 100])
def test_an_estimate_is_that_of_scipy(n):
    draw = random.Random(n)
    values = [draw.gauss(0.8, 0.05) for _ in range(n)]
    found = estimate(values)
    low, high = stats.t.interval(0.95, n - 1, loc=statistics.fmean(values), scale=stats.sem(values))
    assert found.mean - found.half_width == pytest.approx(low)
    assert found.mean + found.half_width == pytest.approx(high)
    assert found.deviation == pytest.approx(statistics.stdev(values))
    assert found.excludes(low - 1e-9)
    assert found.excludes(high + 1e-9)
    assert not found.excludes(low + 1e-9)
    assert not found.excludes(found.mean)


def test_one_value_says_nothing_about_its_own_spread():
    found = estimate([0.7])
    assert (found.mean, found.n, found.half_width) == (0.7, 1, math.inf)
    assert math.isnan(found.deviation)
    assert not found.excludes(-1e9)


def test_the_interval_holds_the_truth_nineteen_times_of_twenty():
    draw = random.Random(0)
    samples = [estimate([draw.gauss(0.5, 0.1) for _ in range(3)]) for _ in range(4000)]
    assert sum(found.excludes(0.5) for found in samples) / 4000 == pytest.approx(0.05, abs=0.012)


def test_a_difference_is_paired_by_seed():
    family = Family({1: {1: 0.5, 2: 0.7, 3: 0.9, 9: 0.0}, 2: {3: 0.8, 2: 0.61, 1: 0.4, 8: 1.0}})
    found = family.difference(1, 2, 2, 0)
    test = stats.ttest_rel([0.5, 0.7, 0.9], [0.4, 0.61, 0.8])
    low, high = test.confidence_interval(0.95)
    assert (found.n, found.mean) == (3, pytest.approx(0.29 / 3))
    assert (found.mean - found.half_width, found.mean + found.half_width) == pytest.approx((low, high))
    # Each seed's streams differ by far more than the two configs do on the same one.
    assert found.excludes(0.0)
    assert not estimate([0.5, 0.7, 0.9]).excludes(estimate([0.4, 0.61, 0.8]).mean)
    assert family.difference(2, 1, 2, 0).mean == pytest.approx(-found.mean)


@pytest.mark.parametrize(("seeds", "n"), [({}, None), ({4: 0.5}, None), ({2: 0.5}, 1)])
def test_seeds_that_only_one_has_tell_no_difference(seeds, n):
    found = Family({1: {1: 0.5, 2: 0.6}, 2: seeds}).difference(1, 2, 2, 0)
    assert (found.n if found else None) == n


def test_what_is_confirmed_is_what_finished_again_best_mean_first():
    trials = [
        a_trial(1, 0.9),
        a_trial(2, 0.8),
        a_trial(3, 0.7, kind=BASELINE, baseline="kd"),
        a_trial(4, 0.6),
        *repetitions(1, [0.5, 0.7]),
        *repetitions(2, [0.65, None, 0.75], 200),
        *repetitions(3, [0.6, 0.6], 300, "kd"),
        a_trial(400, 0.99, status=STOPPED, repeats=4, seed=1),
        a_trial(401, 0.99, status=RUNNING, repeats=4, seed=2),
        a_trial(402, 0.99, repeats=77, seed=1),  # of a trial that there is not
    ]
    found = confirmed(trials)
    assert [(config.trial.number, dict(config.values)) for config in found] == [
        (2, {1: 0.65, 3: 0.75}),
        (1, {1: 0.5, 2: 0.7}),
        (3, {1: 0.6, 2: 0.6}),
    ]
    assert found[0].estimate.mean == pytest.approx(0.7)
    # The better one of two has the usual interval, but for what both below it would be.
    assert found[0].estimate.half_width == pytest.approx(estimate([0.65, 0.75]).half_width, rel=0.05)
    assert confirmed(trials[:4]) == []


BEFORE = [
    a_trial(1, 0.9),
    a_trial(2, 0.8),
    a_trial(3, 0.95, status=STOPPED),
    a_trial(4, 0.99, kind=BASELINE, baseline="kd"),
]


@pytest.mark.parametrize(
    ("again", "number"),
    [
        ([], 1),
        # What it was chosen for does not count.
        ([*repetitions(1, [0.7, 0.7]), *repetitions(2, [0.75, 0.7], 200)], 2),
        ([*repetitions(1, [0.75, 0.7]), *repetitions(2, [0.7, 0.7], 200)], 1),
        ([*repetitions(1, [0.7, 0.7]), *repetitions(2, [0.7, 0.7], 200)], 1),
        ([*repetitions(2, [0.1, 0.1], 200)], 2),
        # Not the luckier rest of one some of whose repetitions failed.
        ([*repetitions(1, [0.7, 0.7]), *repetitions(2, [0.9, None], 200)], 1),
        ([*repetitions(1, [None, 0.7]), *repetitions(2, [0.9, None], 200)], 2),
        ([*repetitions(1, [None, None]), *repetitions(2, [0.1, None], 200)], 2),
        # A baseline is there for comparison, however good.
        ([*repetitions(1, [0.7, 0.7]), *repetitions(4, [0.99, 0.99], 200, "kd")], 1),
        ([*repetitions(4, [0.99, 0.99], 200, "kd")], 1),
    ],
)
def test_the_winner_has_the_best_mean_of_fresh_seeds(again, number):
    assert winner([*BEFORE, *again]).number == number
    assert winner([*again, *reversed(BEFORE)]).number == number


@pytest.mark.parametrize("trials", [[], [a_trial(1, status=RUNNING)], [a_trial(1, 0.5, status=DIVERGED)], BEFORE[3:]])
def test_there_is_no_winner_before_an_explored_trial_has_an_epoch(trials):
    assert winner(trials) is None
    with pytest.raises(UserError, match="no trial has finished an epoch yet; ctkd-search show lists the trials"):
        find_trial(trials, None)


def test_a_trial_is_found_by_its_number_and_the_winner_without_one():
    trials = [*BEFORE, *repetitions(1, [0.7, 0.7]), *repetitions(2, [0.75, 0.7], 200)]
    assert find_trial(trials, None).number == 2
    for wanted in ("1", "3", "4", "101", "202"):
        assert find_trial(trials, wanted).number == int(wanted)
    for wanted in ("5", "t", "", "01", "-1", "1.0"):
        with pytest.raises(UserError, match=f"there is no trial {wanted}; ctkd-search show lists the trials"):
            find_trial(trials, wanted)


def test_nothing_is_told_apart_before_anything_was_confirmed():
    assert verdicts(BEFORE) == []
    assert verdicts([]) == []


def test_a_verdict_says_better_only_where_the_interval_excludes_0():
    trials = [*BEFORE, *repetitions(1, [0.5, 0.6, 0.7]), *repetitions(2, [0.4, 0.51, 0.6], 200)]
    gaps = [0.1, 0.09, 0.1]
    half = stats.t.ppf(0.975, 2) * stats.sem(gaps)
    # Of two configs alone, the interval is that of the paired t test.
    (clear,) = verdicts(trials)
    assert clear == (
        f"trial 1 is better than trial 2 (+{100 * statistics.fmean(gaps):.2f} points, 95 % interval "
        f"±{100 * half:.2f}, n = 3 seeds)"
    )
    # A third one that varies makes what is told of all of them less certain.
    second, baseline = verdicts([*trials, *repetitions(4, [0.45, 0.7, 0.6], 300, "kd")])
    assert second.startswith("trial 1 and trial 2 cannot be told apart (+9.67 points, 95 % ")
    assert baseline.startswith("trial 1 and the baseline kd (trial 4) cannot be told apart (+1.67 points, 95 % ")


@pytest.mark.parametrize(
    ("again", "said"),
    [
        ([*repetitions(1, [0.5, 0.6, 0.7])], []),
        (
            [*repetitions(1, [0.5, 0.6]), *repetitions(4, [0.7, 0.81], 200, "kd")],
            ["trial 1 is worse than the baseline kd (trial 4) (-20.50 points, 95 % interval ±6.35, n = 2 seeds)"],
        ),
        (
            [*repetitions(1, [0.7, 0.7, None]), *repetitions(2, [None, None, 0.9], 200)],
            ["trial 1 and trial 2 have no seed in common, so they cannot be compared"],
        ),
        (
            [*repetitions(1, [0.7, 0.6]), *repetitions(2, [0.5, None], 200)],
            ["trial 1 and trial 2 cannot be told apart by one seed alone (+20.00 points)"],
        ),
    ],
)
def test_a_verdict_claims_no_more_than_there_is(again, said):
    assert verdicts([*BEFORE, *again]) == said


def test_a_gap_is_paired_where_both_were_confirmed_and_plain_where_they_were_not():
    trials = [*BEFORE, *repetitions(1, [0.5, 0.6]), *repetitions(4, [0.4, 0.6], 200, "kd")]
    leader, _, stopped, baseline = BEFORE
    assert gap_to(trials, leader, baseline).mean == pytest.approx(-0.05)
    assert gap_to(trials, leader, baseline).n == 2
    assert gap_to(trials, leader, stopped).mean == pytest.approx(0.05)
    assert gap_to(BEFORE, leader, baseline).mean == pytest.approx(0.09)
    assert gap_to(BEFORE, leader, baseline).n == 1
    assert gap_to(BEFORE, leader, a_trial(9)) is None


def ended(number, *accuracies, at, **more):
    """A trial whose last epoch ended at that moment, an epoch a millisecond."""
    first = at - len(accuracies)
    return a_trial(number, *accuracies, measured=lambda epoch: {"at": first + epoch}, optuna=number, **more)


def test_the_best_so_far_rises_in_the_order_in_which_trials_finished():
    trials = [
        ended(1, 0.1, 0.4, at=300),
        ended(2, 0.9, at=100, status=STOPPED),  # stopped early: its epochs count, and it is not the best
        ended(3, 0.2, 0.6, at=200),
        ended(4, 0.1, 0.5, at=400),
        ended(5, 0.3, 0.7, at=500),
        ended(6, 0.99, 0.99, at=250, kind=BASELINE, baseline="kd"),
        ended(7, 0.99, 0.99, at=250, repeats=3),
        ended(8, 0.8, at=150, status=RUNNING),
        a_trial(9, status=FAILED),
    ]
    # An epoch a millisecond: by then the trials that were stopped, that run and that finished later had trained too.
    assert best_so_far(trials) == [
        Standing(200, 1, 4, 0.6),
        Standing(300, 2, 6, 0.6),
        Standing(400, 3, 8, 0.6),
        Standing(500, 4, 10, 0.7),
    ]
    assert best_so_far(trials[1:2]) == best_so_far([]) == []
