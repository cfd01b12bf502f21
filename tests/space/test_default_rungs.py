"""The grace period of a space that names none."""

import pytest
from support.factories import a_space

from ctkd_search.space.reader import space_of

SEARCH = {"alpha": {"float": [0.1, 1]}}


def rungs(epochs, **sections):
    content = {"name": "x", "dataset": {"name": "digits"}, "search": SEARCH, "budget": {"epochs": epochs}, **sections}
    return space_of(content).rungs


@pytest.mark.parametrize(
    ("epochs", "expected"), [(1, []), (6, [2]), (12, [3, 9]), (18, [4, 12]), (30, [6, 18]), (60, [10, 30])]
)
def test_trials_are_compared_when_the_warm_up_has_been_over_for_the_horizon(epochs, expected):
    # The default recipe warms up for 15 % of the epochs.
    assert rungs(epochs) == expected


@pytest.mark.parametrize(("epochs", "expected"), [(1, []), (2, [1]), (9, [1, 3]), (18, [2, 6]), (60, [7, 21])])
def test_without_a_warm_up_trials_are_compared_twice(epochs, expected):
    assert rungs(epochs, train={"schedule": "milestones"}) == expected


def test_horizon_warm_up_and_reduction_move_the_rungs():
    assert rungs(18, scheduler={"horizon": 0}) == [3, 9]
    assert rungs(18, scheduler={"horizon": 3}) == [6]
    assert rungs(18, train={"warmup": 5}) == [6]
    assert rungs(18, search={**SEARCH, "warmup": {"choice": [0, 7]}}) == [8]
    assert rungs(18, search={**SEARCH, "warmup": {"float": [0, 2]}}) == [3, 9]
    assert rungs(18, scheduler={"horizon": 0}) == [3, 9]
    assert rungs(18, scheduler="none") == []
    assert rungs(18, scheduler="constant") == [4]
    assert [rungs(epochs, scheduler="hyperband") for epochs in (4, 9, 18)] == [[1, 3], [2, 6], [4, 12]]
    reduced = {"epochs": 18, "reduction_factor": 2}
    assert space_of({"name": "x", "dataset": {"name": "digits"}, "search": SEARCH, "budget": reduced}).rungs == [5, 10]


def test_a_grace_period_of_ones_own_is_kept():
    assert a_space(budget={"epochs": 18, "grace_period": 1}).rungs == [1, 3, 9]
    assert a_space(budget={"epochs": 18, "grace_period": 18}).rungs == []


def test_constant_has_a_rung_below_the_epochs():
    assert rungs(2, scheduler="constant") == [1]
