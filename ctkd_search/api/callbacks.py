"""Callbacks of searches and final trainings: the base class, and listeners that call them and catch what they raise."""

from __future__ import annotations

import inspect
import sys
import threading
import traceback
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from ctkd_search.api.trials import as_trial
from ctkd_search.errors import UserError
from ctkd_search.records.listener import TrialListener
from ctkd_search.records.store import TrialRecord
from ctkd_search.space.definition import Space
from ctkd_search.text import one_line

if TYPE_CHECKING:
    from ctkd_search.api.final import FinalTraining
    from ctkd_search.api.search import Search
    from ctkd_search.api.trials import Trial


class Callback:
    """Base class of callbacks; its methods do nothing, so that a callback overrides those that it needs.

    They are called in the thread that runs the search, one after the other, after the records have been written, so
    that what ``search`` shows includes the event. A search waits for them. An exception that one raises is reported
    once, as a warning with its file and line, and the search goes on. ``search.stop()`` ends it, from any method but
    the last one.

    In a final training, a trial is the training of a student, and ``search`` is the `FinalTraining`, which begins with
    `on_train_start` and ends with `on_train_end`; its ``stop()`` ends it too.
    """

    def on_search_start(self, search: Search) -> None:
        """Called when a search begins or goes on, before its teachers are trained.

        Args:
            search: The search.
        """

    def on_trial_start(self, search: Search | FinalTraining, trial: Trial) -> None:
        """Called when a trial begins, or goes on after a pause or a failure.

        Args:
            search: The search, or the final training.
            trial: The trial.
        """

    def on_epoch_end(self, search: Search | FinalTraining, trial: Trial) -> None:
        """Called after each epoch of a trial.

        Args:
            search: The search, or the final training.
            trial: The trial; the epoch's metrics are ``trial.epochs[-1]``. A final training holds no validation images
                out, so that there are none of these.
        """

    def on_trial_end(self, search: Search | FinalTraining, trial: Trial) -> None:
        """Called when a trial has ended or is paused; in a final training, before the test.

        Args:
            search: The search, or the final training.
            trial: The trial; see its ``status`` and ``reason``.
        """

    def on_search_end(self, search: Search) -> None:
        """Called when a search has ended, is interrupted, or has failed, if it had begun.

        Args:
            search: The search; ``search.finished`` is false where it can go on.
        """

    def on_train_start(self, final: FinalTraining) -> None:
        """Called when a final training begins or goes on, before its teachers are trained.

        Args:
            final: The final training.
        """

    def on_train_end(self, final: FinalTraining) -> None:
        """Called when a final training has ended, is interrupted, or has failed, if it had begun.

        Args:
            final: The final training; ``final.finished`` is true where its students are tested, and its table is there.
        """


def check_callbacks(callbacks: Callback | Sequence[Callback] | None) -> list[Callback]:
    """Returns callbacks as a list, whether there are several, one or none.

    Raises:
        UserError: An object is no callback.
    """
    if callbacks is None:
        return []
    found = list(callbacks) if isinstance(callbacks, Iterable) else [callbacks]
    for callback in found:
        if not isinstance(callback, Callback):
            raise UserError(f"a callback must be an object derived from ctkd_search.Callback, but got {callback!r}")
    return found


class CallbackListener(TrialListener):
    """Calls the callbacks of a search.

    Args:
        callbacks: The callbacks.
        search: The search, or the final training.
        space: Its space.
        stop: Set by ``stop`` of the search or final training while it runs; None if it cannot be stopped.
    """

    # The name of the work, for messages, and of the methods that are told of its begin and its end.
    work: ClassVar[str] = "search"
    start: ClassVar[str] = "on_search_start"
    end: ClassVar[str] = "on_search_end"

    def __init__(
        self,
        callbacks: Sequence[Callback],
        search: Search | FinalTraining,
        space: Space,
        stop: threading.Event | None = None,
    ) -> None:
        self._callbacks = callbacks
        self._search = search
        self._space = space
        self._stop = stop
        self._begun = False
        # The places of callbacks whose exception has been reported.
        self._reported: set[int] = set()

    def work_started(self) -> None:
        """Calls the method that is told of the begin."""
        self._begun = True
        self._search._stop = self._stop
        self._call(self.start)

    def trial_started(self, trial: TrialRecord) -> None:
        """Calls `Callback.on_trial_start`."""
        self._call("on_trial_start", trial)

    def trial_reported(self, trial: TrialRecord) -> None:
        """Calls `Callback.on_epoch_end`."""
        self._call("on_epoch_end", trial)

    def trial_ended(self, trial: TrialRecord) -> None:
        """Calls `Callback.on_trial_end`."""
        self._call("on_trial_end", trial)

    def work_ended(self) -> None:
        """Calls the method that is told of the end, if the work had begun."""
        self._search._stop = None
        if self._begun:
            self._call(self.end)

    def _call(self, method: str, record: TrialRecord | None = None) -> None:
        for place, callback in enumerate(self._callbacks):
            # Each gets a trial of its own, which it may change.
            trial = () if record is None else (as_trial(self._space, record),)
            try:
                getattr(callback, method)(self._search, *trial)
            except Exception as error:  # of the user's code, which may raise anything
                if place not in self._reported:
                    self._reported.add(place)
                    _report(callback, method, error, self.work)


class FinalListener(CallbackListener):
    """Calls the callbacks of a final training; see `CallbackListener`."""

    work = "final training"
    start = "on_train_start"
    end = "on_train_end"


def _report(callback: Callback, method: str, error: Exception, work: str) -> None:
    """Warns of an exception, at the line of the callback's own file that it came through last."""
    frames = traceback.extract_tb(error.__traceback__)[1:] or traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == _file_of(callback)]
    frame = (own or frames)[-1]
    message = (
        f"callback {type(callback).__name__}.{method} raised {type(error).__name__}: {one_line(str(error))} "
        f"({frame.filename}, line {frame.lineno}); the {work} goes on, and further exceptions of this callback are not "
        "reported"
    )
    try:
        warnings.warn_explicit(message, RuntimeWarning, frame.filename, frame.lineno or 1)
    except Warning:  # where warnings are errors
        print(message, file=sys.stderr)


def _file_of(callback: Callback) -> str | None:
    try:
        return inspect.getsourcefile(type(callback))
    except TypeError:  # a class made in an interactive session
        return None
