"""The Pareto front, against its definition."""

from __future__ import annotations

import random

import pytest
from support.factories import a_trial

from ctkd_search.analysis.pareto import front, objective_values
from ctkd_search.space.sections import COSTS
from ctkd_search.space.strategy import ACCURACY

OBJECTIVES = [(ACCURACY,), (ACCURACY, "params"), (ACCURACY, "params", "latency_ms"), (ACCURACY, *COSTS)]


def beats(one, other, objectives, costs):
    """Whether a trial is at least as good as another in everything, and better in something or begun earlier."""
    pairs = list(zip(objective_values(one, objectives, costs), objective_values(other, objectives, costs), strict=True))
    signs = [1 if name == ACCURACY else -1 for name in objectives]
    as_good = all(sign * a >= sign * b for sign, (a, b) in zip(signs, pairs, strict=True))
    better = any(sign * a > sign * b for sign, (a, b) in zip(signs, pairs, strict=True))
    return as_good and (better or one.number < other.number)


@pytest.mark.parametrize("objectives", OBJECTIVES, ids=len)
@pytest.mark.parametrize("seed", range(25))
def test_the_front_is_what_nothing_beats(objectives, seed):
    draw = random.Random(seed)
    # Few different values, so that there are ties of every kind.
    levels = draw.choice([2, 4, 10, 1000])
    costs = {f"s{n}": {name: draw.randrange(levels) for name in COSTS} for n in range(draw.randint(1, 12))}
    trials = [
        a_trial(number, draw.randrange(levels) / levels, pair=f"t/{draw.choice(list(costs))}")
        for number in draw.sample(range(1, 100), draw.randint(0, 40))
    ]
    given = list(trials)
    found = front(trials, objectives, costs)
    expected = [one for one in trials if not any(beats(other, one, objectives, costs) for other in trials)]
    assert {one.number for one in found} == {one.number for one in expected}
    assert [(-one.accuracy, one.number) for one in found] == sorted((-one.accuracy, one.number) for one in found)
    assert trials == given


def test_values_come_in_the_order_of_the_objectives():
    costs = {"s": {"params": 5.0, "latency_ms": 0.25}}
    assert objective_values(a_trial(1, 0.5, pair="t/s"), (ACCURACY, "params", "latency_ms"), costs) == [0.5, 5.0, 0.25]
    assert objective_values(a_trial(1, 0.5, pair="t/s"), ("latency_ms", ACCURACY), costs) == [0.25, 0.5]
    assert objective_values(a_trial(1, 0.5, pair="t/s"), (ACCURACY,), {}) == [0.5]


def test_accuracy_in_int8_is_a_trials_own_and_higher_is_better():
    objectives = (ACCURACY, "int8_validation_accuracy")
    trials = [
        a_trial(number, accuracy, measured={"int8_validation_accuracy": quantised}, pair="t/s")
        for number, accuracy, quantised in [(1, 0.8, 0.7), (2, 0.9, 0.6), (3, 0.7, 0.65), (4, 0.85, 0.75)]
    ]
    assert objective_values(trials[0], objectives, {}) == [0.8, 0.7]
    assert [one.number for one in front(trials, objectives, {})] == [2, 4]


def test_of_accuracy_alone_the_front_is_the_best_trial():
    trials = [a_trial(3, 0.5), a_trial(2, 0.7), a_trial(1, 0.6), a_trial(4, 0.7)]
    assert [one.number for one in front(trials, (ACCURACY,), {})] == [2]
    assert front([], (ACCURACY,), {}) == []
