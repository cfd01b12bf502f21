"""How much memory images may take."""

from __future__ import annotations

from pathlib import Path

_GROUP = Path("/sys/fs/cgroup")
# The search, Ray's object store and every trial at once hold the images; on a GPU, networks need most of the room.
_SHARE_OF_HOST, _SHARE_OF_GPU = 1 / 8, 1 / 4


def room_for_images() -> int:
    """Bytes that images may take in memory: an eighth of what the host has left, a quarter of the smallest GPU.

    A container's own limit counts as the host's memory. GPUs are asked of their driver, so that none of their memory is
    taken for the question.
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
    """The number in a file of the kernel's; None if there is none, or no limit."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _smallest_gpu() -> int | None:
    """Bytes of memory of the smallest GPU; None without one."""
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
