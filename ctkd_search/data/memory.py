"""The memory that images may take."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

_GROUP = Path("/sys/fs/cgroup")
# The search, Ray's object store and every trial keep a copy of the images; on a GPU, networks need most of the memory.
_SHARE_OF_HOST, _SHARE_OF_GPU = 1 / 8, 1 / 4


def room_for_images() -> int:
    """Returns the bytes that images may take: an eighth of the host's free memory, a quarter of the smallest GPU's.

    A container's limit counts as the host's memory. The size of GPUs is read from their driver, which takes none of
    their memory.
    """
    import psutil

    free = psutil.virtual_memory().available
    limit, used = (_number(_GROUP / f"memory.{name}") for name in ("max", "current"))
    if limit is not None:
        free = min(free, max(0, limit - (used or 0)))
    room = free * _SHARE_OF_HOST
    gpu = _smallest_gpu()
    return int(min(room, gpu * _SHARE_OF_GPU)) if gpu else int(room)


def _number(path: Path) -> int | None:
    """Returns the number in a file of the kernel's; None if there is none, or no limit."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _smallest_gpu() -> int | None:
    """Returns the bytes of memory of the smallest GPU that this process may use; None without one."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return min((pynvml.nvmlDeviceGetMemoryInfo(gpu).total for gpu in _visible_gpus()), default=None)
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _visible_gpus() -> list[Any]:
    """Returns the driver's handles of the GPUs that CUDA_VISIBLE_DEVICES names; of all where it names none."""
    import pynvml

    count = pynvml.nvmlDeviceGetCount()
    everyone = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
    names = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    try:
        # A part of a GPU (MIG) has a name, and memory of its own.
        found = [everyone[int(name)] if name.isdigit() else pynvml.nvmlDeviceGetHandleByUUID(name) for name in names]
    except (pynvml.NVMLError, IndexError):
        return everyone
    return found or everyone
