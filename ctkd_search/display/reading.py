"""The progress of reading images: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ctkd_search.data.watching import watched_by

_LINE_SECONDS = 30.0
# Work that ends sooner gets no bar.
_BAR_SECONDS = 0.5


@contextmanager
def shown_on(console: Console) -> Iterator[None]:
    """Shows the reading of images on a console while the block runs."""
    shown = _Shown(console)
    try:
        with watched_by(shown):
            yield
    finally:
        shown.clear()


class _Shown:
    """Shows the progress of one task at a time, the latest one reported."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._what = ""
        self._shown_at = 0.0
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def progress(self, what: str, done: int, total: int) -> None:
        """Shows that `done` of `total` are done."""
        now = time.monotonic()
        if what != self._what:
            self.clear()
            self._what, self._shown_at = what, now
        if done >= total:
            self.clear()
        elif self._console.is_terminal:
            if self._bar is None and now - self._shown_at >= _BAR_SECONDS:
                self._draw(what, total)
            if self._bar is not None:
                self._bar.update(self._task, completed=done)
        elif now - self._shown_at >= _LINE_SECONDS:
            self._shown_at = now
            self.note(f"{what}: {done:,} of {total:,}")

    def note(self, text: str) -> None:
        """Prints a line."""
        self._console.print(text, soft_wrap=True, highlight=False, markup=False, emoji=False)

    def clear(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.stop()
        self._bar, self._what = None, ""

    def _draw(self, what: str, total: int) -> None:
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        self._bar = Progress(*columns, TimeRemainingColumn(), console=self._console, transient=True)
        self._task = self._bar.add_task(what, total=total)
        self._bar.start()
