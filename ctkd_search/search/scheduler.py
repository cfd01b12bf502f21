"""Early stopping: ASHA, asynchronous Hyperband and a constant number of epochs, which survive an interruption."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from ray.tune.result import TRAINING_ITERATION
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from ctkd_search.data.stream import derived_seed
from ctkd_search.pairs import split_pair
from ctkd_search.records.store import DIVERGED, FAILED, PAUSED, TrialRecord
from ctkd_search.search.driver_only import DriverOnly
from ctkd_search.search.rungs import Bracket, OneRung, Outcome
from ctkd_search.search.trainable import NUMBER
from ctkd_search.space.definition import Space


class GroupedAsha(DriverOnly, FIFOScheduler):
    """ASHA or asynchronous Hyperband, with brackets for every group of trials that may be compared.

    When a search goes on, the brackets are filled from the trials' records, so that an earlier trial counts at every
    rung that it reached.

    Baselines and confirmations are in no bracket and run to the end. Only trials of the same method are compared: one
    method may learn fast and another better in the end, and each is to have its part of the budget. Where a student's
    cost is an objective, only trials with the same student are compared: a small student would lose to a large one on
    every rung.

    A trial that does not go on is paused: it keeps its state, and is promoted when it is among the best of its rung
    later, because worse trials have reached it, or better ones have diverged or failed. Once that cannot happen any
    more, it is stopped.

    Terminology: a *rung* is a number of epochs after which trials are compared and only the best go on; a *bracket* is
    a sequence of rungs. ASHA has one bracket; Hyperband's later brackets have fewer rungs and stop later.

    Args:
        space: The space, for its budget, scheduler and objectives.
        records: Every trial of the search by number.
    """

    def __init__(self, space: Space, records: Mapping[int, TrialRecord]) -> None:
        self._by_student = space.strategy.groups_students
        self._ranking = space.strategy.ranking
        self._pauses = space.strategy.scheduler.pauses
        self._budget, self._scheduler, self._rungs = space.budget, space.strategy.scheduler, space.rungs
        self._seed = space.seed
        self._records = records
        self._groups: dict[tuple[str, str], list[Bracket]] = {}
        # The bracket of each trial.
        self._chosen: dict[int, Bracket] = {}
        # Epochs after which a trial has already been allowed to go on.
        self._passed: dict[int, int] = {}
        if self._ranking is None:
            return
        for record in records.values():
            if not record.explores:
                continue
            # Whether a trial that goes on may do so after its last epoch has not been decided yet, and Ray does not ask
            # about the epoch in which one has diverged, so that it counts at no rung.
            undecided = record.status == DIVERGED or not record.idle
            self._passed[record.number] = len(record.epochs) - undecided
            for epoch in record.epochs[: len(record.epochs) - undecided]:
                if math.isfinite(score := self._score(epoch)):
                    self._bracket(record).add(record.number, epoch["epoch"], score, _config(record))

    def _score(self, measured: Mapping[str, Any]) -> float:
        """Returns the value that trials are compared by, negated where less is better."""
        assert self._ranking is not None
        return self._ranking.metric.sign * float(measured[self._ranking.key])

    def _bracket(self, record: TrialRecord) -> Bracket:
        """Returns the bracket of a trial; with several, the seed and the trial's number decide which."""
        if record.number in self._chosen:
            return self._chosen[record.number]
        group = self._group(record)
        if group not in self._groups:
            self._groups[group] = self._brackets()
        brackets = self._groups[group]
        # As Ray weighs them: the fewer rungs a bracket has, the fewer trials it gets.
        weights = np.exp([float(len(bracket.rungs)) for bracket in brackets])
        # The text is part of the seed: with another one, the trials of a search that goes on would change brackets.
        random = np.random.default_rng(derived_seed("ladder", self._seed, record.number))
        chosen = brackets[random.choice(len(brackets), p=weights / weights.sum())]
        return self._chosen.setdefault(record.number, chosen)

    def _group(self, record: TrialRecord) -> tuple[str, str]:
        return record.method, split_pair(record.values["pair"]).student if self._by_student else ""

    def _brackets(self) -> list[Bracket]:
        rungs, scheduler = self._rungs, self._scheduler
        if scheduler.name == "constant":
            return [OneRung(rungs[0], scheduler.finalists, self._outcome)]
        count = (scheduler.brackets or len(rungs)) if scheduler.name == "hyperband" else 1
        return [Bracket(rungs[first:], self._budget.reduction_factor, self._outcome) for first in range(count)]

    def _outcome(self, number: int) -> Outcome:
        record = self._records[number]
        if record.status in (DIVERGED, FAILED):
            return Outcome.LOST
        return Outcome.SETTLED if record.ended else Outcome.OPEN

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Returns whether a trial goes on; called by Ray after each of its epochs."""
        record = self._records[trial.config[NUMBER]]
        epoch = result[TRAINING_ITERATION]
        if not record.explores or self._ranking is None:
            return TrialScheduler.CONTINUE
        score = self._score(dict(result["metrics"]))
        if not math.isfinite(score):
            return TrialScheduler.STOP  # it can be compared with no other
        bracket = self._bracket(record)
        bracket.add(record.number, epoch, score, _config(record))
        if epoch <= self._passed.get(record.number, 0):
            return TrialScheduler.CONTINUE
        if epoch in bracket.rungs and not bracket.goes_on(record.number, epoch):
            return TrialScheduler.STOP
        self._passed[record.number] = epoch
        return TrialScheduler.CONTINUE

    def pauses(self, record: TrialRecord) -> bool:
        """Returns whether a trial that does not go on may be promoted later."""
        rung = len(record.epochs)
        if self._ranking is None or not self._pauses or not record.explores:
            return False
        bracket = self._bracket(record)
        if rung not in bracket.rungs or record.number not in bracket.reached(rung):
            return False  # it has ended elsewhere than at a rung, or cannot be compared
        return not bracket.hopeless([record.number], rung, self._most(record, rung))

    def _most(self, record: TrialRecord, rung: int) -> int:
        """Returns the largest number of trials that may be at a rung of a trial's bracket in the end."""
        bracket, group = self._bracket(record), self._group(record)
        explored = [other for other in self._records.values() if other.explores]
        coming = {
            other.number
            for other in explored
            if not other.ended and self._group(other) == group and self._bracket(other) is bracket
        }
        return len(coming.union(bracket.reached(rung))) + max(0, self._budget.trials - len(explored))

    def hopeless(self) -> Iterator[TrialRecord]:
        """Yields the paused trials that cannot be promoted any more."""
        for rung, bracket, waiting in self._waiting():
            most = self._most(self._records[waiting[0]], rung)
            for number in bracket.hopeless(waiting, rung, most):
                yield self._records[number]

    def promoted(self, more: bool) -> TrialRecord | None:
        """Returns the paused trial that goes on next, if any may: the best one at the highest rung.

        Args:
            more: Whether further trials will begin.
        """
        found = []
        for rung, bracket, waiting in self._waiting():
            number = bracket.best_waiting(waiting, rung, more or self._some_below(rung))
            if number is not None:
                found.append((rung, -number))
        if not found:
            return None
        chosen = self._records[-max(found)[1]]
        self._passed[chosen.number] = len(chosen.epochs)
        return chosen

    def _some_below(self, rung: int) -> bool:
        """Returns whether a trial that goes on has not reached a rung yet."""
        return any(
            record.explores and not record.idle and len(record.epochs) < rung for record in self._records.values()
        )

    def _waiting(self) -> list[tuple[int, Bracket, list[int]]]:
        """Returns the rungs at which trials are paused, with their bracket and the numbers of those trials."""
        waiting: dict[tuple[int, int], tuple[int, Bracket, list[int]]] = {}
        for record in self._paused():
            bracket, rung = self._bracket(record), len(record.epochs)
            waiting.setdefault((rung, id(bracket)), (rung, bracket, []))[2].append(record.number)
        return list(waiting.values())

    def _paused(self) -> list[TrialRecord]:
        return [record for record in self._records.values() if record.status == PAUSED]


def _config(record: TrialRecord) -> str:
    """Returns the values of a trial as a text, the same whether it is new or read from its record."""
    return json.dumps(record.values, sort_keys=True)
