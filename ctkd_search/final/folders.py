"""The final trainings of a config on disk: a new one, or one that goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ctkd_search.errors import UserError
from ctkd_search.files import make_directory
from ctkd_search.final.plan import FinalPlan
from ctkd_search.leases.lease import holder
from ctkd_search.records.store import SearchFolder, differences

_PREFIX = "final-"


def earlier_training(parent: Path, plan: FinalPlan, resume: bool, say: Callable[[str], None]) -> SearchFolder | None:
    """The final training that is to go on; None for a new one.

    Args:
        parent: The directory of that name among the searches.
        plan: What is trained.
        resume: Whether to go on with the newest one that has not finished.
        say: Writes a line.

    Raises:
        UserError: None can go on, or the newest one trains something else.
    """
    unfinished = [folder for folder in final_folders(parent) if folder.exists() and not folder.search().finished]
    if not resume:
        same = [folder for folder in unfinished if not _changed(folder, plan)]
        for folder in same[-1:]:
            owner = holder(folder.path)
            going_on = f"is being trained by {owner}" if owner else "has not finished; --resume would go on with it"
            say(f"{folder.path} trains the same and {going_on}")
        return None
    if not unfinished:
        raise UserError(f"there is no unfinished final training in {parent}; leave --resume out to begin one")
    if changed := _changed(unfinished[-1], plan):
        listed = "\n  ".join(changed)
        raise UserError(
            f"this is not what {unfinished[-1].path} began with; leave --resume out to begin anew:\n  {listed}"
        )
    return unfinished[-1]


def _changed(folder: SearchFolder, plan: FinalPlan) -> list[str]:
    return differences(folder.search().space, plan.content())


def final_folders(parent: Path) -> list[SearchFolder]:
    """The final trainings there are, in the order in which they began."""
    numbers = sorted(
        int(text) for path in parent.glob(f"{_PREFIX}*") if (text := path.name.removeprefix(_PREFIX)).isdecimal()
    )
    return [SearchFolder(parent, f"{_PREFIX}{number}") for number in numbers]


def new_folder(parent: Path) -> SearchFolder:
    """Makes the next directory, which no other process has."""
    make_directory(parent)
    number = max((int(folder.name.removeprefix(_PREFIX)) for folder in final_folders(parent)), default=0) + 1
    while True:
        folder = SearchFolder(parent, f"{_PREFIX}{number}")
        try:
            folder.path.mkdir()
        except FileExistsError:
            number += 1
            continue
        return folder
