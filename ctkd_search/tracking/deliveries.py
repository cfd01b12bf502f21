"""Queue of what is to be delivered to MLflow, between a search and the thread that delivers it."""

from __future__ import annotations

import threading
import time
from typing import Generic, Protocol, TypeVar


class Numbered(Protocol):
    """A thing to deliver; its number tells it from all others."""

    @property
    def number(self) -> int:
        """Returns the number."""


Item = TypeVar("Item", bound=Numbered)


class Deliveries(Generic[Item]):
    """Trials, say, that are to be delivered, each from some time on, by a thread that takes one at a time.

    One that is noted several times before it is taken is delivered once.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        # Each by its number, with the time from which on it is to be delivered.
        self._due: dict[int, tuple[Item, float]] = {}
        self._taken = False
        # Number of things that were delivered, and whether the last attempt failed.
        self._delivered, self._failed = 0, False
        self._flushing = 0
        self._closed = False

    def note(self, item: Item, seconds: float = 0.0) -> None:
        """Notes that something has changed.

        Args:
            item: The changed thing.
            seconds: How long its delivery may wait for further changes.
        """
        with self._changed:
            _, before = self._due.get(item.number, (item, float("inf")))
            self._due[item.number] = item, min(before, time.monotonic() + seconds)
            self._changed.notify_all()

    def take(self) -> Item | None:
        """Waits for something that is to be delivered now; None once the queue is closed and nothing is left."""
        with self._changed:
            if self._taken:  # and not put back
                self._taken, self._failed = False, False
                self._delivered += 1
            self._changed.notify_all()
            while not self._due or self._seconds_left() > 0:
                if self._closed and not self._due:
                    return None
                self._changed.wait(self._seconds_left() if self._due else None)
            item, _ = self._due.pop(self._soonest())
            self._taken = True
            return item

    def again(self, item: Item, pause: float) -> bool:
        """Puts something back that could not be delivered, and waits; returns False if the queue was closed before.

        Args:
            item: The thing.
            pause: Seconds until the next is taken.
        """
        with self._changed:
            self._due.setdefault(item.number, (item, time.monotonic()))
            self._taken, self._failed = False, True
            self._changed.notify_all()
            if not self._closed:
                self._changed.wait_for(lambda: self._closed, timeout=pause)
                return True
            return False

    def flush(self, seconds: float, unless_failed: float | None = None) -> bool:
        """Has everything delivered at once, and waits for it as long as one thing after the other is delivered.

        Args:
            seconds: The longest time without a delivery.
            unless_failed: The longest time without one while no attempt has failed; None for the same.

        Returns:
            Whether everything has been delivered.
        """
        with self._changed:
            self._flushing += 1
            self._changed.notify_all()
            count, since = self._delivered, time.monotonic()
            try:
                while self._due or self._taken:
                    if self._delivered != count:
                        count, since = self._delivered, time.monotonic()
                    longest = seconds if self._failed or unless_failed is None else unless_failed
                    left = since + longest - time.monotonic()
                    if left <= 0:
                        return False
                    self._changed.wait(left)
                return True
            finally:
                self._flushing -= 1

    def close(self) -> None:
        """Has the rest delivered at once, and no more after that."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _soonest(self) -> int:
        return min(self._due, key=lambda number: self._due[number][1])

    def _seconds_left(self) -> float:
        """Returns the seconds until the first thing is to be delivered."""
        hurried = self._flushing or self._closed
        return 0.0 if hurried else self._due[self._soonest()][1] - time.monotonic()
