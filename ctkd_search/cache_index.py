"""An index of the teacher cache: its entries, their descriptions, sizes and last users.

It does not import torch, so that the cache can be listed at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctkd_search.files import write_text

_ABOUT, _USED, _TOOK = "about.json", "used.json", "took.json"
# Seconds after which nobody is at work any more on what is left of an interrupted removal, or of a killed writer.
_LEFT_AFTER = 3600
# The end of the year 9998: a later time has no date.
_LATEST = 253370764800.0


@dataclass(frozen=True)
class CacheEntry:
    """A directory of the cache, which holds the records of one teacher.

    Attributes:
        id: Name of the directory.
        about: Description of the teacher, in plain values; empty if it is missing or damaged.
        bytes: Size of its files.
        search: Search that used it last, or ``?``.
        used: Time of that use, in seconds since 1970.
    """

    id: str
    about: dict[str, Any]
    bytes: int
    search: str
    used: float


class CacheIndex:
    """The entries of a teacher cache.

    Args:
        directory: Directory of the cache.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def describe(self, entry: str, about: Mapping[str, Any]) -> None:
        """Writes the description of an entry."""
        write_text(self.directory / entry / _ABOUT, json.dumps(about, indent=1) + "\n")

    def took(self, entry: str, epoch: int, seconds: float) -> None:
        """Notes the seconds that training an epoch (from 0) of an entry's teacher took."""
        path = self.directory / entry / _TOOK
        write_text(path, json.dumps(_read(path) | {str(epoch): seconds}) + "\n")

    def seconds(self, entry: str) -> dict[int, float]:
        """Returns the seconds that each epoch (from 0) of an entry's teacher took, as far as they were noted."""
        return {int(epoch): float(seconds) for epoch, seconds in _read(self.directory / entry / _TOOK).items()}

    def about(self, entry: str) -> dict[str, Any]:
        """Returns the description of an entry; empty if there is no such entry."""
        return _read(self.directory / entry / _ABOUT)

    def used_by(self, entry: str, search: str) -> None:
        """Notes that a search uses an entry; does nothing if there is no such entry."""
        if (self.directory / entry).is_dir():
            write_text(self.directory / entry / _USED, json.dumps({"search": search, "time": time.time()}) + "\n")

    def all(self) -> list[CacheEntry]:
        """Returns every entry, sorted by name."""
        found = []
        for path in sorted(self.directory.glob("[!.]*-*")):
            if path.is_dir():
                used = _read(path / _USED)
                search = used.get("search")
                found.append(
                    CacheEntry(
                        id=path.name,
                        about=_read(path / _ABOUT),
                        bytes=_size(path),
                        search=search if isinstance(search, str) else "?",
                        used=_moment(used.get("time")) or path.stat().st_mtime,
                    )
                )
        return found

    def size(self, kind: str) -> int:
        """Returns the bytes that all entries of a kind take."""
        return sum(_size(path) for path in self.directory.glob(f"{kind}-*"))

    def remove(self, entry: str) -> None:
        """Removes an entry."""
        path = self.directory / entry
        os.utime(path)  # for `remove_leftovers`: its removal begins now
        # Renamed first, so that no reader finds an entry of which only a part is left.
        doomed = path.with_name(f".{path.name}.removed-{os.getpid()}")
        path.rename(doomed)
        shutil.rmtree(doomed)

    def remove_leftovers(self) -> int:
        """Removes what is left of interrupted removals and of killed writers, after an hour; returns its bytes."""
        try:
            # Both times are the file system's own.
            with tempfile.TemporaryFile(dir=self.directory) as file:
                oldest = os.fstat(file.fileno()).st_mtime - _LEFT_AFTER
        except OSError:
            return 0  # there is no cache, or it cannot be written to
        freed = 0
        for path in [*self.directory.glob(".*.removed-*"), *self.directory.glob("[!.]*/.*.rec.*")]:
            # Somebody else may remove it at the same time.
            with contextlib.suppress(OSError):
                if path.stat().st_mtime >= oldest:
                    continue
                if path.is_dir():
                    size = _size(path)
                    shutil.rmtree(path)
                else:
                    size = path.stat().st_size
                    path.unlink()
                freed += size
        return freed


def _moment(noted: Any) -> float | None:
    """Returns a time as it was noted; None if it is not one, as in a damaged file."""
    valid = isinstance(noted, int | float) and not isinstance(noted, bool) and 0 < noted <= _LATEST
    return float(noted) if valid else None


def _size(directory: Path) -> int:
    total = 0
    try:
        for entry in os.scandir(directory):
            # A killed writer's temporary file is not a record.
            if not entry.name.startswith("."):
                total += entry.stat().st_size
    except FileNotFoundError:
        return total  # removed in the meantime
    return total


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}
