"""Versions of packages and of what is kept on disk, and the processor."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ctkd_search import __version__

# Versions of what is kept on disk: raised when older files can no longer be read. The header of a record in the teacher
# cache has its own; a record with another one is made again.
SEARCH_FORMAT = 4
STUDENT_FORMAT = 1
CONFIGS_FORMAT = 1


def format_fault(kept: Any, reads: int, writer: Any = None) -> str | None:
    """Returns why a file of some format cannot be read, or None.

    Args:
        kept: The version of its format, as the file has it; None where it has none.
        reads: The one that is read.
        writer: The version of ctkd-search that wrote it, as far as that is known.
    """
    if kept == reads:
        return None
    other = f"ctkd-search {writer}" if isinstance(writer, str) else "the version of ctkd-search that wrote it"
    return (
        f"has format {'0' if kept is None else kept}, and ctkd-search {__version__} reads format {reads} alone; "
        f"read it with {other}"
    )


def versions() -> dict[str, str]:
    """Returns the versions of this package, of Python, and of the libraries that results depend on."""
    found = {"ctkd-search": __version__, "python": platform.python_version()}
    for package in ("torch", "torchvision", "numpy", "ray", "optuna", "mlflow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def processor() -> str:
    """Returns the name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(iter(names), platform.processor() or platform.machine())
