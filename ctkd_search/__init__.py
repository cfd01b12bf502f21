"""Hyperparameter search for Collaborative Teaching Knowledge Distillation (CTKD)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ctkd_search.api.callbacks import Callback
    from ctkd_search.api.final import FinalTraining
    from ctkd_search.api.running import Check, check, run
    from ctkd_search.api.search import Search, load, searches
    from ctkd_search.api.spaces import read_space
    from ctkd_search.api.training import train
    from ctkd_search.api.trials import Trial
    from ctkd_search.errors import UserError, WorkFailed
    from ctkd_search.space.definition import Space

__version__ = "0.1.0"

__all__ = [
    "Callback",
    "Check",
    "FinalTraining",
    "Search",
    "Space",
    "Trial",
    "UserError",
    "WorkFailed",
    "check",
    "load",
    "read_space",
    "run",
    "searches",
    "train",
]

# The modules of the names, which are imported when they are first asked for: methods, networks and data sets are used
# where Ray is not installed, and commands that only look at something answer at once.
_MODULES = {
    "Callback": "api.callbacks",
    "Check": "api.running",
    "check": "api.running",
    "run": "api.running",
    "Search": "api.search",
    "load": "api.search",
    "searches": "api.search",
    "read_space": "api.spaces",
    "FinalTraining": "api.final",
    "train": "api.training",
    "Trial": "api.trials",
    "UserError": "errors",
    "WorkFailed": "errors",
    "Space": "space.definition",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
