"""The base class of listeners to the trials of a running search."""

from __future__ import annotations

from collections.abc import Sequence

from ctkd_search.records.store import TrialRecord


class TrialListener:
    """Base class of listeners; its methods do nothing, so that a listener overrides those that it needs.

    The observer of a search calls every listener after it has updated the trial's record.
    """

    def work_started(self) -> None:
        """Called once, when the records and MLflow's runs are open, and before teachers are trained."""

    def trial_started(self, trial: TrialRecord) -> None:
        """Called when a trial begins, or resumes."""

    def trial_reported(self, trial: TrialRecord) -> None:
        """Called after each epoch of a trial; its metrics are the last of ``trial.epochs``."""

    def trial_ended(self, trial: TrialRecord) -> None:
        """Called when a trial has ended or is paused; see its status and reason."""

    def tick(self, trials: Sequence[TrialRecord]) -> None:
        """Called many times a second with every trial of the search."""
