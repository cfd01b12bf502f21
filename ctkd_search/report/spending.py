"""The cost of a search, and an estimate of its cost with live teachers."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# A training step goes forward once and backward for about twice as much work: going forward alone is a third of it.
FORWARD_SHARE = 1 / 3


@dataclass(frozen=True)
class Use:
    """The use that a trial would have made of live teachers.

    Attributes:
        epochs: Number of epochs of the trial.
        scratch: Seconds of an epoch of its scratch teacher's training; 0 if it needs none, None if unknown.
        expert: Seconds of an epoch of training a network like its expert; 0 if it needs none, None if unknown.
    """

    epochs: int
    scratch: float | None
    expert: float | None


@dataclass(frozen=True)
class Spending:
    """The time of a search by purpose, in seconds summed over everything that ran at the same time.

    Attributes:
        trials: Epochs of the trials, without `recording`.
        epochs: Number of these epochs.
        recording: Recording of experts for all trials in these epochs, or waiting for another trial that recorded.
        teachers: Training of teachers before the trials; None if unknown for one of them.
        experts: The part of `teachers` spent on experts, which live teachers need as well.
        live_scratch: Estimated training of scratch teachers in every trial; None if unknown.
        live_expert: Estimated forward passes of experts in every trial; None if unknown.
    """

    trials: float
    epochs: int
    recording: float
    teachers: float | None
    experts: float | None
    live_scratch: float | None
    live_expert: float | None

    @property
    def spent(self) -> float | None:
        """The time spent on teachers and trials."""
        return None if self.teachers is None else self.trials + self.recording + self.teachers

    @property
    def live(self) -> float | None:
        """The estimated time with live teachers."""
        if self.experts is None or self.live_scratch is None or self.live_expert is None:
            return None
        return self.trials + self.experts + self.live_scratch + self.live_expert


def summed(parts: Iterable[float | None]) -> float | None:
    """Returns the sum; None if a part is unknown."""
    known = list(parts)
    return None if any(part is None for part in known) else sum(part for part in known if part is not None)


def per_epoch(seconds: Sequence[float]) -> float | None:
    """Returns the median seconds of an epoch, which a machine that was busy for a while does not change."""
    return statistics.median(seconds) if seconds else None


def live_teachers(uses: Sequence[Use]) -> tuple[float | None, float | None]:
    """Returns the estimated seconds of live teachers: training of scratch teachers, and forward passes of experts."""
    scratch = summed(None if use.scratch is None else use.epochs * use.scratch for use in uses)
    expert = summed(None if use.expert is None else use.epochs * use.expert * FORWARD_SHARE for use in uses)
    return scratch, expert
