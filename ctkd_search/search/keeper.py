"""What stays on disk of the trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ctkd_search.results.store import SearchFolder, TrialRecord, contenders
from ctkd_search.search.states import keep_only
from ctkd_search.strategy import Confirm


class Keeper:
    """Keeps every trial's record on disk, and of the states only those that may be needed.

    Args:
        folder: The search's directory.
        records: Every trial by number.
        confirm: How many trials may become the winner, or None.
        run_id: The MLflow run of a trial.
    """

    def __init__(
        self,
        folder: SearchFolder,
        records: dict[int, TrialRecord],
        confirm: Confirm | None,
        run_id: Callable[[int], str | None],
    ) -> None:
        self._folder = folder
        self._records = records
        self._most = confirm.best if confirm else 1
        self._run_id = run_id

    def trial_started(self, trial: TrialRecord) -> None:
        """Keeps the record."""
        self._write(trial)

    def trial_reported(self, trial: TrialRecord, metrics: dict[str, Any]) -> None:
        """Keeps the record."""
        self._write(trial)

    def trial_ended(self, trial: TrialRecord) -> None:
        """Keeps the record, and removes the states of trials that will neither go on nor win."""
        self._write(trial)
        candidates = contenders(list(self._records.values()))[: self._most]
        going_on = [record for record in self._records.values() if not record.ended]
        keep_only(self._folder.states, {record.number for record in (*candidates, *going_on)})

    def tick(self, trials: Sequence[TrialRecord]) -> None:
        """Nothing to keep between events."""

    def _write(self, trial: TrialRecord) -> None:
        trial.run_id = self._run_id(trial.number) or trial.run_id
        self._folder.write_trial(trial)
