"""Callbacks of a running search: the base class, and the listener that calls them and catches what they raise."""

from __future__ import annotations

import inspect
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ctkd_search.api.trials import as_trial
from ctkd_search.records.listener import TrialListener
from ctkd_search.records.store import TrialRecord
from ctkd_search.space.definition import Space
from ctkd_search.text import one_line

if TYPE_CHECKING:
    from ctkd_search.api.search import Search
    from ctkd_search.api.trials import Trial


class Callback:
    """Base class of callbacks; its methods do nothing, so that a callback overrides those that it needs.

    They are called in the thread that runs the search, one after the other, after the records have been written, so
    that what ``search`` shows includes the event. A search waits for them. An exception that one raises is reported
    once, as a warning with its file and line, and the search goes on. ``search.stop()`` ends it, from any method but
    the last one.
    """

    def on_search_start(self, search: Search) -> None:
        """Called when a search begins or goes on, before its teachers are trained.

        Args:
            search: The search.
        """

    def on_trial_start(self, search: Search, trial: Trial) -> None:
        """Called when a trial begins, or goes on after a pause or a failure.

        Args:
            search: The search.
            trial: The trial.
        """

    def on_epoch_end(self, search: Search, trial: Trial) -> None:
        """Called after each epoch of a trial.

        Args:
            search: The search.
            trial: The trial; the epoch's metrics are ``trial.epochs[-1]``.
        """

    def on_trial_end(self, search: Search, trial: Trial) -> None:
        """Called when a trial has ended or is paused.

        Args:
            search: The search.
            trial: The trial; see its ``status`` and ``reason``.
        """

    def on_search_end(self, search: Search) -> None:
        """Called when a search has ended, is interrupted, or has failed, if it had begun.

        Args:
            search: The search; ``search.finished`` is false where it can go on.
        """


class CallbackListener(TrialListener):
    """Calls the callbacks of a search.

    Args:
        callbacks: The callbacks.
        search: The search.
        space: Its space.
    """

    def __init__(self, callbacks: Sequence[Callback], search: Search, space: Space) -> None:
        self._callbacks = callbacks
        self._search = search
        self._space = space
        self._begun = False
        # The places of callbacks whose exception has been reported.
        self._reported: set[int] = set()

    def work_started(self) -> None:
        """Calls `Callback.on_search_start`."""
        self._begun = True
        self._call("on_search_start")

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
        """Calls `Callback.on_search_end`, if the search had begun."""
        if self._begun:
            self._call("on_search_end")

    def _call(self, method: str, record: TrialRecord | None = None) -> None:
        for place, callback in enumerate(self._callbacks):
            # Each gets a trial of its own, which it may change.
            trial = () if record is None else (as_trial(self._space, record),)
            try:
                getattr(callback, method)(self._search, *trial)
            except Exception as error:  # of the user's code, which may raise anything
                if place not in self._reported:
                    self._reported.add(place)
                    _report(callback, method, error)


def _report(callback: Callback, method: str, error: Exception) -> None:
    """Warns of an exception, at the line of the callback's own file that it came through last."""
    frames = traceback.extract_tb(error.__traceback__)[1:] or traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == _file_of(callback)]
    frame = (own or frames)[-1]
    message = (
        f"callback {type(callback).__name__}.{method} raised {type(error).__name__}: {one_line(str(error))} "
        f"({frame.filename}, line {frame.lineno}); the search goes on, and further exceptions of this callback are not "
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
