"""The number of cores this process may compute on."""

from __future__ import annotations

import os
from pathlib import Path


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Returns the number of cores this process may compute on, which a batch system or a container makes fewer.

    Args:
        cgroup: Directory of the limits of a container in Linux, of version 2 or 1.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period = " ".join((cgroup / name).read_text() for name in names).split()
        except (OSError, ValueError):
            continue
        if quota.isdecimal() and period.isdecimal() and int(period):  # without a limit it is "max", or -1
            return max(1, min(allowed, int(quota) // int(period)))
    return allowed
