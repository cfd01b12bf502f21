"""Reporting of the progress of reading images, and of skipped ones."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

_log = logging.getLogger(__name__)


class Watcher(Protocol):
    """A receiver of progress and notes."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Reports that `done` of `total` are done of `what`, as in ``decoding the training images``."""

    def note(self, text: str) -> None:
        """Reports something that the user must not miss, in one line."""


class _Logged:
    """A receiver that ignores progress and logs notes as warnings, which Python prints by default."""

    def progress(self, what: str, done: int, total: int) -> None:
        pass

    def note(self, text: str) -> None:
        _log.warning("%s", text)


_watcher: ContextVar[Watcher] = ContextVar("_watcher", default=_Logged())  # noqa: B039 - it has no state


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Reports to a watcher inside the block."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def watcher() -> Watcher:
    """Returns the current watcher."""
    return _watcher.get()
