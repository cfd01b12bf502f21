"""What stays on disk of the trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ctkd_search.records.states import keep_only
from ctkd_search.records.store import SearchFolder, TrialRecord


class RecordWriter:
    """Keeps every trial's record on disk, and of the states only those that may be needed.

    Args:
        folder: The search's directory.
        records: Every trial by number.
        candidates: Those of the trials that may become the winner.
        run_id: The MLflow run of a trial.
    """

    def __init__(
        self,
        folder: SearchFolder,
        records: dict[int, TrialRecord],
        candidates: Callable[[Sequence[TrialRecord]], Sequence[TrialRecord]],
        run_id: Callable[[int], str | None],
    ) -> None:
        self._folder = folder
        self._records = records
        self._candidates = candidates
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
        records = list(self._records.values())
        going_on = [record for record in records if not record.ended]
        keep_only(self._folder.states, {record.number for record in (*self._candidates(records), *going_on)})

    def tick(self, trials: Sequence[TrialRecord]) -> None:
        """Nothing to keep between events."""

    def _write(self, trial: TrialRecord) -> None:
        trial.run_id = self._run_id(trial.number) or trial.run_id
        self._folder.write_trial(trial)
