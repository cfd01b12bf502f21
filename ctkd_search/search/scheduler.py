"""Early stopping: ASHA and asynchronous Hyperband, whose brackets survive an interruption."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from ray.tune.result import TRAINING_ITERATION
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from ctkd_search.data.stream import derived_seed
from ctkd_search.pairs import split_pair
from ctkd_search.records.store import DIVERGED, TrialRecord
from ctkd_search.search.driver_only import DriverOnly
from ctkd_search.search.trainable import NUMBER
from ctkd_search.space.definition import Space
from ctkd_search.space.sections import COSTS


class GroupedAsha(DriverOnly, FIFOScheduler):
    """ASHA or asynchronous Hyperband, with brackets for every group of trials that may be compared.

    The brackets are Ray's (``ASHAScheduler``); when a search goes on, they are filled from the trials' records, so that
    an earlier trial counts at every rung that it reached.

    Baselines and confirmations are in no bracket and run to the end. Only trials of the same method are compared: one
    method may learn fast and another better in the end, and each is to have its part of the budget. Where a student's
    cost is an objective, only trials with the same student are compared: a small student would lose to a large one on
    every rung.

    Terminology: a *rung* is a number of epochs after which trials are compared and only the best go on; a *bracket* is
    a sequence of rungs. ASHA has one bracket; Hyperband's later brackets have fewer rungs and stop later.

    Args:
        space: The space, for its budget, scheduler and objectives.
        records: Every trial of the search by number.
    """

    def __init__(self, space: Space, records: Mapping[int, TrialRecord]) -> None:
        budget, scheduler = space.budget, space.strategy.scheduler
        self._by_student = any(cost in space.strategy.objectives for cost in COSTS)
        self._judge = space.strategy.judge
        self._stops = scheduler.name != "none"
        self._seed = space.seed
        self._records = records
        self._options = {
            "max_t": budget.epochs,
            "grace_period": budget.grace_period,
            "reduction_factor": budget.reduction_factor,
            "brackets": 1 if scheduler.name != "hyperband" else scheduler.brackets or len(budget.rungs()),
        }
        self._groups: dict[tuple[str, str], Any] = {}
        # Epochs after which a trial has already been allowed to go on, before an interruption.
        self._passed: dict[int, int] = {}
        for record in records.values():
            if not record.ended and record.epochs:
                # Whether it goes on after its last epoch may not have been decided yet.
                self._passed[record.number] = len(record.epochs) - 1
            elif record.explores:
                # Ray does not ask about the epoch in which a trial has diverged, so that it counts at no rung.
                for epoch in record.epochs[: -1 if record.status == DIVERGED else None]:
                    if math.isfinite(self._score(epoch)):
                        self._bracket(record).on_result(_stub(record), epoch["epoch"], self._score(epoch))

    def _score(self, measured: Mapping[str, Any]) -> float:
        """Returns the value that trials are compared by, negated where less is better.

        Brackets are called directly; Ray, which would flip the sign, is not involved.
        """
        return self._judge.sign * float(measured[self._judge.key])

    def _bracket(self, record: TrialRecord) -> Any:
        """Returns the bracket of a trial; with several, the seed and the trial's number decide which."""
        group = record.method, split_pair(record.values["pair"]).student if self._by_student else ""
        if group not in self._groups:
            self._groups[group] = ASHAScheduler(metric=self._judge.key, mode="max", **self._options)._brackets
        brackets = self._groups[group]
        # As Ray weighs them: the fewer rungs a bracket has, the fewer trials it gets.
        weights = np.exp([float(len(bracket._rungs)) for bracket in brackets])
        # The text is part of the seed: with another one, the trials of a search that goes on would change brackets.
        random = np.random.default_rng(derived_seed("ladder", self._seed, record.number))
        return brackets[random.choice(len(brackets), p=weights / weights.sum())]

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Returns whether a trial goes on; called by Ray after each of its epochs."""
        record = self._records[trial.config[NUMBER]]
        epoch = result[TRAINING_ITERATION]
        if not record.explores or not self._stops:
            return TrialScheduler.CONTINUE
        # Ray flattens results before it asks.
        score = self._score({self._judge.key: result[f"metrics/{self._judge.key}"]})
        if not math.isfinite(score):
            return TrialScheduler.STOP  # compared with the others it would pass every rung
        decision: str = self._bracket(record).on_result(_stub(record), epoch, score)
        return TrialScheduler.CONTINUE if epoch <= self._passed.get(record.number, 0) else decision


def _stub(record: TrialRecord) -> Any:
    """Returns a stand-in for a Ray trial, with the one attribute that Ray's brackets read."""
    return SimpleNamespace(trial_id=record.number)
