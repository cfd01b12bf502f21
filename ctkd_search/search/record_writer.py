"""The listener that writes the trials' records to disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ctkd_search.records.listener import TrialListener
from ctkd_search.records.states import keep_only
from ctkd_search.records.store import SearchFolder, TrialRecord


class RecordWriter(TrialListener):
    """Writes every trial's record to disk, and keeps only those of the trials' states that may still be needed.

    Args:
        folder: The search's directory.
        records: Every trial by number.
        candidates: Returns those of the trials that may become the winner.
        run_id: Returns the id of a trial's MLflow run.
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
        """Writes the record."""
        self._write(trial)

    def trial_reported(self, trial: TrialRecord) -> None:
        """Writes the record."""
        self._write(trial)

    def trial_ended(self, trial: TrialRecord) -> None:
        """Writes the record, and removes the states of trials that will neither go on nor win."""
        self._write(trial)
        records = list(self._records.values())
        going_on = [record for record in records if not record.ended]
        keep_only(self._folder.states, {record.number for record in (*self._candidates(records), *going_on)})

    def _write(self, trial: TrialRecord) -> None:
        trial.run_id = self._run_id(trial.number) or trial.run_id
        self._folder.write_trial(trial)
