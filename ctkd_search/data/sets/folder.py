"""The user's own images: ``root/train/<class>``, and optionally ``root/val/<class>`` and ``root/test/<class>``."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

from ctkd_search.config import Augment, DatasetConfig
from ctkd_search.data.class_folders import (
    alike,
    by_class,
    class_folders,
    differences,
    doubled,
    mistaken_splits,
    named,
    not_text,
    without_train,
)
from ctkd_search.data.dataset import DataSet, Loaded
from ctkd_search.data.detection import found_in
from ctkd_search.data.images import ImageFiles
from ctkd_search.data.kinds import advice, counted
from ctkd_search.data.listing import Listing, listing_of
from ctkd_search.data.look import peculiarities
from ctkd_search.data.registry import problems
from ctkd_search.errors import UserError
from ctkd_search.geometry import MIN_SIZE, Geometry
from ctkd_search.paths import expanded

_LAYOUT = "root/train/<class>/*, and optionally root/val/<class>/* and root/test/<class>/*"
_WHAT = {"train": "training images", "val": "validation images", "test": "test images"}


def _root(config: DatasetConfig) -> Path:
    return Path(expanded(config.root or "."))


def _splits(config: DatasetConfig) -> list[str]:
    """Return the splits there are."""
    return [split for split in _WHAT if (_root(config) / split).is_dir()]


def _classes(config: DatasetConfig) -> tuple[str, ...]:
    """Return the names of the classes: the directories under ``train``, in the order of their names."""
    train = _root(config) / "train"
    if not train.is_dir():
        raise UserError(without_train(_root(config), _LAYOUT))
    return tuple(class_folders(train))


def _listing(config: DatasetConfig, split: str) -> Listing:
    return listing_of(os.fspath(_root(config) / split))


def _by_class(config: DatasetConfig, split: str) -> tuple[dict[str, list[str]], list[str]]:
    """Return the images of each class, relative to the split's directory, and those that lie in no class."""
    return by_class(_listing(config, split).images, class_folders(_root(config) / split))


def _problems(config: DatasetConfig) -> Iterator[tuple[str, str]]:
    root = _root(config)
    if not (root / "train").is_dir():
        yield "root", without_train(root, _LAYOUT)
        return
    # The test images are needed only at the end, when an error would come too late.
    faults = [
        *(f"{root / name} is not read; did you mean {split}? rename it" for split, name in _meant(config).items()),
        *(fault for split in _splits(config) for fault in _split_faults(config, split)),
    ]
    if not faults and len(_classes(config)) < 2:
        faults = [f"{root / 'train'} must contain at least 2 classes, but got {len(_classes(config))}"]
    faults = faults or list(_too_few(config))
    yield from (("root", fault) for fault in faults)
    if config.validation is not None and (root / "val").is_dir():
        yield "validation", f"has no effect, because {root / 'val'} is the validation split; leave it out"
    if config.image_size is not None and config.image_size < MIN_SIZE:
        yield "image_size", f"must be at least {MIN_SIZE}, but got {config.image_size}"
    elif not faults:
        try:
            _resolved(config)
        except UserError as error:
            yield "image_size", str(error)


def _meant(config: DatasetConfig) -> dict[str, str]:
    """Return the directories that may be meant for splits that are not there."""
    return mistaken_splits(_root(config), list(_WHAT))[0]


def _split_faults(config: DatasetConfig, split: str) -> Iterator[str]:
    """Yield the faults of a split that are visible without decoding an image."""
    directory, train = _root(config) / split, _root(config) / "train"
    if faults := [*not_text(directory)]:
        # The other messages could not be printed.
        yield from faults
        return
    yield from doubled(directory)
    if split != "train":
        yield from differences(directory, train)
    listing = _listing(config, split)
    classes = set(class_folders(train))
    for name, images in _by_class(config, split)[0].items():
        if not images and name in classes:
            yield f"{directory / name} contains no images{_instead(listing, class_folders(directory)[name])}"
    if not config.skip_broken:
        for note in listing.unread():
            yield f"{note}; or skip them with dataset.skip_broken: true"


def _instead(listing: Listing, folders: list[str]) -> str:
    """Return the content of a class without images, in parentheses."""
    inside = tuple(os.path.join(folder, "") for folder in folders)
    found = [
        counted(kind, count) + (f", which Pillow cannot read here: {advice(kind)}" if files is listing.pictures else "")
        for files in (listing.pictures, listing.skipped)
        for kind, paths in files.items()
        if (count := sum(path.startswith(inside) for path in paths))
    ]
    return f" ({', '.join(found)})" if found else ""


