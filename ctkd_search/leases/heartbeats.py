"""One thread per process that calls functions periodically.

It is one for all of them, and runs for the life of the process: a process that is short of memory may not be able to
start another thread, and `threading.Thread.start` can then wait for ever.
"""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable

# A function that is called periodically; returns the seconds until its next call, or None to end.
Beat = Callable[[], float | None]


class Heartbeats:
    """Functions that one thread calls periodically."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: dict[Beat, float] = {}
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the thread, if this process has none yet.

        Raises:
            RuntimeError: No thread can be started.
        """
        with self._changed:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="heartbeats", daemon=True)
                thread.start()
                self._thread = thread

    def forget(self) -> None:
        """Resets a process that was just forked: it has no threads, and does not call its parent's functions."""
        self._changed = threading.Condition()
        self._due = {}
        self._thread = None

    def add(self, beat: Beat, pause: float) -> None:
        """Adds a function, to be called first after `pause` seconds; `start` was called before."""
        with self._changed:
            self._due[beat] = time.monotonic() + pause
            self._changed.notify()

    def remove(self, beat: Beat) -> None:
        """Removes a function; a call of it may be in progress."""
        with self._changed:
            self._due.pop(beat, None)

    def _run(self) -> None:
        """Calls the functions that are due, for ever."""
        while True:
            with self._changed:
                beat = min(self._due, key=self._due.__getitem__, default=None)
                left = None if beat is None else self._due[beat] - time.monotonic()
                if beat is None or left is None or left > 0:
                    self._changed.wait(left)
                    continue
            pause = None
            try:
                pause = beat()
            except Exception:  # the others go on
                traceback.print_exc()
            with self._changed:
                if beat in self._due:
                    if pause is None:
                        del self._due[beat]
                    else:
                        self._due[beat] = time.monotonic() + pause


heartbeats = Heartbeats()
os.register_at_fork(after_in_child=heartbeats.forget)
