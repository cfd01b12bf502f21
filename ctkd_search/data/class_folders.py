"""Classes as directories: which ones of two splits are the same, and which directories are easily taken for a split."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ctkd_search.data.listing import is_skipped_folder
from ctkd_search.errors import UserError

_LISTED = 10
# What else the directories of the splits are called.
_OTHER_NAMES = {
    "train": {"train", "training", "trainset", "train_set"},
    "val": {"val", "valid", "validation", "validate", "valset", "val_set"},
    "test": {"test", "tests", "testing", "testset", "test_set"},
}


def normal(name: str) -> str:
    """Return a name in Unicode's NFC: macOS takes letters with accents apart, other systems do not."""
    return unicodedata.normalize("NFC", name)


def _loose(name: str) -> str:
    return normal(name).casefold().strip()


def _directories(directory: Path) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not is_skipped_folder(entry.name))
    except OSError as error:
        raise UserError(f"cannot read the directory {directory}: {error.strerror or error}") from None


def class_folders(directory: Path) -> dict[str, list[str]]:
    """Return the classes of a split: by the name in NFC, the directories of that name, one of each if all is right.

    The order is that of the directories' own names, as in torchvision's ImageFolder.
    """
    folders: dict[str, list[str]] = {}
    for name in _directories(directory):
        folders.setdefault(normal(name), []).append(name)
    return folders


def doubled(directory: Path) -> Iterator[str]:
    """Yield which directories of a split have names that look the same."""
    for name, folders in class_folders(directory).items():
        if len(folders) > 1:
            yield (
                f"{directory} has {len(folders)} directories {name!r}, whose names are encoded differently (one with "
                "composed accents, one with separate ones) and are the same class; move their images into one"
            )


def is_text(name: str) -> bool:
    """Return whether a name is text that can be written in UTF-8, as not every name of a file on Linux is."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def not_text(directory: Path) -> Iterator[str]:
    """Yield which directories of a split have names that no record, no report and no MLflow can hold."""
    for name in _directories(directory):
        if not is_text(name):
            yield (
                f"{directory} has a class {os.fsencode(name)!r}, whose name is not encoded in UTF-8; rename it in "
                "every split"
            )


def differences(directory: Path, train: Path) -> Iterator[str]:
    """Yield how the classes of a split differ from those of the training images."""
    classes, there = class_folders(train), class_folders(directory)
    missing = [name for name in classes if name not in there]
    strangers = [name for name in there if name not in classes]
    for name in list(strangers):
        meant = [other for other in missing if _loose(other) == _loose(name)]
        if len(meant) == 1:
            strangers.remove(name)
            missing.remove(meant[0])
            yield f"{directory} has a class {name!r}, which {train} has not; did you mean {meant[0]!r}? rename one"
    if strangers:
        yield f"{directory} has classes that {train} has not: {named(sorted(strangers))}"
    if missing:
        several = "es" * (len(missing) > 1)
        yield f"{directory} has no class{several} {named([repr(name) for name in missing])}, which {train} has"


def alike(names: Sequence[str]) -> Iterator[str]:
    """Yield which classes have names that differ in case or in spaces alone."""
    by_loose: dict[str, list[str]] = {}
    for name in names:
        by_loose.setdefault(_loose(name), []).append(name)
    for same in by_loose.values():
        if len(same) > 1:
            yield f"warning: the classes {named([repr(name) for name in same])} differ in case or spaces alone"


def mistaken_splits(root: Path, splits: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Find directories next to the splits that are not read.

    Args:
        root: The directory of the data set.
        splits: The names of the splits.

    Returns:
        The directories that may be meant for missing splits, by the split's name; and all directories not read.
    """
    there = [split for split in splits if (root / split).is_dir()]
    # On a file system that ignores case, Val is val.
    others = [
        name for name in _directories(root) if not any(os.path.samefile(root / name, root / split) for split in there)
    ]
    meant = {
        split: name
        for split in splits
        if split not in there
        for name in others
        if _loose(name).replace("-", "_") in _OTHER_NAMES[split]
    }
    return meant, others


def _is_split(name: str) -> bool:
    return any(_loose(name).replace("-", "_") in others for others in _OTHER_NAMES.values())


def without_train(root: Path, layout: str) -> str:
    """Return the fault of a directory without training images, and a suggestion."""
    if not root.is_dir():
        return f"{root} is not a directory; a folder data set is laid out as {layout}"
    meant, others = mistaken_splits(root, ("train",))
    fault = f"{root / 'train'} is not a directory"
    nested = [name for name in others if (root / name / "train").is_dir()]
    if "train" in meant:
        return f"{fault}; did you mean {root / meant['train']}? rename it to train"
    if root.name and _is_split(root.name) and (root.parent / "train").is_dir():
        return f"{fault}; did you mean root: {root.parent}?"
    if len(nested) == 1:
        return f"{fault}; did you mean root: {root / nested[0]}?"
    if len(others) > 1:
        return f"{fault}; if {named(others)} in {root} are the classes, move them into {root / 'train'}"
    return f"{fault}; a folder data set is laid out as {layout}"


def by_class(images: Sequence[str], folders: Mapping[str, Sequence[str]]) -> tuple[dict[str, list[str]], list[str]]:
    """Sort the images of a split by their class.

    Args:
        images: Paths relative to the split's directory.
        folders: Its `class_folders`.

    Returns:
        The images of each class, in their order, and those that lie in none.
    """
    classes = {folder: name for name, several in folders.items() for folder in several}
    found: dict[str, list[str]] = {name: [] for name in folders}
    lost: list[str] = []
    for path in images:
        folder, separator, _ = path.partition(os.sep)
        (found[classes[folder]] if separator else lost).append(path)
    return found, lost


def named(names: Sequence[str]) -> str:
    """Return the first of many names, and how many more there are."""
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more:,} more" if more > 0 else "")
