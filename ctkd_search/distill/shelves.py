"""The teacher cache seen from outside: what is kept of which teacher, how large, and by whom last used.

Needs no torch, so that it can be listed in no time.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctkd_search.files import write_text

_ABOUT, _USED, _TOOK = "about.json", "used.json", "took.json"
# The end of the year 9998: a later time has no date.
_LATEST = 253370764800.0


@dataclass(frozen=True)
class Shelf:
    """What the cache keeps of one teacher: a directory of records.

    Attributes:
        id: Name of the directory.
        about: What it is of, in plain values.
        bytes: Size of its files.
        search: The search that used it last, or ``?``.
        used: When that was, in seconds since 1970.
    """

    id: str
    about: dict[str, Any]
    bytes: int
    search: str
    used: float


class Shelves:
    """The shelves of a teacher cache.

    Args:
        directory: Where the cache is.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def describe(self, shelf: str, about: Mapping[str, Any]) -> None:
        """Notes what a shelf is of."""
        write_text(self.directory / shelf / _ABOUT, json.dumps(about, indent=1) + "\n")

    def took(self, shelf: str, epoch: int, seconds: float) -> None:
        """Notes how long an epoch (from 0) of a shelf's teacher was trained."""
        path = self.directory / shelf / _TOOK
        write_text(path, json.dumps(_read(path) | {str(epoch): seconds}) + "\n")

    def seconds(self, shelf: str) -> dict[int, float]:
        """How long each epoch (from 0) of a shelf's teacher was trained, as far as it was noted."""
        return {int(epoch): float(seconds) for epoch, seconds in _read(self.directory / shelf / _TOOK).items()}

    def about(self, shelf: str) -> dict[str, Any]:
        """What a shelf is of; nothing if there is no such shelf."""
        return _read(self.directory / shelf / _ABOUT)

    def used_by(self, shelf: str, search: str) -> None:
        """Notes that a search uses a shelf; nothing if there is no such shelf."""
        if (self.directory / shelf).is_dir():
            write_text(self.directory / shelf / _USED, json.dumps({"search": search, "time": time.time()}) + "\n")

    def all(self) -> list[Shelf]:
        """Every shelf, in the order of the names."""
        found = []
        for path in sorted(self.directory.glob("[!.]*-*")):
            if path.is_dir():
                used = _read(path / _USED)
                search = used.get("search")
                found.append(
                    Shelf(
                        id=path.name,
                        about=_read(path / _ABOUT),
                        bytes=_size(path),
                        search=search if isinstance(search, str) else "?",
                        used=_moment(used.get("time")) or path.stat().st_mtime,
                    )
                )
        return found

    def size(self, kind: str) -> int:
        """Bytes of everything on the shelves of a kind."""
        return sum(_size(path) for path in self.directory.glob(f"{kind}-*"))

    def remove(self, shelf: str) -> None:
        """Removes a shelf."""
        path = self.directory / shelf
        # A name of its own first, so that what is being removed is never half of something that is believed.
        doomed = path.with_name(f".{path.name}.removed-{os.getpid()}")
        path.rename(doomed)
        shutil.rmtree(doomed)


def _moment(noted: Any) -> float | None:
    """A time as it was noted; None where that is no time, as in a damaged file."""
    valid = isinstance(noted, int | float) and not isinstance(noted, bool) and 0 < noted <= _LATEST
    return float(noted) if valid else None


def _size(directory: Path) -> int:
    total = 0
    try:
        for entry in os.scandir(directory):
            # What a killed writer left behind is no record.
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
