"""Brackets of successive halving: the trials at each rung, and which of them go on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import Enum

_LAST = -math.inf
# So many times as many trials as go on are kept, while those that go on may still be lost.
_CONTENDERS = 2


class Outcome(Enum):
    """The outcome of a trial, as far as it is known."""

    OPEN = "it may still be trained further"
    # Nothing takes its place at a rung from it any more.
    SETTLED = "it has finished, or was stopped"
    # It gives its places to others.
    LOST = "it has diverged or failed"


class Bracket:
    """The trials at each of some rungs, ranked by a score.

    A trial goes on where it is among the best of those at its rung so far, one in `reduction` of them and at least one
    (asynchronous successive halving, arXiv 1810.05934). Of trials with the same config and the same score the first one
    stands for all: the others neither go on nor count. A trial that was lost later counts among those that have
    reached a rung, as the worst of them, so that another one takes its place. Everything follows from the scores, the
    configs, the numbers and the outcomes alone, so that a bracket is filled from records in any order.

    Args:
        rungs: Epochs after which trials are compared, in ascending order.
        reduction: Reduction factor.
        outcome: Returns the outcome of a trial, by its number.
    """

    def __init__(self, rungs: Sequence[int], reduction: int, outcome: Callable[[int], Outcome]) -> None:
        self.rungs = tuple(rungs)
        self._reduction = reduction
        self._outcome = outcome
        self._ranks: dict[int, dict[int, tuple[float, ...]]] = {rung: {} for rung in rungs}
        self._configs: dict[int, str] = {}

    def add(self, number: int, epoch: int, score: float, config: str) -> None:
        """Adds a trial to the rung after an epoch, if there is one; what it reports again changes nothing.

        Args:
            number: The trial's number.
            epoch: The epoch.
            score: A finite number; higher is better.
            config: The values of its parameters, as a text.
        """
        self._configs[number] = config
        if epoch in self._ranks:
            self._ranks[epoch].setdefault(number, self._rank(number, score))

    def reached(self, rung: int) -> Sequence[int]:
        """Returns the numbers of the trials that have reached a rung, without copies of others."""
        return list(self._standing(rung))

    def goes_on(self, number: int, rung: int) -> bool:
        """Returns whether a trial at a rung is among those that go on."""
        standing = self._standing(rung)
        return number in standing and self._place(number, rung) <= self._room(len(standing))

    def hopeless(self, waiting: Sequence[int], rung: int, most: int) -> list[int]:
        """Returns those of some trials at a rung that are given up if at most so many trials reach it.

        They are worse than as many trials as go on, all of which have come to their end; or worse than twice as many
        that have not been lost, so that not every trial keeps its state until the search ends.

        Args:
            waiting: Numbers of trials at the rung.
            rung: The rung.
            most: Number of trials that reach it at most.
        """
        ranks, room = self._standing(rung), self._room(most)
        copies = [number for number in waiting if number not in ranks]
        # Those that are worse than so many settled ones stay so, whatever the scores of trials to come.
        settled = [rank for number, rank in ranks.items() if self._outcome(number) is Outcome.SETTLED]
        left = [rank for number, rank in ranks.items() if self._outcome(number) is not Outcome.LOST]
        bounds = [_nth(settled, room), _nth(left, _CONTENDERS * room)]
        bound = max((bound for bound in bounds if bound is not None), default=())
        return [number for number in waiting if number in copies or ranks[number] < bound]

    def best_waiting(self, waiting: Sequence[int], rung: int, exploring: bool) -> int | None:
        """Returns the best of the trials that wait at a rung, if it is among those that go on; of equals, the first.

        Args:
            waiting: Numbers of the trials that wait there, at least one.
            rung: The rung.
            exploring: Whether further trials will reach the first rung.
        """
        ranks = self._standing(rung)
        different = [number for number in waiting if number in ranks]
        best = max(different, key=lambda number: (ranks[number], -number), default=None)
        return best if best is not None and self._may_go_on(best, rung, exploring) else None

    def _may_go_on(self, number: int, rung: int, exploring: bool) -> bool:
        return self.goes_on(number, rung)

    def _room(self, reached: int) -> int:
        return max(1, reached // self._reduction)

    def _standing(self, rung: int) -> dict[int, tuple[float, ...]]:
        """Returns the ranks of the trials at a rung by number, without copies of others."""
        found: dict[int, tuple[float, ...]] = {}
        seen: set[tuple[str, float]] = set()
        for number, reached in sorted(self._ranks[rung].items()):
            rank = self._rank(number, _LAST) if self._outcome(number) is Outcome.LOST else reached
            if (result := (self._configs[number], rank[0])) not in seen:
                seen.add(result)
                found[number] = rank
        return found

    def _place(self, number: int, rung: int) -> int:
        """Returns a trial's place among those at a rung, from 1; equal ones share the best of their places."""
        ranks = self._standing(rung)
        own = ranks[number]
        return 1 + sum(rank > own for rank in ranks.values())

    def _rank(self, number: int, score: float) -> tuple[float, ...]:
        """Returns what the trials at a rung are ordered by; those of equal scores are equal."""
        return (score,)


class OneRung(Bracket):
    """Stopping after a constant number of epochs: the best of all trials are trained to their end.

    No trial goes on before every trial has reached the rung (arXiv 2404.04111 compares such a constant number of epochs
    with other ways of stopping early).

    Args:
        rung: The number of epochs.
        best: Number of trials that are trained to their end.
        outcome: Returns the outcome of a trial, by its number.
    """

    def __init__(self, rung: int, best: int, outcome: Callable[[int], Outcome]) -> None:
        super().__init__((rung,), 1, outcome)
        self._best = best

    def goes_on(self, number: int, rung: int) -> bool:
        """Returns False: whether a trial goes on is known once all have reached the rung."""
        return False

    def _may_go_on(self, number: int, rung: int, exploring: bool) -> bool:
        return not exploring and self._place(number, rung) <= self._best

    def _room(self, reached: int) -> int:
        return self._best

    def _rank(self, number: int, score: float) -> tuple[float, ...]:
        # No more trials than the best go on: of equal ones, the first.
        return (score, -number)


def _nth(ranks: Sequence[tuple[float, ...]], place: int) -> tuple[float, ...] | None:
    """Returns the rank in a place, from 1 for the best; None if there are fewer."""
    return sorted(ranks, reverse=True)[place - 1] if len(ranks) >= place else None
