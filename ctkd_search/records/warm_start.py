"""The earlier searches that a search began from, as its record keeps them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from ctkd_search import __version__
from ctkd_search.errors import UserError
from ctkd_search.fields import As
from ctkd_search.records.json_files import make_record

# The reason, beside keys of spaces, for which results are left alone.
IMAGES = "the training images"


@dataclass
class TriedConfig:
    """A config of an earlier search that is tried first.

    Attributes:
        trial: Number of the trial there that had it.
        reached: Its objective value there, with its unit.
        stored: The values of the searched parameters with which it is tried, as Optuna stores them.
        changed: The parameters that have another value than there, because the spaces differ.
        known: Whether Optuna had these values already: from another earlier search, or with their result.
    """

    trial: int
    reached: str
    stored: dict[str, Any]
    changed: list[str] = field(default_factory=list)
    known: bool = False


@dataclass
class WarmStart:
    """An earlier search that a search began from.

    Attributes:
        asked: The name that the user gave.
        name: Name of the earlier search, for messages; ``published`` stands for several.
        settled: Whether it is decided what is used of it, and Optuna has that. The rest has no meaning before.
        reasons: Reasons why its results were left alone; empty if they were added.
        taken: Number of its trials whose results were added.
        there: Number of its trials that had ended.
        configs: Its configs that are tried first, in place of its results.
        left_out: Its configs that cannot be tried, each with the reason.
    """

    asked: str
    name: str
    settled: bool = False
    reasons: list[str] = field(default_factory=list)
    taken: int = 0
    there: int = 0
    # Each is a record of its own, which is read after this one.
    configs: Annotated[list[TriedConfig], As(list[Any])] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def asked_names(starts: list[WarmStart]) -> list[str]:
    """Returns the names that the user gave, each once, in order."""
    return list(dict.fromkeys(start.asked for start in starts))


def asked_for(names: list[str]) -> list[WarmStart]:
    """Returns what the record of a new search notes of the names that the user gave."""
    return [WarmStart(name, name) for name in names]


def kept_starts(path: Path, kept: Any) -> list[WarmStart]:
    """Returns the earlier searches that a record names.

    Args:
        path: The record's file, for messages.
        kept: The content of its field: a list; or one name or None, as the first versions wrote it.

    Raises:
        UserError: It is something else.
    """
    if kept is None or isinstance(kept, str):
        return asked_for([kept] if kept else [])
    if not isinstance(kept, list):
        raise UserError(f"{path} is not a record of ctkd-search {__version__} (warm_start is {kept!r})")
    starts = [make_record(path, item, WarmStart) for item in kept]
    for start in starts:
        start.configs = [make_record(path, item, TriedConfig) for item in start.configs]
    return starts
