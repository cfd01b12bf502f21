"""The directories of a config's final trainings: a new one, or one that goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ctkd_search.errors import UserError
from ctkd_search.files import make_directory
from ctkd_search.final.plan import FinalPlan
from ctkd_search.leases.lease import living
from ctkd_search.records.finals import PREFIX, final_folders
from ctkd_search.records.store import SearchFolder, differences

# Name of the picture of means, beside result.json.
MEANS_FILE = "means.png"


def earlier_training(parent: Path, plan: FinalPlan, resume: bool, say: Callable[[str], None]) -> SearchFolder | None:
    """Returns the final training that is to go on; None for a new one.

    Args:
        parent: The directory of that name among the searches.
        plan: The plan of the final training.
        resume: Whether to go on with the newest one that has not finished.
        say: Prints a line.

    Raises:
        UserError: None can go on, or the newest one trains something else.
    """
    unfinished, unreadable = _unfinished(parent)
    if not resume:
        if unreadable:
            say(f"the newest final training is left alone: {unreadable}")
        same = [folder for folder in unfinished if not _changed(folder, plan)]
        for folder in same[-1:]:
            owner = living(folder.path, what=f"the final training in {folder.path}", say=say)
            going_on = f"is run by {owner}" if owner else "has not finished; go on with it by adding --resume"
            say(f"the final training in {folder.path} has the same plan and {going_on}")
        return None
    if unreadable:
        raise unreadable
    if not unfinished:
        raise UserError(f"there is no unfinished final training in {parent}; leave --resume out to begin a new one")
    if changed := _changed(unfinished[-1], plan):
        listed = "\n  ".join(changed)
        raise UserError(
            f"the final training in {unfinished[-1].path} began with another plan; leave --resume out to begin a new "
            f"one:\n  {listed}"
        )
    return unfinished[-1]


def _unfinished(parent: Path) -> tuple[list[SearchFolder], UserError | None]:
    """Returns the final trainings that have not finished, and the error of the newest one if it cannot be read."""
    found, error = [], None
    for folder in final_folders(parent):
        error = None
        try:
            if folder.exists() and not folder.search().finished:
                found.append(folder)
        except UserError as unreadable:
            error = unreadable
    return found, error


def _changed(folder: SearchFolder, plan: FinalPlan) -> list[str]:
    old, new = folder.search().space, plan.content()
    # Of a file that was added or left out, the list of baselines tells.
    both = old.get("files", {}).keys() & new.get("files", {}).keys()
    before, now = ({**each, "files": {name: each["files"][name] for name in both}} for each in (old, new))
    return differences(before, now)


def new_folder(parent: Path) -> SearchFolder:
    """Makes the next directory, which no other process has made."""
    make_directory(parent)
    number = max((int(folder.name.removeprefix(PREFIX)) for folder in final_folders(parent)), default=0) + 1
    while True:
        folder = SearchFolder(parent, f"{PREFIX}{number}")
        try:
            folder.path.mkdir()
        except FileExistsError:
            number += 1
            continue
        return folder
