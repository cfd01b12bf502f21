"""What the records of trials tell as series: the best so far, what every rung stopped, and means of curves."""

from __future__ import annotations

import bisect
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ctkd_search.metrics import ACCURACY
from ctkd_search.records.store import FINISHED, STOPPED, TrialRecord

# An interval of time in seconds: from, to.
Interval = tuple[float, float]


@dataclass(frozen=True)
class Finish:
    """A trial that finished, and how the search stood then.

    Attributes:
        trial: Its number.
        value: What it reached, of what trials are judged by.
        best: The best of all that had finished by then.
        seconds: How long trials had run by then, pauses of the search left out.
        epochs: How many epochs all trials together had trained by then.
    """

    trial: int
    value: float
    best: float
    seconds: float
    epochs: int


@dataclass(frozen=True)
class Rung:
    """A rung of the scheduler.

    Attributes:
        epoch: After which epoch trials are compared there.
        reached: Trials that came so far.
        stopped: Trials that were stopped there.
    """

    epoch: int
    reached: int
    stopped: int


def accuracies(trial: TrialRecord) -> list[float]:
    """A trial's validation accuracy after each epoch."""
    return [epoch[ACCURACY.key] for epoch in trial.epochs]


def judged(trial: TrialRecord) -> list[float]:
    """What a trial is judged by after each epoch."""
    return [epoch[trial.objective] for epoch in trial.epochs]


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """Intervals without their overlaps, in order."""
    merged: list[Interval] = []
    for start, stop in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return merged


def elapsed(merged: Sequence[Interval], moment: float) -> float:
    """How much of some intervals that do not overlap lies before a moment."""
    return sum(min(stop, moment) - start for start, stop in merged if start < moment)


def is_dated(trials: Sequence[TrialRecord]) -> bool:
    """Whether it is known of every epoch when it was measured."""
    return all("at" in epoch for trial in trials for epoch in trial.epochs)


def finishes(trials: Sequence[TrialRecord]) -> list[Finish]:
    """The trials that finished, in the order in which they did, with the best until then.

    Args:
        trials: Trials of one search whose epochs are all dated.
    """
    running, measured = union(_epochs(trials)), sorted(end for _, end in _epochs(trials))
    found: list[Finish] = []
    last = [(trial.epochs[-1]["at"] / 1000, trial) for trial in trials if trial.status == FINISHED and trial.epochs]
    for moment, trial in sorted(last, key=lambda item: (item[0], item[1].number)):
        value = trial.value
        if value is None:
            continue
        better = max if trial.metric.goal == "max" else min
        best = better(value, found[-1].best) if found else value
        epochs = bisect.bisect_right(measured, moment)
        found.append(Finish(trial.number, value, best, elapsed(running, moment), epochs))
    return found


def rungs_of(trials: Sequence[TrialRecord], epochs: Iterable[int]) -> list[Rung]:
    """How many trials reached each rung, and how many were stopped there.

    Args:
        trials: The explored trials.
        epochs: The rungs.
    """
    return [
        Rung(
            epoch,
            sum(len(trial.epochs) >= epoch for trial in trials),
            sum(trial.status == STOPPED and len(trial.epochs) == epoch for trial in trials),
        )
        for epoch in epochs
    ]


def mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    """The mean of several curves at every epoch that all of them have."""
    return [statistics.fmean(values) for values in zip(*curves, strict=False)]


def end_of(trials: Sequence[TrialRecord]) -> tuple[float, int]:
    """How long trials have run, pauses left out, and how many epochs they have trained; their epochs are all dated."""
    epochs = _epochs(trials)
    return elapsed(union(epochs), math.inf), len(epochs)


def _epochs(trials: Sequence[TrialRecord]) -> list[Interval]:
    """When each epoch began and ended, in seconds."""
    ends = [(epoch["at"] / 1000, epoch["seconds"]) for trial in trials for epoch in trial.epochs]
    return [(end - seconds, end) for end, seconds in ends]
