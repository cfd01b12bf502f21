"""An estimate of the time that a search still takes, from the work left and the time taken so far.

An epoch of a trial takes its *own* time: its time once its teachers are recorded. Recording an epoch of an expert is
counted once for all trials, and not again once it is kept. Trials may be stopped early; how many go on past an epoch
is estimated from those that have reached it, and from the scheduler's reduction factor if few have.
"""

from __future__ import annotations

import heapq
import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ctkd_search.analysis.stopping import Span
from ctkd_search.metrics import RECORDED_EPOCHS, RECORDING_SECONDS
from ctkd_search.pairs import split_pair
from ctkd_search.records.store import FINISHED, RUNNING, TrialRecord, own_seconds

# Weight of the scheduler's reduction factor in the estimate, as a number of trials that have reached a rung.
_PROMISED = 8
# Number of explored trials that must have ended for a single number; before that, the estimate is a range.
_ENOUGH = 2


@dataclass(frozen=True)
class Later:
    """The work that follows when the trials have ended: the confirmation.

    Attributes:
        trials: Number of trials that it trains to their end.
        recordings: Number of epochs that it records, by the expert's architecture.
        teachers: Seconds of its teachers' training.
    """

    trials: int = 0
    recordings: Mapping[str, int] = field(default_factory=dict)
    teachers: float = 0.0


