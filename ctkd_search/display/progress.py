"""The display of a running search: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ctkd_search.analysis.time_left import TimeLeft
from ctkd_search.display.consoles import NotebookLive, live_on
from ctkd_search.records.listener import TrialListener
from ctkd_search.records.store import PAUSED, RUNNING, STOPPED, TrialRecord, best, ranked
from ctkd_search.text import clock, percent

_REDRAW_SECONDS = 0.25
_REPORT_SECONDS = 30.0
_ROWS = 14
_RUNNING_SHOWN = 4
# The range of the time left is shown as one number where its ends differ by no more than this factor.
_ONE_NUMBER = 1.2


class Progress(TrialListener):
    """Shows the trials of a running search; a context manager around it.

    Args:
        console: The console to print to.
        epochs: Epochs of a trial that is not stopped early.
        label: Returns the short name of a trial.
        seconds_left: Returns the seconds until the time budget ends, or None if there is none.
        time_left: Estimates the time that the search still takes.
    """

    _measure = "validation"

    def __init__(
        self,
        console: Console,
        epochs: int,
        label: Callable[[TrialRecord], str],
        seconds_left: Callable[[], float | None],
        time_left: TimeLeft,
    ) -> None:
        self._console = console
        self._trials = 0
        self._epochs = epochs
        self._concurrent = 1
        self._label = label
        self._seconds_left = seconds_left
        self._time_left = time_left
        self._started = self._drawn = self._reported = time.monotonic()
        self._records: Sequence[TrialRecord] = ()
        self._live: Live | NotebookLive | None = None
        # Trials that have been paused since they last began.
        self._paused: set[int] = set()

    def expect(self, trials: int, concurrent: int) -> None:
        """Sets the number of trials in all, and of trials at once."""
        self._trials, self._concurrent = trials, concurrent
        self._started = time.monotonic()

    def __enter__(self) -> Progress:
        """Begins to draw."""
        self._live = live_on(self._console)
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stops drawing and restores the terminal."""
        if self._live:
            self._live.stop()
            self._live = None

    def trial_started(self, trial: TrialRecord) -> None:
        """Notes that a trial is not paused any more."""
        self._paused.discard(trial.number)

    def trial_ended(self, trial: TrialRecord) -> None:
        """Prints a line where there is no live table; none again where a paused trial is stopped for good."""
        paused_before = trial.number in self._paused
        if trial.status == PAUSED:
            self._paused.add(trial.number)
        if not self._live and not (paused_before and trial.status == STOPPED):
            self._console.print(
                f"{self._line(trial)}  {self._label(trial)}  {trial.status}: {trial.reason}",
                soft_wrap=True,
                highlight=False,
            )

    def tick(self, trials: Sequence[TrialRecord]) -> None:
        """Redraws the table, or prints a summary now and then."""
        self._records = trials
        now = time.monotonic()
        if self._live and now - self._drawn > _REDRAW_SECONDS:
            self._live.update(Group(self._table(), Text(self._summary())), refresh=True)
            self._drawn = now
        elif not self._live and now - self._reported > _REPORT_SECONDS:
            self._console.print(self._summary(), soft_wrap=True, highlight=False)
            self._reported = now

    def _line(self, trial: TrialRecord) -> str:
        """Returns the result of a trial that has ended."""
        return f"trial {trial.number}/{self._trials}  {self._reached(trial)}"

    def _reached(self, trial: TrialRecord) -> str:
        """Returns the last result of a trial."""
        return trial.reached

    def _summary(self) -> str:
        so_far = f"{clock(time.monotonic() - self._started)} so far"
        return ", ".join([*self._outlook(), self._left() or so_far])

    def _outlook(self) -> list[str]:
        """Returns the parts of a summary: counts of trials, and the best one."""
        ended = [trial for trial in self._records if trial.idle]
        stopped = sum(trial.status in (STOPPED, PAUSED) for trial in ended)
        leader = best(list(self._records))
        parts = [f"{len(ended)} of {self._trials} trials ended", f"{stopped} stopped early"]
        if leader:
            parts.append(f"best {leader.reached} (trial {leader.number})")
        return parts

    def _left(self) -> str | None:
        """Returns a text with the time left; None as long as it cannot be estimated."""
        left, limit = self._time_left.estimate(self._records, self._trials, self._concurrent), self._seconds_left()
        if left is None:
            return None if limit is None else f"at most {clock(limit)} left"
        low, high = (seconds if limit is None else min(seconds, limit) for seconds in (left.low, left.high))
        if high <= _ONE_NUMBER * low or clock(low) == clock(high):
            return f"about {clock(high)} left"
        return f"between {clock(low)} and {clock(high)} left"

    def _table(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("#", "epoch", self._measure):
            table.add_column(name, justify="right")
        table.add_column("trial", overflow="ellipsis", no_wrap=True, ratio=1)
        table.add_column("", no_wrap=True)
        leader = best(list(self._records))
        running = [trial for trial in self._records if trial.status == RUNNING]
        others = ranked([trial for trial in self._records if trial.idle])
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
    """Shows a running final training by its training accuracies, because no validation images are held out.

    No student is marked as the best: nothing is measured yet that they could be compared by.
    """

    _measure = "training"

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
