"""The memory that images may take."""

from __future__ import annotations

from pathlib import Path

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
    """Returns the bytes of memory of the smallest GPU; None without one."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        count = pynvml.nvmlDeviceGetCount()
        return min(
            (pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(index)).total for index in range(count)),
            default=None,
        )
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()
