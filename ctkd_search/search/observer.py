"""What happens in Ray, told to those who keep and show it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from ray import tune
from ray.tune.experiment import Trial

from ctkd_search.errors import UserError
from ctkd_search.results.store import DIVERGED, FAILED, FINISHED, INTERRUPTED, RUNNING, STOPPED, TrialRecord
from ctkd_search.search.trainable import state_path
from ctkd_search.space import Space


class Listener(Protocol):
    """Keeps or shows what happens to trials."""

    def trial_started(self, trial: TrialRecord) -> None:
        """A trial begins, or goes on after an interruption."""
        ...

    def trial_reported(self, trial: TrialRecord, metrics: dict[str, Any]) -> None:
        """A trial has done an epoch."""
        ...

    def trial_ended(self, trial: TrialRecord) -> None:
        """A trial has ended; its status and reason say how."""
        ...

    def tick(self, trials: Sequence[TrialRecord]) -> None:
        """Called many times a second."""
        ...


class Observer(tune.Callback):
    """Ray's callback: turns Ray's events into trial records and tells them to the listeners.

    Ray pickles its callbacks into the experiment and gets them back on resuming. What comes back is then the
    observer of the resuming process, not a copy of the old one.

    Args:
        space: The space.
        states: Directory of the trials' states.
        listeners: Those who are told.
        known: Records of an interrupted search that goes on.
        say: Writes a line; each note of a trial is said once.
    """

    def __init__(
        self,
        space: Space,
        states: Path,
        listeners: Sequence[Listener],
        known: Sequence[TrialRecord] = (),
        say: Callable[[str], None] = print,
    ) -> None:
        global _current
        self.space = space
        self.states = states
        self.listeners = listeners
        self.records = {record.id: record for record in known}
        self._say = say
        self._said: set[str] = set()
        _current = self

    def __reduce__(self) -> Any:
        """Pickles as a reference to whatever observer there is."""
        return _get_current, ()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Called by Ray when a trial starts or restarts."""
        self._begin(trials, trial)

    def _begin(self, trials: list[Trial], trial: Trial) -> TrialRecord:
        record = self.records.get(trial.trial_id)
        if record is None:
            searched = {name: value for name, value in trial.config.items() if name in self.space.parameters}
            values = self.space.effective(self.space.decode(searched))
            record = TrialRecord(trial.trial_id, self._number(trials, trial), values, searched)
            self.records[record.id] = record
        else:
            record.resumed = True
        record.status, record.reason = RUNNING, ""
        for listener in self.listeners:
            listener.trial_started(record)
        return record

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Called by Ray after each epoch of a trial."""
        record = self.records[trial.trial_id]
        metrics = result["metrics"]
        for note in set(result["notes"]) - self._said:
            self._say(note)
            self._said.add(note)
        self._report(record, metrics)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Called by Ray when a trial has ended, by itself or because it was stopped."""
        record = self.records[trial.trial_id]
        result = trial.last_result or {}
        reached = record.epochs[-1]["epoch"] if record.epochs else 0
        if result.get("diverged"):
            self._end(record, DIVERGED, f"the loss was no longer a finite number in epoch {reached}")
        elif reached >= self.space.budget.epochs:
            self._end(record, FINISHED, f"all {reached} epochs")
        else:
            self._end(record, STOPPED, f"by ASHA after epoch {reached}")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Called by Ray when a trial has raised."""
        # A trial whose actor cannot be set up has never started.
        record = self.records.get(trial.trial_id) or self._begin(trials, trial)
        self._end(record, FAILED, _failure(trial))

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Called by Ray all the time."""
        records = list(self.records.values())
        for listener in self.listeners:
            listener.tick(records)

    def close_running(self, reason: str) -> None:
        """Ends the records of trials that were running when the search ended; Ray says nothing of them."""
        for record in self.records.values():
            if record.status == RUNNING:
                self._take_up_kept(record)
                self._end(record, INTERRUPTED, reason)

    def _take_up_kept(self, record: TrialRecord) -> None:
        """Notes the epochs that a trial has kept and not reported any more, so that record and student agree."""
        path = state_path(self.states, record.id)
        if path.exists():
            history = torch.load(path, map_location="cpu", weights_only=True)["history"]
            for metrics in history[len(record.epochs) :]:
                self._report(record, metrics)

    def _report(self, record: TrialRecord, metrics: dict[str, Any]) -> None:
        # A trial that goes on reports what it had measured before once more; the numbers are the same.
        record.epochs = [epoch for epoch in record.epochs if epoch["epoch"] < metrics["epoch"]] + [metrics]
        for listener in self.listeners:
            listener.trial_reported(record, metrics)

    def _number(self, trials: list[Trial], trial: Trial) -> int:
        """The number of a new trial: its place in the order in which Optuna suggested them."""
        taken = {record.number for record in self.records.values()}
        number = trials.index(trial) + 1
        while number in taken:
            number += 1
        return number

    def _end(self, record: TrialRecord, status: str, reason: str) -> None:
        record.status, record.reason = status, reason
        for listener in self.listeners:
            listener.trial_ended(record)


def _failure(trial: Trial) -> str:
    """Why a trial failed, in a line: the last one of the last error that Ray has noted."""
    try:
        text = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
    except (OSError, TypeError):
        return "no reason is known"
    lines = [line.strip() for line in text.rpartition("Failure #")[2].splitlines()[1:] if line.strip()]
    if not lines or lines[0].startswith("The actor died unexpectedly"):
        return "its worker process died"
    return lines[-1].removeprefix(f"{UserError.__module__}.{UserError.__name__}: ")


_current: Observer | None = None


def _get_current() -> Observer | None:
    return _current
