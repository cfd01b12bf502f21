"""Amounts that depend on what early stopping will do: at least so much, at most so much."""

from __future__ import annotations

from dataclasses import dataclass

from ctkd_search.space.sections import Budget


@dataclass(frozen=True)
class Span:
    """An amount, at least and at most."""

    low: float
    high: float

    def __add__(self, other: Span) -> Span:
        """Both, one after the other."""
        return Span(self.low + other.low, self.high + other.high)


def early_stopping(budget: Budget, stops: bool, groups: int = 1) -> Span:
    """Epochs of all trials together: if at every rung one in `reduction_factor` goes on, and if all do.

    Args:
        budget: The budget.
        stops: Whether trials are stopped early at all.
        groups: How many groups of as many trials there are, of which each is compared within itself.
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