class TimeLeft:
    """Estimates how long trials still take.

    Args:
        epochs: Epochs of a trial that is not stopped early.
        rungs: Epochs after which the scheduler compares trials; none if it stops none.
        reduction: Reduction factor: one in so many of the trials at a rung goes on.
        missing: Returns the number of epochs still to be recorded, by the expert's architecture.
        later: Returns the work that follows when the trials have ended.
        now: Returns the time, in seconds since 1970.
        finalists: Number of trials that go on past the only rung once all have reached it; 0 where each trial is
            promoted as soon as it is good enough.
    """

    def __init__(
        self,
        epochs: int,
        rungs: Sequence[int] = (),
        reduction: float = 1.0,
        missing: Callable[[], Mapping[str, int]] = dict,
        later: Callable[[], Later] = Later,
        now: Callable[[], float] = time.time,
        finalists: int = 0,
    ) -> None:
        self._epochs = epochs
        self._rungs = rungs
        self._reduction = reduction
        self._finalists = finalists
        self._missing = missing
        self._later = later
        self._now = now

    def estimate(self, trials: Sequence[TrialRecord], expected: int, concurrent: int) -> Span | None:
        """Returns the seconds that are left, at least and at most; None as long as too little is known.

        Args:
            trials: Every trial that there is so far.
            expected: Number of trials that there will be.
            concurrent: Number of trials at once.
        """
        pace = _Pace(trials)
        later, missing = self._later(), self._missing()
        recording = pace.recording(Counter(missing) + Counter(later.recordings))
        if recording is None or pace.any_epoch is None:
            return None
        explored = [trial for trial in trials if trial.explores]
        promised = self._promised(len(explored) + max(0, expected - len(trials)))
        if self._finalists:
            assumptions = [dict.fromkeys(self._rungs, 0.0)]
        elif not self._rungs or sum(trial.idle for trial in explored) >= _ENOUGH:
            assumptions = [self._going_on(explored, promised)]
        else:
            assumptions = [dict.fromkeys(self._rungs, 1 / self._reduction), {}]
        rounds = math.ceil(later.trials / concurrent)
        always = recording / concurrent + later.teachers + rounds * self._epochs * pace.any_epoch
        found = [always + self._trials(trials, expected, concurrent, pace, share) for share in assumptions]
        return Span(min(found), max(found))

    def _promised(self, trials: int) -> dict[int, float]:
        """Returns the expected share of trials promoted at each rung; with few trials, more than one in `reduction`."""
        shares: dict[int, float] = {}
        coming = float(trials)
        for rung in self._rungs:
            count = max(1, round(coming))
            # The i-th trial at a rung goes on if it is among the best of i, so the first one always does.
            shares[rung] = statistics.fmean(max(1, i // self._reduction) / i for i in range(1, count + 1))
            coming *= shares[rung]
        return shares

    def _going_on(self, explored: Sequence[TrialRecord], promised: Mapping[int, float]) -> dict[int, float]:
        """The share of explored trials that go on after an epoch, by the epoch; those not named go on always."""
        shares = {}
        for epoch in range(1, self._epochs):
            ended = sum(trial.idle and trial.status != FINISHED and len(trial.epochs) == epoch for trial in explored)
            passed = sum(len(trial.epochs) > epoch for trial in explored)
            prior = _PROMISED if epoch in self._rungs else 0
            if ended or prior:
                shares[epoch] = (passed + prior * promised.get(epoch, 1.0)) / (ended + passed + prior)
        return shares

    def _trials(
        self, trials: Sequence[TrialRecord], expected: int, concurrent: int, pace: _Pace, going_on: Mapping[int, float]
    ) -> float:
        """Seconds until the last of the trials has ended, each given to the first worker that is free."""
        left = [0.0] * (self._epochs + 1)
        for epoch in reversed(range(self._epochs)):
            left[epoch] = 1 + going_on.get(epoch + 1, 1.0) * left[epoch + 1]
        jobs = []
        for trial in trials:
            if not trial.idle:
                done = min(len(trial.epochs), self._epochs)
                epochs = left[done] if trial.explores else self._epochs - done
                jobs.append(max(0.0, pace.epoch(trial) * epochs - self._into_epoch(trial, pace)))
        jobs += [pace.next_trial * left[0]] * max(0, expected - len(trials))
        if self._finalists:
            rung = self._rungs[0]
            passed = sum(trial.explores and len(trial.epochs) > rung for trial in trials)
            jobs += [pace.next_trial * (self._epochs - rung)] * max(0, self._finalists - passed)
        workers = [0.0] * max(1, concurrent)
        for seconds in jobs:
            heapq.heappush(workers, heapq.heappop(workers) + seconds)
        return max(workers)

    def _into_epoch(self, trial: TrialRecord, pace: _Pace) -> float:
        """Returns the seconds that a trial has spent in its current epoch."""
        if trial.status != RUNNING or not trial.epochs or "at" not in trial.epochs[-1]:
            return 0.0
        return min(pace.epoch(trial), max(0.0, self._now() - trial.epochs[-1]["at"] / 1000))


class _Pace:
    """The times taken so far, per epoch of a trial and per recorded epoch.

    Args:
        trials: Every trial.

    Attributes:
        any_epoch: Mean of a trial's own seconds of an epoch; None if there was none.
        next_trial: Own seconds of an epoch of a trial whose method is not known yet: each method gets as many trials.
    """

    def __init__(self, trials: Sequence[TrialRecord]) -> None:
        own: dict[str, list[float]] = {}
        explored: dict[str, list[float]] = {}
        # Seconds and number of the recorded epochs, by the expert's architecture.
        self._recorded: dict[str, tuple[float, float]] = {}
        for trial in trials:
            seconds = [own_seconds(epoch) for epoch in trial.epochs]
            if seconds:
                own.setdefault(trial.method, []).extend(seconds)
            if seconds and trial.explores:
                explored.setdefault(trial.method, []).extend(seconds)
            for epoch in trial.epochs:
                if epoch.get(RECORDED_EPOCHS):
                    teacher = split_pair(trial.values["pair"]).teacher
                    before = self._recorded.get(teacher, (0.0, 0.0))
                    self._recorded[teacher] = before[0] + epoch[RECORDING_SECONDS], before[1] + epoch[RECORDED_EPOCHS]
        self._by_method = {method: statistics.fmean(seconds) for method, seconds in own.items()}
        everything = [second for seconds in own.values() for second in seconds]
        self.any_epoch = statistics.fmean(everything) if everything else None
        each = [self._by_method[method] for method in explored]
        self.next_trial = statistics.fmean(each) if each else self.any_epoch or 0.0

    def epoch(self, trial: TrialRecord) -> float:
        """Returns a trial's own seconds of an epoch: the mean of its method if known, else of all."""
        return self._by_method.get(trial.method, self.any_epoch or 0.0)

    def recording(self, epochs: Mapping[str, int]) -> float | None:
        """Returns the seconds of recording epochs of experts; None if none has been recorded yet.

        Args:
            epochs: Number of epochs by the expert's architecture.
        """
        if not sum(epochs.values()):
            return 0.0
        if not self._recorded:
            return None
        seconds, count = (sum(part) for part in zip(*self._recorded.values(), strict=True))
        total = 0.0
        for teacher, number in epochs.items():
            own = self._recorded.get(teacher, (seconds, count))
            total += number * own[0] / own[1]
        return total
