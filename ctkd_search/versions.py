"""Versions of what a search ran with."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from ctkd_search import __version__


def versions() -> dict[str, str]:
    """The versions of this package, of Python, and of what decides the numbers."""
    found = {"ctkd-search": __version__, "python": platform.python_version()}
    for package in ("torch", "torchvision", "numpy", "ray", "optuna", "mlflow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
