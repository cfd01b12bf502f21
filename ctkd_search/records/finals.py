"""The directories of a search's final trainings."""

from __future__ import annotations

from pathlib import Path

from ctkd_search.records.store import SearchFolder

PREFIX = "final-"


def final_folders(parent: Path) -> list[SearchFolder]:
    """Returns the final trainings in a directory, in the order in which they began."""
    numbers = sorted(
        int(text) for path in parent.glob(f"{PREFIX}*") if (text := path.name.removeprefix(PREFIX)).isdecimal()
    )
    return [SearchFolder(parent, f"{PREFIX}{number}") for number in numbers]
