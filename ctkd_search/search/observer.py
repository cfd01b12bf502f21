"""Ray's callback: turns Ray's events into trial records, and calls the listeners."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from ctkd_search.records.listener import TrialListener
from ctkd_search.records.states import read_state, state_path
from ctkd_search.records.store import (
    DIVERGED,
    FAILED,
    FINISHED,
    INTERRUPTED,
    PAUSED,
    RUNNING,
    STOPPED,
    WAITING,
    TrialRecord,
)
from ctkd_search.search.driver_only import DriverOnly
from ctkd_search.search.failures import Failure, failure_of, is_full_disk
from ctkd_search.search.scheduler import GroupedAsha
from ctkd_search.search.stop_signal import StopReason, StopSignal
from ctkd_search.search.trainable import NUMBER

_STOPPING = "stopping; all results so far are kept ..."


class Observer(DriverOnly, tune.Callback):
    """Turns Ray's events into trial records, and calls the listeners after each of them.

    Args:
        epochs: Epochs of a trial that is not stopped early.
        retries: How often a failed trial is retried.
        states: Directory of the trials' states.
        listeners: Called in this order; the one that writes the records comes first.
        records: Every trial of the search by number.
        stop_signal: Ends all trials once it is set.
        packed: Whether several trials share a GPU, so that fewer of them may run where memory is short.
        say: Prints a line; each note of a trial is printed once.
        scheduler: Decides which of the trials that do not go on are paused; None where no trial is stopped early.
    """

    def __init__(
        self,
        epochs: int,
        retries: int,
        states: Path,
        listeners: Sequence[TrialListener],
        records: Mapping[int, TrialRecord],
        stop_signal: StopSignal,
        say: Callable[[str], None] = print,
        scheduler: GroupedAsha | None = None,
    ) -> None:
        self.epochs = epochs
        self.retries = retries
        self.states = states
        self.listeners = listeners
        self.records = records
        self.stop_signal = stop_signal
        self.packed = False
        self._say = say
        self._scheduler = scheduler
        self._printed: set[str] = set()
        # For each trial that raised an error: the error and the number of epochs before it.
        self._raised: dict[int, tuple[str, int]] = {}

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Called by Ray when a trial starts."""
        record = self.records[trial.config[NUMBER]]
        record.status, record.reason = RUNNING, ""
        with self._stop_when_full():
            for listener in self.listeners:
                listener.trial_started(record)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Called by Ray after each epoch of a trial."""
        for note in result["notes"]:
            self._say_once(note)
        self._report(self.records[trial.config[NUMBER]], dict(result["metrics"]))

    def _say_once(self, text: str) -> None:
        if text not in self._printed:
            self._printed.add(text)
            self._say(text)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Called by Ray when a trial has ended, by itself or because it was stopped."""
        record = self.records[trial.config[NUMBER]]
        result = trial.last_result or {}
        reached = record.epochs[-1]["epoch"] if record.epochs else 0
        if result.get("diverged"):
            self._end(record, DIVERGED, f"the loss was no longer a finite number in epoch {reached}")
        elif reached >= self.epochs:
            self._end(record, FINISHED, f"all {reached} epochs")
        else:
            paused = self._scheduler is not None and self._scheduler.pauses(record)
            self._end(record, PAUSED if paused else STOPPED, f"after epoch {reached}")
        if self._scheduler is not None:
            self.stop_paused(list(self._scheduler.hopeless()))

    def stop_paused(self, records: Iterable[TrialRecord]) -> None:
        """Stops paused trials, which will not be promoted any more."""
        for record in records:
            self._end(record, STOPPED, f"after epoch {len(record.epochs)}")

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Called by Ray when a trial has raised, or its process has died."""
        record = self.records[trial.config[NUMBER]]
        failure = failure_of(trial)
        if failure.full_disk:
            self.stop_signal.set(StopReason.DISK_FULL)
            self._end(record, WAITING, failure.reason)
        elif failure.out_of_memory and self.packed:
            self.stop_signal.set(StopReason.GPU_MEMORY)
            self._end(record, WAITING, failure.reason)
        elif record.retries < self.retries and self._may_pass(record, failure):
            record.retries += 1
            self._say(f"trial {record.number}: {failure.reason}; going on from its last epoch")
            self._end(record, WAITING, f"to be tried again: {failure.reason}")
        else:
            self._end(record, FAILED, _after(record.retries, failure))

    def _may_pass(self, record: TrialRecord, failure: Failure) -> bool:
        """Returns whether a retry may succeed: not where a trial raised the same error after the same epoch before."""
        raised = (failure.reason, len(record.epochs))
        again = self._raised.get(record.number) == raised
        self._raised[record.number] = raised
        return failure.may_pass and (failure.of_the_machine or not again)

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Called by Ray many times a second."""
        if self.stop_signal.reason in (StopReason.INTERRUPTED, StopReason.CALLBACK):
            self._say_once(_STOPPING)
        records = list(self.records.values())
        for listener in self.listeners:
            listener.tick(records)

    def close_running(self, status: str, reason: str) -> None:
        """Ends the records of trials that were running when all trials were stopped; Ray does not report these."""
        for record in self.records.values():
            if record.status == RUNNING:
                if status == INTERRUPTED:
                    self._restore_epochs(record)
                self._end(record, status, reason)

    def _restore_epochs(self, record: TrialRecord) -> None:
        """Adds the epochs that a trial has saved but not reported, so that its record and its student agree."""
        try:
            kept = read_state(state_path(self.states, record.number))
        except (OSError, MemoryError):
            return  # the trial reports them when it goes on
        if kept is not None:
            for metrics in kept["history"][len(record.epochs) :]:
                self._report(record, metrics)

    def _report(self, record: TrialRecord, metrics: dict[str, Any]) -> None:
        # A trial that goes on reports its earlier epochs once more, with the same numbers.
        if metrics["epoch"] > len(record.epochs):
            record.epochs.append(metrics)
            with self._stop_when_full():
                for listener in self.listeners:
                    listener.trial_reported(record)

    def _end(self, record: TrialRecord, status: str, reason: str) -> None:
        record.status, record.reason = status, reason
        with self._stop_when_full():
            for listener in self.listeners:
                listener.trial_ended(record)

    @contextlib.contextmanager
    def _stop_when_full(self) -> Iterator[None]:
        """Sets the stop signal where the disk is full; the rest of the block is skipped, and other errors are raised.

        Records that could not be written are restored from the trials' own states when the search goes on.
        """
        try:
            yield
        except Exception as error:
            if not is_full_disk(error):
                raise
            self.stop_signal.set(StopReason.DISK_FULL)


def _after(retries: int, failure: Failure) -> str:
    times = {0: "", 1: " (tried again once)"}.get(retries, f" (tried again {retries} times)")
    return f"{failure.reason}{times}"
