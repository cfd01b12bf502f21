"""Processes told apart for certain: by their machine, and by when they began."""

from __future__ import annotations

import contextlib
import os
import platform
from functools import cache
from pathlib import Path


@cache
def this_machine() -> str:
    """What tells this machine, since it was booted, and its table of processes from all others."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return "|".join(parts)


def born(pid: int) -> str | None:
    """When a process of this machine began, as a text to compare; None if there is no such process any more.

    On Linux in ticks since the machine was booted, which no change of its clock moves.
    """
    try:
        # The name of the program, in parentheses, may hold spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        if Path("/proc/self/stat").exists():
            return None
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.0f}"
    except psutil.Error:
        return None
