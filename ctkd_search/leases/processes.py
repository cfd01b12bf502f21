"""Unique identification of processes by their machine, their id and their start."""

from __future__ import annotations

import contextlib
import os
import platform
from functools import cache
from pathlib import Path


@cache
def this_machine() -> str:
    """Returns a unique text for this machine since its boot, and for its table of processes."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return "|".join(parts)


def is_running(machine: str, pid: int, since: str) -> bool | None:
    """Returns whether a process runs that began at `since`, a value of `born`; None if that cannot be known.

    A process of another machine cannot be looked up, nor one of another user if those are hidden.
    """
    if machine != this_machine():
        return None
    found = born(pid)
    return None if found is None or not since else found == since


def born(pid: int) -> str | None:
    """Returns when a process of this machine began, as a text to compare.

    On Linux in ticks since the machine was booted, which no change of its clock moves. Empty if there is no such
    process any more, or if it has ended and was not yet waited for; None if there is one that may not be looked at.
    """
    if pid <= 0:
        return ""
    if not Path("/proc/self/stat").exists():
        return _born_by_psutil(pid)
    with contextlib.suppress(OSError, IndexError):
        # The name of the program, in parentheses, may contain spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    # /proc may hide the processes of other users; signal 0 is not delivered, but its error shows whether one exists.
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return ""
    except OSError:
        return None
    return None


def _born_by_psutil(pid: int) -> str | None:
    """Returns when a process began, on systems without /proc; see `born`."""
    import psutil

    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.0f}"
    except (psutil.NoSuchProcess, OverflowError, ValueError):
        return ""
    except psutil.Error:
        return None
