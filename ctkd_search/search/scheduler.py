"""Which trials go on: ASHA or Hyperband, and whatever ends them all. Both outlive an interruption."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from ray import tune
from ray.tune.result import TRAINING_ITERATION
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from ctkd_search.data.stream import derived_seed
from ctkd_search.pairs import split_pair
from ctkd_search.records.store import DIVERGED, TrialRecord
from ctkd_search.search.driver_only import Unpickled
from ctkd_search.search.trainable import NUMBER
from ctkd_search.space.definition import Space
from ctkd_search.space.sections import COSTS


class Ladders(Unpickled, FIFOScheduler):
    """ASHA's rungs, kept for every group of trials that may be compared, and filled from the records.

    Baselines and confirmations are on no ladder and go to the end. Only trials of the same method are compared: one may
    learn fast what another learns better in the end, and each is to have as much of the budget. Where what a student
    costs is an objective, only trials with the same student are: a small one would lose to a large one on every rung.

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
        # Epochs that a trial has been let past, before an interruption.
        self._passed: dict[int, int] = {}
        for record in records.values():
            if not record.ended and record.epochs:
                # Whether it goes on after its last epoch may not have been decided yet.
                self._passed[record.number] = len(record.epochs) - 1
            elif record.explores:
                # Ray asks nothing about the epoch in which a trial has diverged, so that it is on no rung.
                for epoch in record.epochs[: -1 if record.status == DIVERGED else None]:
                    if math.isfinite(self._score(epoch)):
                        self._bracket(record).on_result(_stub(record), epoch["epoch"], self._score(epoch))

    def _score(self, measured: Mapping[str, Any]) -> float:
        """What trials are judged by, so that more is better: ladders are asked past Ray, which would turn it round."""
        return self._judge.sign * float(measured[self._judge.key])

    def _bracket(self, record: TrialRecord) -> Any:
        """The ladder of a trial; of Hyperband's, one that its number decides."""
        group = record.method, split_pair(record.values["pair"]).student if self._by_student else ""
        if group not in self._groups:
            self._groups[group] = ASHAScheduler(metric=self._judge.key, mode="max", **self._options)._brackets
        ladders = self._groups[group]
        # As Ray weighs them: the fewer rungs a ladder has, the fewer trials it gets.
        weights = np.exp([float(len(ladder._rungs)) for ladder in ladders])
        random = np.random.default_rng(derived_seed("ladder", self._seed, record.number))
        return ladders[random.choice(len(ladders), p=weights / weights.sum())]

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Asked by Ray after each epoch of a trial whether it goes on."""
        record = self._records[trial.config[NUMBER]]
        epoch = result[TRAINING_ITERATION]
        if not record.explores or not self._stops:
            return TrialScheduler.CONTINUE
        score = self._score(result)
        if not math.isfinite(score):
            return TrialScheduler.STOP  # nothing is better or worse than it, so that it would climb every rung
        decision: str = self._bracket(record).on_result(_stub(record), epoch, score)
        return TrialScheduler.CONTINUE if epoch <= self._passed.get(record.number, 0) else decision


def _stub(record: TrialRecord) -> Any:
    """What Ray's ladders look at of a trial."""
    return SimpleNamespace(trial_id=record.number)


class Halt(Unpickled, tune.Stopper):
    """Ends the trials that run: when the time budget is over, or when there is another reason.

    Args:
        seconds: The time budget from now on, or None for no limit.
    """

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds
        self._reason: str | None = None

    def because(self, reason: str) -> None:
        """Ends them for a reason; the first one given counts."""
        self._reason = self._reason or reason

    def again(self) -> None:
        """Forgets the reason, so that the trials can go on."""
        self._reason = None

    @property
    def reason(self) -> str | None:
        """Why the trials end; None while they may go on."""
        return self._reason or ("the time budget ended" if self.left() == 0.0 else None)

    def left(self) -> float | None:
        """Seconds of the time budget, or None if there is no limit."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Asked by Ray after each epoch: no trial is stopped alone."""
        return False

    def stop_all(self) -> bool:
        """Asked by Ray all the time: whether all trials end."""
        return self.reason is not None
