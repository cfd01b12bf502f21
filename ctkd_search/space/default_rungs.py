"""The default grace period: the epochs after which trials are compared for the first time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from ctkd_search.recipe import Recipe
from ctkd_search.space.distributions import Entry, Number
from ctkd_search.space.parameters import parameters, possible_values
from ctkd_search.space.sections import Budget, Scheduler

WARMUP = "warmup"


def longest_warmup(train: Recipe, entries: Mapping[str, Entry]) -> float:
    """Returns the epochs of the longest warm-up that a trial may have.

    Args:
        train: The students' recipe.
        entries: Entries of the section search.
    """
    entry = entries.get(WARMUP)
    if entry is None:
        return train.warmup
    if isinstance(entry, Number):
        return float(entry.high)
    return max(map(float, possible_values(entry, parameters(train)[WARMUP])))


def with_grace_period(budget: Budget, train: Recipe, entries: Mapping[str, Entry], scheduler: Scheduler) -> Budget:
    """Returns a budget with a grace period, if none is given.

    Trials are compared twice, with a reduction each time. Before the first time the warm-up must be over, and the
    average of the weights must look back on epochs after it; before that, those with small learning rates lead.

    Args:
        budget: The budget.
        train: The students' recipe.
        entries: Entries of the section search.
        scheduler: The scheduler.
    """
    if budget.grace_period is not None:
        return budget
    settled = math.ceil(longest_warmup(train, entries) + scheduler.averaged_over)
    twice = math.ceil(budget.epochs / budget.reduction_factor**2)
    grace = min(budget.epochs, max(settled, twice))
    if scheduler.name == "hyperband":
        grace = min(grace, (budget.epochs - 1) // budget.reduction_factor)  # it has two rungs at least
    if scheduler.name == "constant":
        grace = min(grace, budget.epochs - 1)  # it has one rung at least
    return dataclasses.replace(budget, grace_period=max(1, grace))
