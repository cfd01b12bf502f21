"""The signal that ends all trials of a search, and the reasons for it."""

from __future__ import annotations

import enum
import threading
import time
from typing import Any

from ray import tune

from ctkd_search.search.driver_only import DriverOnly


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


class StopSignal(DriverOnly, tune.Stopper):
    """Ends all running trials once it is set, once a callback asks for it, or once the time budget is over.

    Args:
        seconds: The time budget from now on, or None for no limit.
        asked: Set when a callback asks for the end; None where none can.
    """

    def __init__(self, seconds: float | None, asked: threading.Event | None = None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds
        self._asked = asked
        self._reason: StopReason | None = None

    def set(self, reason: StopReason) -> None:
        """Ends the trials; where it is set already, the first reason is kept."""
        self._reason = self._reason or reason

    def clear(self) -> None:
        """Forgets the reason, so that the trials can go on; the time budget and what a callback asked for stay."""
        self._reason = None

    @property
    def reason(self) -> StopReason | None:
        """The reason for which the trials end; None while they may go on."""
        if self._reason is None and self._asked is not None and self._asked.is_set():
            return StopReason.CALLBACK
        return self._reason or (StopReason.TIME_BUDGET if self.seconds_left() == 0.0 else None)

    def seconds_left(self) -> float | None:
        """Returns the seconds left of the time budget, or None if there is no limit."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Returns False: no trial is stopped alone. Called by Ray after each epoch."""
        return False

    def stop_all(self) -> bool:
        """Returns whether all trials end; called by Ray all the time."""
        return self.reason is not None
