"""A directory for Ray with a path short enough for its sockets."""

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

# The longest path of a socket on Linux and on macOS, and the path that Ray appends to its directory.
_LONGEST = 107 if sys.platform.startswith("linux") else 103
_BEHIND = len("/session_2026-01-02_03-04-05_123456_1234567/sockets/plasma_store")
_PREFIX = "ctkd-ray-"
_DAY = 86400.0


def ray_directory() -> str:
    """Returns the directory that Ray uses by default for its sockets and logs."""
    named = os.environ.get("RAY_TMPDIR")
    # On Linux Ray uses and makes the directory in TMPDIR; Python uses it only if it exists.
    if not named and sys.platform.startswith("linux"):
        named = os.environ.get("TMPDIR")
    return os.path.join(named or tempfile.gettempdir(), "ray")


def is_too_long(directory: str) -> bool:
    """Returns whether a directory leaves no room for the names of Ray's sockets."""
    return len(os.fsencode(directory)) + _BEHIND > _LONGEST


def short_directory(places: Sequence[str] | None = None) -> Path:
    """Makes a private directory with a short path; the caller removes it.

    Args:
        places: Directories to try, in this order; None for the usual ones of temporary files.

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
        f"cannot start Ray: the path of {ray_directory()} is too long for its sockets; it is longer than "
        f"{_LONGEST - _BEHIND} bytes, and none of {', '.join(places)} is writable; set "
        "RAY_TMPDIR to a writable directory with a short path"
    )


def _sweep(place: Path) -> None:
    """Removes directories left by processes that were killed."""
    for path in place.glob(f"{_PREFIX}*"):
        owner = path.name.removeprefix(_PREFIX).partition("-")[0]
        # Only old ones: the directory may be shared with machines whose processes are not visible here. Another process
        # may remove them at the same time.
        with contextlib.suppress(OSError):
            if owner.isdecimal() and time.time() - path.stat().st_mtime > _DAY and born(int(owner)) == "":
                shutil.rmtree(path, ignore_errors=True)
