"""The signal that ends all trials of a search, and the reasons for it."""

from __future__ import annotations

import enum
import threading
import time
from typing import Any

from ray import tune

from ctkd_search.errors import WorkFailed
from ctkd_search.search.driver_only import DriverOnly


class OutOfTime(WorkFailed):
    """The time budget ended before any of the trials that were to come could begin."""


class StopReason(enum.Enum):
    """Reasons to end all trials; the values are the texts that users and records see."""

    TIME_BUDGET = "the time budget ended"
    INTERRUPTED = "stopped by a signal"
    CALLBACK = "stopped by a callback"
    DISK_FULL = "the disk is full"
    GPU_MEMORY = "the GPU has no room for so many trials"
    TAKEN_OVER = (
        "another process has taken this over, because this one did not run for a while; this one writes no more"
    )
    NO_NEXT_TRIAL = "no trial can be begun"


# Of reasons that come together, the first of these is told: nobody may write what another process has taken over, and
# trials that are interrupted are not begun again with more room.
_ORDER = (
    StopReason.TAKEN_OVER,
    StopReason.DISK_FULL,
    StopReason.INTERRUPTED,
    StopReason.NO_NEXT_TRIAL,
    StopReason.GPU_MEMORY,
)


class StopSignal(DriverOnly, tune.Stopper):
    """Ends all running trials once it is set, once a callback asks for it, or once the time budget is over.

    Args:
        seconds: The time budget from now on, or None for no limit.
        asked: Set when a callback asks for the end; None where none can.
    """

    def __init__(self, seconds: float | None, asked: threading.Event | None = None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds
        self._asked = asked
        # Added to by signal handlers and by the thread that keeps the lease: a set needs no lock for that.
        self._reasons: set[StopReason] = set()

    def set(self, reason: StopReason) -> None:
        """Ends the trials."""
        self._reasons.add(reason)

    def forget(self, *reasons: StopReason) -> None:
        """Forgets reasons, or all of them, so that the trials can go on.

        The time budget stays, and what a callback asked for, and the loss of the search to another process.
        """
        for reason in reasons or _ORDER:
            if reason is not StopReason.TAKEN_OVER:
                self._reasons.discard(reason)

    @property
    def reason(self) -> StopReason | None:
        """The reason for which the trials end; None while they may go on."""
        reason = next((reason for reason in _ORDER if reason in self._reasons), None)
        if reason is None and self._asked is not None and self._asked.is_set():
            return StopReason.CALLBACK
        return reason or (StopReason.TIME_BUDGET if self.seconds_left() == 0.0 else None)

    def seconds_left(self) -> float | None:
        """Returns the seconds left of the time budget, or None if there is no limit."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Returns False: no trial is stopped alone. Called by Ray after each epoch."""
        return False

    def stop_all(self) -> bool:
        """Returns whether all trials end; called by Ray all the time."""
        return self.reason is not None
