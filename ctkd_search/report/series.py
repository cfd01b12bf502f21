"""Series from the records of trials: the best value over time, counts at rungs, and means of curves."""

from __future__ import annotations

import bisect
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ctkd_search.metrics import ACCURACY
from ctkd_search.records.store import FINISHED, PAUSED, STOPPED, TrialRecord

# An interval of time in seconds: from, to.
Interval = tuple[float, float]


@dataclass(frozen=True)
class Finish:
    """A trial that finished, with the state of the search at that time.

    Attributes:
        trial: Its number.
        value: Its last value of the metric that trials are ranked by.
        best: The best value of all trials that had finished by then.
        seconds: The time for which trials had run by then, without pauses of the search.
        epochs: The number of epochs that all trials had trained by then.
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
        epoch: The epoch after which trials are compared.
        reached: Number of trials that reached it.
        stopped: Number of trials that were stopped at it.
    """

    epoch: int
    reached: int
    stopped: int


def accuracies(trial: TrialRecord) -> list[float]:
    """Returns a trial's validation accuracy after each epoch."""
    return [epoch[ACCURACY.key] for epoch in trial.epochs]


def judged(trial: TrialRecord) -> list[float]:
    """Returns the values of the metric that a trial is ranked by, after each epoch."""
    return [epoch[trial.objective] for epoch in trial.epochs]


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """Returns the union of intervals, in order and without overlaps."""
    merged: list[Interval] = []
    for start, stop in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return merged


def elapsed(merged: Sequence[Interval], moment: float) -> float:
    """Returns the total length of disjoint intervals before a moment."""
    return sum(min(stop, moment) - start for start, stop in merged if start < moment)


def is_dated(trials: Sequence[TrialRecord]) -> bool:
    """Returns whether the records contain the time of every epoch."""
    return all("at" in epoch for trial in trials for epoch in trial.epochs)


def finishes(trials: Sequence[TrialRecord]) -> list[Finish]:
    """Returns the trials that finished, in the order in which they did, with the best value until then.

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
    """Returns the counts of trials at each rung.

    Args:
        trials: The explored trials.
        epochs: The rungs.
    """
    return [
        Rung(
            epoch,
            sum(len(trial.epochs) >= epoch for trial in trials),
            sum(trial.status in (STOPPED, PAUSED) and len(trial.epochs) == epoch for trial in trials),
        )
        for epoch in epochs
    ]


def mean_curve(curves: Sequence[Sequence[float]]) -> list[float]:
    """Returns the mean of several curves at every epoch that all of them have."""
    return [statistics.fmean(values) for values in zip(*curves, strict=False)]


def end_of(trials: Sequence[TrialRecord]) -> tuple[float, int]:
    """Returns the seconds for which trials have run, without pauses, and their number of epochs, all of them dated."""
    epochs = _epochs(trials)
    return elapsed(union(epochs), math.inf), len(epochs)


def _epochs(trials: Sequence[TrialRecord]) -> list[Interval]:
    """Returns the start and end of each epoch, in seconds."""
    ends = [(epoch["at"] / 1000, epoch["seconds"]) for trial in trials for epoch in trial.epochs]
    return [(end - seconds, end) for end, seconds in ends]
