"""Amounts that depend on early stopping, as a lower and an upper bound."""

from __future__ import annotations

from dataclasses import dataclass

from ctkd_search.space.definition import Space


@dataclass(frozen=True)
class Span:
    """A lower and an upper bound of an amount."""

    low: float
    high: float

    def __add__(self, other: Span) -> Span:
        """Returns the sum of two."""
        return Span(self.low + other.low, self.high + other.high)


def going_on(space: Space) -> float:
    """Returns the number of trials at a rung of which one goes on."""
    scheduler = space.strategy.scheduler
    if scheduler.name == "constant":
        return max(1.0, space.budget.trials / (scheduler.finalists * len(space.methods())))
    return float(space.budget.reduction_factor)


def early_stopping(space: Space) -> Span:
    """Returns the epochs of all trials: if no more of them go on at the rungs than is planned, and if all do.

    Methods are compared among themselves, and have equally many trials.
    """
    budget, groups = space.budget, len(space.methods())
    most = float(budget.trials * budget.epochs)
    if not space.rungs:
        return Span(most, most)
    ends = [*space.rungs, budget.epochs]
    least, trials = 0.0, budget.trials / groups
    for before, after in zip([0, *ends], ends, strict=False):
        least += trials * (after - before)
        trials = max(1.0, trials / going_on(space))
    least *= groups
    # The number that a constant number of epochs trains to their end is no estimate.
    return Span(least, least if space.strategy.scheduler.name == "constant" else most)
