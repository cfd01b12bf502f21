"""What the user sees while a search runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ctkd_search.results.leaderboard import clock, percent
from ctkd_search.results.store import RUNNING, STOPPED, TrialRecord, best, ranked

_REDRAW_SECONDS = 0.25
_REPORT_SECONDS = 30.0
_ROWS = 14


class Progress:
    """Shows trials as they go; use it as a context manager around the search.

    Args:
        console: Where to write.
        epochs: Epochs of a trial that is not stopped early.
        label: Makes the short name of a trial.
        seconds_left: Seconds until the time budget ends, or None if there is none.
    """

    def __init__(
        self,
        console: Console,
        epochs: int,
        label: Callable[[TrialRecord], str],
        seconds_left: Callable[[], float | None],
    ) -> None:
        self._console = console
        self._trials = 0
        self._epochs = epochs
        self._concurrent = 1
        self._label = label
        self._seconds_left = seconds_left
        self._started = self._drawn = self._reported = time.monotonic()
        self._ended_at_start: int | None = None
        self._records: Sequence[TrialRecord] = ()
        self._live: Live | None = None

    def expect(self, trials: int, concurrent: int) -> None:
        """Says how many trials there will be in all, and how many at once."""
        self._trials, self._concurrent = trials, concurrent
        self._started, self._ended_at_start = time.monotonic(), None

    def __enter__(self) -> Progress:
        """Begins to draw."""
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stops drawing and gives the terminal back."""
        if self._live:
            self._live.stop()
            self._live = None

    def trial_started(self, trial: TrialRecord) -> None:
        """Nothing to say yet."""

    def trial_reported(self, trial: TrialRecord, metrics: dict[str, Any]) -> None:
        """Seen at the next redraw."""

    def trial_ended(self, trial: TrialRecord) -> None:
        """Says a line where there is no table."""
        if not self._live:
            self._console.print(
                f"trial {trial.number}/{self._trials}  {percent(trial.accuracy)}  {self._label(trial)}  "
                f"{trial.status}: {trial.reason}",
                soft_wrap=True,
                highlight=False,
            )

    def tick(self, trials: Sequence[TrialRecord]) -> None:
        """Redraws the table, or says now and then how far it is."""
        self._records = trials
        if self._ended_at_start is None:
            self._ended_at_start = sum(trial.ended for trial in trials)
        now = time.monotonic()
        if self._live and now - self._drawn > _REDRAW_SECONDS:
            self._live.update(Group(self._table(), Text(self._summary())), refresh=True)
            self._drawn = now
        elif not self._live and now - self._reported > _REPORT_SECONDS:
            self._console.print(self._summary(), soft_wrap=True, highlight=False)
            self._reported = now

    def _summary(self) -> str:
        ended = [trial for trial in self._records if trial.ended]
        stopped = sum(trial.status == STOPPED for trial in ended)
        leader = best(list(self._records))
        parts = [f"{len(ended)} of {self._trials} trials ended", f"{stopped} stopped early"]
        if leader:
            parts.append(f"best {percent(leader.accuracy)} (trial {leader.number})")
        left = self._left(len(ended))
        parts.append(
            f"about {clock(left)} left" if left is not None else f"{clock(time.monotonic() - self._started)} so far"
        )
        return ", ".join(parts)

    def _left(self, ended: int) -> float | None:
        """Seconds left, judged by the trials that this run has ended."""
        done = ended - (self._ended_at_start or 0)
        limit = self._seconds_left()
        if done < self._concurrent:
            return limit
        each = (time.monotonic() - self._started) / done
        expected = each * (self._trials - ended)
        return expected if limit is None else min(expected, limit)

    def _table(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("#", "epoch", "validation"):
            table.add_column(name, justify="right")
        table.add_column("trial", overflow="ellipsis", no_wrap=True, ratio=1)
        table.add_column("", no_wrap=True)
        leader = best(list(self._records))
        running = [trial for trial in self._records if trial.status == RUNNING]
        others = ranked([trial for trial in self._records if trial.ended])
        for trial in [*running, *others][:_ROWS]:
            table.add_row(
                str(trial.number),
                f"{len(trial.epochs)}/{self._epochs}",
                percent(trial.accuracy),
                self._label(trial),
                trial.status,
                style="bold green" if trial is leader else None if trial.status == RUNNING else "dim",
            )
        if len(self._records) > _ROWS:
            table.add_row("", "", "", f"and {len(self._records) - _ROWS} more", "", style="dim")
        return table
