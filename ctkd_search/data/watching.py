"""Who is told how far the reading of images is, and what was passed over."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

_log = logging.getLogger(__name__)


class Watcher(Protocol):
    """Whoever wants to know."""

    def progress(self, what: str, done: int, total: int) -> None:
        """So many of so many are done of `what`, as in ``decoding the training images``."""

    def note(self, text: str) -> None:
        """Something that the user must not miss, in one line."""


class _Nobody:
    """Progress interests nobody; what must not be missed goes to the log, which Python prints unless told otherwise."""

    def progress(self, what: str, done: int, total: int) -> None:
        pass

    def note(self, text: str) -> None:
        _log.warning("%s", text)


_watcher: ContextVar[Watcher] = ContextVar("_watcher", default=_Nobody())  # noqa: B039 - it has no state


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Inside, that watcher is told."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def watcher() -> Watcher:
    """Whom to tell."""
    return _watcher.get()
