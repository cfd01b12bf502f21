"""What a search cost, and what live teachers would have cost."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# A training step goes forward once and backward for about twice as much work: going forward alone is a third of it.
FORWARD_SHARE = 1 / 3


@dataclass(frozen=True)
class Use:
    """What a trial would have asked of live teachers.

    Attributes:
        epochs: How many epochs it trained.
        scratch: Seconds in which its scratch teacher trains an epoch; 0 if it needs none, None if not known.
        expert: Seconds in which a network like its expert trains an epoch, likewise.
    """

    epochs: int
    scratch: float | None
    expert: float | None


@dataclass(frozen=True)
class Spending:
    """Where the time of a search went, in seconds summed over everything that ran side by side.

    Attributes:
        trials: In the epochs of the trials, but for `recording`.
        epochs: How many epochs these were.
        recording: In these epochs, recording experts for all trials, or waiting for another trial that did.
        teachers: In the training of teachers before the trials; None if not known of one of them.
        experts: Of that, in the training of experts, which live teachers need as well.
        live_scratch: In the scratch teachers, had they been trained beside every student: an estimate; None if unknown.
        live_expert: In the experts' forward passes, had they gone along every student's epochs: an estimate, likewise.
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
        """All that was spent on teachers and trials."""
        return None if self.teachers is None else self.trials + self.recording + self.teachers

    @property
    def live(self) -> float | None:
        """The estimate of what it all would have cost with live teachers."""
        if self.experts is None or self.live_scratch is None or self.live_expert is None:
            return None
        return self.trials + self.experts + self.live_scratch + self.live_expert


def summed(parts: Iterable[float | None]) -> float | None:
    """The sum; None if a part is not known."""
    known = list(parts)
    return None if any(part is None for part in known) else sum(part for part in known if part is not None)


def per_epoch(seconds: Sequence[float]) -> float | None:
    """Seconds of a typical epoch: the median, so that a machine that was busy for a while does not count."""
    return statistics.median(seconds) if seconds else None


def live_teachers(uses: Sequence[Use]) -> tuple[float | None, float | None]:
    """What live teachers would have cost trials: the training of scratch teachers, and forward passes of experts."""
    scratch = summed(None if use.scratch is None else use.epochs * use.scratch for use in uses)
    expert = summed(None if use.expert is None else use.epochs * use.expert * FORWARD_SHARE for use in uses)
    return scratch, expert
