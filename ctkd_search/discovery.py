"""Finding the entries of a package, so that adding one is adding a module."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any


def entries(package: str, attribute: str) -> list[Any]:
    """The `attribute` of every module in `package` that has it, in alphabetical order of the modules.

    Args:
        package: Full name of the package.
        attribute: Name of the entry in its module.
    """
    paths = importlib.import_module(package).__path__
    modules = (importlib.import_module(f"{package}.{info.name}") for info in pkgutil.iter_modules(paths))
    return [getattr(module, attribute) for module in modules if hasattr(module, attribute)]
