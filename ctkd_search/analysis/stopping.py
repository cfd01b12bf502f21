"""Amounts that depend on early stopping, as a lower and an upper bound."""

from __future__ import annotations

from dataclasses import dataclass

from ctkd_search.space.sections import Budget


@dataclass(frozen=True)
class Span:
    """A lower and an upper bound of an amount."""

    low: float
    high: float

    def __add__(self, other: Span) -> Span:
        """Returns the sum of two."""
        return Span(self.low + other.low, self.high + other.high)


def early_stopping(budget: Budget, stops: bool, groups: int = 1) -> Span:
    """Returns the epochs of all trials: if one in `reduction_factor` is promoted at every rung, and if all are.

    Args:
        budget: The budget.
        stops: Whether trials are stopped early at all.
        groups: Number of groups of equally many trials, each of which is compared within itself.
    """
    most = float(budget.trials * budget.epochs)
    if not stops:
        return Span(most, most)
    ends = [*budget.rungs(), budget.epochs]
    least, going = 0.0, budget.trials / groups
    for before, after in zip([0, *ends], ends, strict=False):
        least += going * (after - before)
        going = max(1.0, going / budget.reduction_factor)
    return Span(groups * least, most)
