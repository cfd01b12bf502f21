"""The user's own images: ``root/train/<class>/*``, ``root/test/<class>/*`` and optionally ``root/val/<class>/*``."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

from ctkd_search.config import Augment, DatasetConfig
from ctkd_search.data.decode import listed
from ctkd_search.data.detection import found_in
from ctkd_search.data.images import ImageFiles
from ctkd_search.data.registry import DataSet, Loaded, problems
from ctkd_search.errors import UserError
from ctkd_search.models.registry import MIN_SIZE, Geometry
from ctkd_search.paths import expanded

_LAYOUT = "root/train/<class>/* and root/test/<class>/*, and optionally root/val/<class>/*"
_LISTED = 10
_WHAT = {"train": "training images", "val": "validation images", "test": "test images"}


def _root(config: DatasetConfig) -> Path:
    return Path(expanded(config.root or "."))


def _is_class(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir() and not entry.name.startswith(".")


def _classes(config: DatasetConfig) -> tuple[str, ...]:
    """The names of the classes: the directories under ``train``, in alphabetical order."""
    train = _root(config) / "train"
    if not train.is_dir():
        raise UserError(f"{train} is not a directory; a folder data set is laid out as {_LAYOUT}")
    return tuple(sorted(entry.name for entry in os.scandir(train) if _is_class(entry)))


def _problems(config: DatasetConfig) -> Iterator[tuple[str, str]]:
    for split in ("train", "test"):
        if not (_root(config) / split).is_dir():
            yield "root", f"{_root(config) / split} is not a directory; the layout is {_LAYOUT}"
            return
    if len(_classes(config)) < 2:
        yield "root", f"{_root(config) / 'train'} must hold at least 2 classes, but got {len(_classes(config))}"
        return
    # The test images are not needed before the end, which is too late to hear of them.
    faults = [
        fault for split in _WHAT if (_root(config) / split).is_dir() for fault in _class_faults(config, split)
    ] + list(_too_few(config))
    yield from (("root", fault) for fault in faults)
    if config.validation is not None and (_root(config) / "val").is_dir():
        yield "validation", f"has no effect, because {_root(config) / 'val'} is the validation split; leave it out"
    if config.image_size is not None and config.image_size < MIN_SIZE:
        yield "image_size", f"must be at least {MIN_SIZE}, but got {config.image_size}"
    elif not faults:
        try:
            _resolved(config)
        except UserError as error:
            yield "image_size", str(error)


def _resolved(config: DatasetConfig) -> DatasetConfig:
    """The config with size and channels of the training images, where it does not say them."""
    if config.image_size is not None and config.channels is not None:
        return config
    paths = [path for paths in _by_class(config, "train") for path in paths]
    found = found_in(paths, config.image_size, config.channels)
    return dataclasses.replace(config, image_size=found.image_size, channels=found.channels)


def _geometry(config: DatasetConfig) -> Geometry:
    config = _resolved(config)
    return Geometry(len(_classes(config)), config.channels or 3, config.image_size or 0)


def _files(directory: Path) -> Iterator[Path]:
    with os.scandir(directory) as entries:
        yield from (Path(entry.path) for entry in entries if entry.is_file() and entry.name[0] != ".")


def _by_class(config: DatasetConfig, split: str) -> list[list[Path]]:
    """The files of each class, in alphabetical order."""
    return [sorted(_files(_root(config) / split / name)) for name in _classes(config)]


def _class_faults(config: DatasetConfig, split: str) -> Iterator[str]:
    """What is wrong with the classes of a split, as far as it can be seen without reading an image."""
    classes, directory, train = _classes(config), _root(config) / split, _root(config) / "train"
    there = {entry.name for entry in os.scandir(directory) if _is_class(entry)}
    strangers = sorted(there - set(classes))
    if strangers:
        yield f"{directory} has classes that {train} has not: {listed(strangers, _LISTED)}"
    missing = [name for name in classes if name not in there]
    if missing:
        several = len(missing) > 1
        named = listed([repr(name) for name in missing], _LISTED)
        yield f"{directory} has no class{'es' * several} {named}, which {train} has"
    for name in classes:
        if name in there and next(_files(directory / name), None) is None:
            yield f"{directory / name} holds no images"


def _too_few(config: DatasetConfig) -> Iterator[str]:
    """Classes of which no validation image can be cut off."""
    if (_root(config) / "val").is_dir():
        return
    lone = [name for name, paths in zip(_classes(config), _by_class(config, "train"), strict=True) if len(paths) == 1]
    if lone:
        named = listed([repr(name) for name in lone], _LISTED)
        yield (
            f"{_root(config) / 'train'} has 1 image alone of {named}; a validation split needs at least 2 of each "
            f"class, or {_root(config) / 'val'} with images of every class"
        )


def _images(config: DatasetConfig, split: str) -> ImageFiles:
    """The files of one split; files and classes in alphabetical order."""
    directory = _root(config) / split
    if not directory.is_dir():
        raise UserError(f"{directory} is not a directory; a folder data set is laid out as {_LAYOUT}")
    for fault in _class_faults(config, split):
        raise UserError(fault)
    by_class = _by_class(config, split)
    paths = [path for paths in by_class for path in paths]
    labels = [label for label, files in enumerate(by_class) for _ in files]
    _, channels, size = _geometry(config)
    return ImageFiles.at(
        _root(config),
        paths,
        labels,
        classes=_classes(config),
        what=_WHAT[split],
        size=size,
        channels=channels,
        resize=config.resize,
        workers=config.workers,
    )


def _load_train(config: DatasetConfig) -> Loaded:
    for key, message in problems(config):
        raise UserError(f"dataset.{key} {message}")
    own = _images(config, "val") if (_root(config) / "val").is_dir() else None
    return Loaded(_images(config, "train"), _classes(config), own)


def _count(config: DatasetConfig) -> tuple[int, int]:
    train, own = (
        sum(map(len, _by_class(config, split))) if (_root(config) / split).is_dir() else 0 for split in ("train", "val")
    )
    return train, own


DATASET = DataSet(
    name="folder",
    summary="your own images, laid out as `root/train/<class>/*` and `root/test/<class>/*`",
    options=("root", "image_size", "channels", "resize", "loading", "workers", "skip_broken"),
    augment=Augment(crop=4, flip=True),
    geometry=_geometry,
    load_train=_load_train,
    load_test=lambda config: _images(config, "test"),
    required={"root": "the directory with the images"},
    problems=_problems,
    resolved=_resolved,
    count=_count,
)
