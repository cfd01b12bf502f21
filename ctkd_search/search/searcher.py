"""Searchers of Ray Tune: they hand out the trials to be run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from ctkd_search.config import TrialConfig
from ctkd_search.records.store import SEARCHED, WAITING, SearchFolder, TrialRecord
from ctkd_search.records.trial_configs import config_of
from ctkd_search.search.driver_only import DriverOnly
from ctkd_search.search.scheduler import GroupedAsha
from ctkd_search.search.study import Study
from ctkd_search.search.trainable import CONFIG, NUMBER
from ctkd_search.space.definition import Space


class PendingSearcher(DriverOnly, Searcher):
    """Hands out the trials that wait to be run.

    To Ray each of them is a new trial, also one that goes on after an interruption or a failure: its progress is in the
    records and in the states that trials save, so that Ray's own snapshots are never needed.

    Args:
        records: Every trial by number.
        concurrent: Maximum number of trials at once.
        config_of: Returns the config of a trial.
        stop: Called with the error where a trial cannot be recorded.
    """

    def __init__(
        self,
        records: dict[int, TrialRecord],
        concurrent: int,
        config_of: Callable[[TrialRecord], TrialConfig],
        stop: Callable[[Exception], None],
    ) -> None:
        super().__init__(metric=None, mode=None)
        self._records = records
        self._concurrent = concurrent
        self._config_of = config_of
        self._stop = stop
        # Numbers of the trials that Ray has, by Ray's names for them.
        self._live: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Called by Ray when there may be room for another trial."""
        if len(self._live) >= self._concurrent:
            return None
        try:
            record = self._waiting() or self._new()
        except Exception as error:  # of the disk or of Optuna's storage: Ray would only print it
            self._stop(error)
            return None
        if record is None:
            # A live trial may still fail and wait again.
            return None if self._live else Searcher.FINISHED
        self._live[trial_id] = record.number
        return {NUMBER: record.number, CONFIG: self._config_of(record)}

    def _waiting(self) -> TrialRecord | None:
        live = set(self._live.values())
        waiting = [r for r in self._records.values() if r.status == WAITING and r.number not in live]
        return min(waiting, key=lambda record: record.number, default=None)

    def _new(self) -> TrialRecord | None:
        """Returns a new trial; None if there are no more."""
        return None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Called by Ray when a trial has ended, in whatever way."""
        self._live.pop(trial_id, None)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Called by Ray after most epochs; results are handled by the observer."""

    def save(self, checkpoint_path: str) -> None:
        """Writes an empty file; called by Ray for its snapshots, which are never read."""
        open(checkpoint_path, "wb").close()

    def restore(self, checkpoint_path: str) -> None:
        """Never called: nothing is restored from Ray's snapshots."""
        raise NotImplementedError("searches go on from their own records")


class OptunaSearcher(PendingSearcher):
    """Hands out first the trials that wait, then paused ones that are promoted, then new ones until there are enough.

    Args:
        space: The space.
        folder: The search's directory, where a trial is recorded before it begins.
        study: Suggests new trials.
        records: Every trial of the search by number; new ones are added.
        concurrent: Maximum number of trials at once.
        trials: Number of trials that Optuna suggests in all.
        stop: Called with the error where a trial cannot be recorded.
        scheduler: Promotes paused trials.
    """

    def __init__(
        self,
        space: Space,
        folder: SearchFolder,
        study: Study,
        records: dict[int, TrialRecord],
        concurrent: int,
        trials: int,
        stop: Callable[[Exception], None],
        scheduler: GroupedAsha,
    ) -> None:
        super().__init__(records, concurrent, functools.partial(config_of, space), stop)
        self._space = space
        self._folder = folder
        self._study = study
        self._trials = trials
        self._scheduler = scheduler

    def _new(self) -> TrialRecord | None:
        explored = [record for record in self._records.values() if record.explores]
        more = len(explored) < self._trials
        promoted = self._scheduler.promoted(more)
        if promoted is not None:
            promoted.status, promoted.reason = WAITING, f"promoted after epoch {len(promoted.epochs)}"
            return promoted
        if not more:
            return None
        number = max(self._records, default=0) + 1
        known = [record.optuna for record in explored if record.optuna is not None]
        asked = self._study.ask(number, known)
        record = TrialRecord(
            number,
            self._space.effective(asked.values),
            asked.stored,
            self._space.seed,
            SEARCHED,
            optuna=asked.number,
            objective=self._space.strategy.judge.key,
        )
        self._folder.write_trial(record)
        self._records[number] = record
        return record
