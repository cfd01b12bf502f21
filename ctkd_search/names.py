"""The names of searches, which directories, experiments and registered models are called by."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ctkd_search.errors import UserError

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}")
NAME_RULE = "letters, digits, '.', '_' and '-', at most 63, beginning with a letter or digit"
# Directories next to those of the searches.
TAKEN_NAMES = ("teachers", "artifacts", "published")
# Suffix of the name under which the student of a final training is registered.
FINAL_ENDING = "-final"


def name_fault(name: Any) -> str | None:
    """Returns what is wrong with the name of a search, or None."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        return f"must be {NAME_RULE}, but got {name!r}"
    # A file system or a database may not distinguish Teachers from teachers.
    return f"must not be {name!r}, which is reserved" if name.lower() in TAKEN_NAMES else None


def new_name_fault(name: Any, known: Iterable[str] = ()) -> str | None:
    """Returns what is wrong with the name of a new search, or None.

    Args:
        name: The name.
        known: Names of the existing searches.
    """
    if fault := name_fault(name):
        return fault
    if name.lower().endswith(FINAL_ENDING):
        return f"must not end in {FINAL_ENDING}, as the registered students of final trainings do, but got {name!r}"
    alike = next((other for other in known if other != name and other.lower() == name.lower()), None)
    if alike:
        return f"must differ from the existing {alike!r} in more than upper and lower case, but got {name!r}"
    return None


def check_name(name: str) -> str:
    """Returns the name of a search, or raises UserError if it is not valid."""
    fault = name_fault(name)
    if fault:
        raise UserError(f"--name {fault}")
    return name


def registered_name(name: str, final: bool = False) -> str:
    """Returns the name that the student of a search, or of its final trainings, is registered under in MLflow."""
    return f"ctkd-{name}{FINAL_ENDING if final else ''}"
