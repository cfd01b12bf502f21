"""Which trials go on: ASHA, and the time budget. Both outlive an interruption."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from ray import tune
from ray.tune.result import TRAINING_ITERATION
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from ctkd_search.results.store import STOPPED, TrialRecord
from ctkd_search.search.trainable import METRIC
from ctkd_search.space import Budget


class Ladder(ASHAScheduler):
    """ASHA that knows the trials of before an interruption.

    Ray keeps a scheduler as it was before the first trial, so that a resumed search would begin with empty rungs. This
    one is pickled by reference to the current one, whose rungs are filled from the records.

    Args:
        budget: Grace period, reduction factor and epochs.
        known: Records of an interrupted search that goes on.
    """

    def __init__(self, budget: Budget, known: Sequence[TrialRecord] = ()) -> None:
        global _ladder
        super().__init__(
            metric=METRIC,
            mode="max",
            max_t=budget.epochs,
            grace_period=budget.grace_period,
            reduction_factor=budget.reduction_factor,
        )
        # What was stopped stays stopped, even if Ray's last snapshot has missed it.
        self._stopped_after = {record.id: len(record.epochs) for record in known if record.status == STOPPED}
        for record in known:
            for epoch in record.epochs:
                self._brackets[0].on_result(SimpleNamespace(trial_id=record.id), epoch["epoch"], epoch[METRIC])
        _ladder = self

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Asked by Ray after each epoch of a trial whether it goes on."""
        if result[TRAINING_ITERATION] >= self._stopped_after.get(trial.trial_id, math.inf):
            return TrialScheduler.STOP
        decision: str = super().on_trial_result(tune_controller, trial, result)
        return decision

    def __reduce__(self) -> Any:
        """Pickles as a reference to whatever ladder there is."""
        return _current_ladder, ()


class Deadline(tune.Stopper):
    """Ends a search when its time budget does; pickled by reference, as the ladder is.

    Args:
        seconds: The budget from now on, or None for no limit.
    """

    def __init__(self, seconds: float | None) -> None:
        global _deadline
        self._end = None if seconds is None else time.monotonic() + seconds
        _deadline = self

    def left(self) -> float | None:
        """Seconds until the end, or None if there is no limit."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Asked by Ray after each epoch: no trial is stopped alone."""
        return False

    def stop_all(self) -> bool:
        """Asked by Ray all the time: whether the search ends."""
        return self.left() == 0.0

    def __reduce__(self) -> Any:
        """Pickles as a reference to whatever deadline there is."""
        return _current_deadline, ()


_ladder: Ladder | None = None
_deadline: Deadline | None = None


def _current_ladder() -> Ladder | None:
    return _ladder


def _current_deadline() -> Deadline | None:
    return _deadline