def _too_few(config: DatasetConfig) -> Iterator[str]:
    """Yield of which classes no validation and no test image can be cut off."""
    own = "val" in _splits(config)
    needed = 1 + (not own) + (config.test is not None)
    if needed == 1:
        return
    few = {name: len(images) for name, images in _by_class(config, "train")[0].items() if len(images) < needed}
    if few:
        listed = named([f"{name!r} ({count})" for name, count in few.items()])
        needs = [*(["a validation split"] * (not own)), *(["dataset.test"] * (config.test is not None))]
        yield (
            f"{_root(config) / 'train'} has too few images of {listed}; {' and '.join(needs)} "
            f"need{'s' * (len(needs) == 1)} at least {needed} of each class"
            + ("" if own else f", or {_root(config) / 'val'} with images of every class")
        )


def _resolved(config: DatasetConfig) -> DatasetConfig:
    """Return the config with size and channels of the training images if it leaves them out."""
    if config.image_size is not None and config.channels is not None:
        return config
    listing = _listing(config, "train")
    paths = [os.path.join(listing.directory, path) for path in listing.images if os.sep in path]
    found = found_in(paths, config.image_size, config.channels)
    return dataclasses.replace(config, image_size=found.image_size, channels=found.channels)


def _geometry(config: DatasetConfig) -> Geometry:
    config = _resolved(config)
    return Geometry(len(_classes(config)), config.channels or 3, config.image_size or 0)


def _images(config: DatasetConfig, split: str) -> ImageFiles:
    """Return the files of one split; classes and files in the order of their names."""
    directory = _root(config) / split
    if not directory.is_dir():
        raise UserError(f"{directory} is not a directory; a folder data set is laid out as {_LAYOUT}")
    for fault in _split_faults(config, split):
        raise UserError(fault)
    found, _ = _by_class(config, split)
    _, channels, size = _geometry(config)
    classes = _classes(config)
    return ImageFiles.at(
        _root(config),
        [os.path.join(directory, path) for name in classes for path in found[name]],
        [label for label, name in enumerate(classes) for _ in found[name]],
        classes=classes,
        what=_WHAT[split],
        size=size,
        channels=channels,
        resize=config.resize,
        workers=config.workers,
    )


def _load_train(config: DatasetConfig) -> Loaded:
    for key, message in problems(config):
        raise UserError(f"dataset.{key} {message}")
    own = _images(config, "val") if "val" in _splits(config) else None
    return Loaded(_images(config, "train"), _classes(config), own)


def _count(config: DatasetConfig) -> tuple[int, int]:
    train, own = (
        sum(map(len, _by_class(config, split)[0].values())) if split in _splits(config) else 0
        for split in ("train", "val")
    )
    return train, own


def _class_sizes(config: DatasetConfig) -> tuple[int, int]:
    sizes = [len(images) for images in _by_class(config, "train")[0].values()]
    return min(sizes), max(sizes)


def _files(config: DatasetConfig) -> list[ImageFiles]:
    return [_images(config, split) for split in _splits(config) if split != "test"]


def _recognised(config: DatasetConfig) -> Iterator[str]:
    for split in _splits(config):
        listing = _listing(config, split)
        found, _ = _by_class(config, split)
        total = sum(map(len, found.values()))
        formats = ", ".join(f"{count:,} {kind}" for kind, count in listing.formats.items())
        deeper = sum(path.count(os.sep) > 1 for path in listing.images)
        below = f"; {deeper:,} of them in folders inside the classes" if deeper else ""
        yield f"{listing.directory}: {total:,} {_WHAT[split]} in {len(found):,} classes ({formats}){below}"


def _notes(config: DatasetConfig) -> Iterator[str]:
    yield from alike(_classes(config))
    for split in _splits(config):
        listing = _listing(config, split)
        yield from listing.notes()
        if config.skip_broken:
            yield from (f"warning: skipped: {note}" for note in listing.unread())
        lost = _by_class(config, split)[1]
        if lost:
            they = "images lie" if len(lost) > 1 else "image lies"
            yield f"warning: {len(lost):,} {they} in {listing.directory} itself, in no class: {named(lost)}"
    train = _listing(config, "train")
    yield from peculiarities([os.path.join(train.directory, path) for path in train.images], train.kinds)
    _, others = mistaken_splits(_root(config), list(_WHAT))
    if others:
        yield f"not read, beside {', '.join(_splits(config))}: {named([str(_root(config) / name) for name in others])}"


DATASET = DataSet(
    name="folder",
    summary="your own images, laid out as `root/train/<class>/*`, and optionally `root/val/<class>/*` and "
    "`root/test/<class>/*`",
    options=(
        "root",
        "image_size",
        "channels",
        "resize",
        "loading",
        "stored_side",
        "stored_as",
        "workers",
        "skip_broken",
    ),
    augment=Augment(crop=4, flip=True),
    geometry=_geometry,
    load_train=_load_train,
    load_test=lambda config: _images(config, "test"),
    required={"root": "the directory with the images"},
    problems=_problems,
    resolved=_resolved,
    count=_count,
    class_sizes=_class_sizes,
    has_test=lambda config: "test" in _splits(config),
    files=_files,
    recognised=_recognised,
    notes=_notes,
)
