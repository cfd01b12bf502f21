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
_RUNNING_SHOWN = 4


class Progress:
    """Shows the trials of a search as they go; use it as a context manager around it.

    Args:
        console: Where to write.
        epochs: Epochs of a trial that is not stopped early.
        label: Makes the short name of a trial.
        seconds_left: Seconds until the time budget ends, or None if there is none.
    """

    _measure = "validation"

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
                f"{self._line(trial)}  {self._label(trial)}  {trial.status}: {trial.reason}",
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

    def _line(self, trial: TrialRecord) -> str:
        """What a trial that has ended came to."""
        return f"trial {trial.number}/{self._trials}  {self._reached(trial)}"

    def _reached(self, trial: TrialRecord) -> str:
        """How far a trial has come."""
        return trial.reached

    def _summary(self) -> str:
        left = self._left(sum(trial.ended for trial in self._records))
        time_left = f"about {clock(left)} left" if left is not None else None
        return ", ".join([*self._outlook(), time_left or f"{clock(time.monotonic() - self._started)} so far"])

    def _outlook(self) -> list[str]:
        """How it stands, in a few words."""
        ended = [trial for trial in self._records if trial.ended]
        stopped = sum(trial.status == STOPPED for trial in ended)
        leader = best(list(self._records))
        parts = [f"{len(ended)} of {self._trials} trials ended", f"{stopped} stopped early"]
        if leader:
            parts.append(f"best {leader.reached} (trial {leader.number})")
        return parts

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
        for name in ("#", "epoch", self._measure):
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
                self._reached(trial),
                self._label(trial),
                trial.status,
                style="bold green" if trial is leader else None if trial.status == RUNNING else "dim",
            )
        if len(self._records) > _ROWS:
            table.add_row("", "", "", f"and {len(self._records) - _ROWS} more", "", style="dim")
        return table


class FinalProgress(Progress):
    """The same for a final training, which holds no validation images out: it shows what the students are trained on.

    No student leads: there is nothing yet to tell by, and none is chosen.
    """

    _measure = "training"
    _done_at_start = 0

    def _line(self, trial: TrialRecord) -> str:
        loss = f", loss {trial.epochs[-1]['loss']:.4f}" if trial.epochs else ""
        return f"student {trial.number}/{self._trials}  training accuracy {self._reached(trial)}{loss}"

    def _reached(self, trial: TrialRecord) -> str:
        return percent(trial.epochs[-1]["train_accuracy"]) if trial.epochs else "-"

    def _outlook(self) -> list[str]:
        ended = sum(trial.ended for trial in self._records)
        running = [trial for trial in self._records if trial.status == RUNNING]
        each = (
            f"student {trial.number} at epoch {len(trial.epochs)} of {self._epochs} ({self._reached(trial)} training)"
            for trial in running[:_RUNNING_SHOWN]
        )
        more = [f"{len(running) - _RUNNING_SHOWN} more running"] if len(running) > _RUNNING_SHOWN else []
        return [f"{ended} of {self._trials} students trained", *each, *more]

    def tick(self, trials: Sequence[TrialRecord]) -> None:
        """Redraws the table, or says now and then how far it is."""
        if self._ended_at_start is None:
            self._done_at_start = sum(len(trial.epochs) for trial in trials)
        super().tick(trials)

    def _left(self, ended: int) -> float | None:
        """Seconds left, judged by the epochs that this run has trained: every student gets all of them."""
        done = sum(len(trial.epochs) for trial in self._records) - self._done_at_start
        if not done:
            return None
        missing = sum(self._epochs - len(trial.epochs) for trial in self._records if not trial.ended)
        return (time.monotonic() - self._started) / done * missing
