"""A directory whose path is short enough for Ray's sockets."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ctkd_search.errors import UserError
from ctkd_search.leases.processes import born

# What Linux and macOS take as the path of a socket; what Ray puts behind its directory, with a process id of 7 digits.
_LONGEST = 107 if sys.platform.startswith("linux") else 103
_BEHIND = len("/session_2026-01-02_03-04-05_123456_1234567/sockets/plasma_store")
_PREFIX = "ctkd-ray-"
_DAY = 86400.0


def ray_directory() -> str:
    """Returns where Ray keeps its sockets and logs unless it is told otherwise."""
    named = os.environ.get("RAY_TMPDIR")
    # On Linux Ray takes TMPDIR as it stands and makes it; Python takes one that exists alone.
    if not named and sys.platform.startswith("linux"):
        named = os.environ.get("TMPDIR")
    return os.path.join(named or tempfile.gettempdir(), "ray")


def is_too_long(directory: str) -> bool:
    """Returns whether a directory leaves no room for the names of Ray's sockets."""
    return len(os.fsencode(directory)) + _BEHIND > _LONGEST


def short_directory(places: Sequence[str] | None = None) -> Path:
    """Makes a private directory with a short path, which whoever asked for it removes.

    Args:
        places: Where to make it, in this order; left out, where temporary files usually are.

    Raises:
        UserError: It can be made in none of them.
    """
    if places is None:
        places = [*filter(None, [os.environ.get("XDG_RUNTIME_DIR")]), "/tmp", "/var/tmp", "/dev/shm"]
    for place in places:
        if is_too_long(os.path.join(place, f"{_PREFIX}1234567-12345678")):
            continue
        _sweep(Path(place))
        try:
            return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=place))  # of mode 0700
        except OSError:
            continue
    raise UserError(
        f"cannot start Ray: its sockets have no room in {ray_directory()}, whose path is longer than "
        f"{_LONGEST - _BEHIND} bytes, and none of {', '.join(places)} can be written to; set "
        "RAY_TMPDIR to a short directory"
    )


def _sweep(place: Path) -> None:
    """Removes what processes that were killed have left."""
    for path in place.glob(f"{_PREFIX}*"):
        owner = path.name.removeprefix(_PREFIX).partition("-")[0]
        # Of old ones only: the directory may be shared with machines whose processes are not seen here. Another one
        # may sweep at the same time.
        with contextlib.suppress(OSError):
            if owner.isdecimal() and time.time() - path.stat().st_mtime > _DAY and born(int(owner)) == "":
                shutil.rmtree(path, ignore_errors=True)
