"""The file of Optuna's study: a journal to which a line is added for everything that happens.

Optuna writes to its SQLite storage, through SQLAlchemy, in several times the processor time: at a thousand trials side
by side, the process that drives them has no time for that.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from ctkd_search.errors import UserError


class _Owned(JournalFileOpenLock):
    """No lock: one process writes, which owns the whole search. A real one would outlive a process that is killed."""

    def acquire(self) -> bool:
        """Called by Optuna before it writes."""
        return True

    def release(self) -> None:
        """Called by Optuna after that."""


class _Journal(JournalFileBackend):
    """A journal that never ends in half a line, which would make one with the next."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Called by Optuna to add lines; adds none if the disk is full."""
        size = os.path.getsize(self._file_path)
        try:
            super().append_logs(logs)
        except OSError:
            os.truncate(self._file_path, size)
            raise


def study_storage(path: Path) -> JournalStorage:
    """Opens the file of a study to write to it, or makes it.

    Half a line at its end, of a process that was killed, is cut off.

    Raises:
        UserError: The file is damaged.
    """
    if path.is_file():
        _cut_half_line(path)
    return _opened(path, _Journal(str(path), _Owned(str(path))))


def read_storage(path: Path) -> JournalStorage:
    """Opens the file of a study, to which another process may be writing.

    Raises:
        UserError: The file is damaged.
    """
    return _opened(path, JournalFileBackend(str(path), _Owned(str(path))))


def _opened(path: Path, journal: JournalFileBackend) -> JournalStorage:
    try:
        return JournalStorage(journal)
    except (ValueError, LookupError, TypeError, AssertionError) as error:
        raise UserError(
            f"the study {path} is damaged ({str(error) or type(error).__name__}); begin the search again under another "
            "--name"
        ) from None


def _cut_half_line(path: Path) -> None:
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)
