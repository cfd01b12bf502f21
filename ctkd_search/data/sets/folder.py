"""The user's own images: ``root/train/<class>/*``, ``root/test/<class>/*`` and optionally ``root/val/<class>/*``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ctkd_search.config import Augment, DatasetConfig
from ctkd_search.data.decode import decode_image
from ctkd_search.data.registry import DataSet, Images, Loaded, problems
from ctkd_search.errors import UserError
from ctkd_search.models.registry import MIN_SIZE, Geometry

_LAYOUT = "root/train/<class>/* and root/test/<class>/*, and optionally root/val/<class>/*"


def _root(config: DatasetConfig) -> Path:
    return Path(config.root or ".")


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
    for split in ("train", "val", "test"):
        if (_root(config) / split).is_dir():
            yield from (("root", fault) for fault in _class_faults(config, split))
    if config.validation is not None and (_root(config) / "val").is_dir():
        yield "validation", f"has no effect, because {_root(config) / 'val'} is the validation split; leave it out"
    if config.image_size is not None and config.image_size < MIN_SIZE:
        yield "image_size", f"must be at least {MIN_SIZE}, but got {config.image_size}"


def _geometry(config: DatasetConfig) -> Geometry:
    return Geometry(len(_classes(config)), config.channels or 3, config.image_size or 0)


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in directory.iterdir() if path.is_file() and path.name[0] != ".")


def _class_faults(config: DatasetConfig, split: str) -> Iterator[str]:
    """What is wrong with the classes of a split, as far as it can be seen without reading an image."""
    classes, directory, train = _classes(config), _root(config) / split, _root(config) / "train"
    strangers = sorted({entry.name for entry in os.scandir(directory) if _is_class(entry)} - set(classes))
    if strangers:
        yield f"{directory} has classes that {train} has not: {', '.join(strangers)}"
    for name in classes:
        if not (directory / name).is_dir():
            yield f"{directory} has no class {name!r}, which {train} has"
        elif next(_files(directory / name), None) is None:
            yield f"{directory / name} holds no images"


def _images(config: DatasetConfig, split: str) -> Images:
    """Decodes one split, several images at a time; files and classes in alphabetical order."""
    import numpy as np

    directory = _root(config) / split
    if not directory.is_dir():
        raise UserError(f"{directory} is not a directory; a folder data set is laid out as {_LAYOUT}")
    for fault in _class_faults(config, split):
        raise UserError(fault)
    paths, labels = [], []
    for label, name in enumerate(_classes(config)):
        files = sorted(_files(directory / name))
        paths += files
        labels += [label] * len(files)
    _, channels, size = _geometry(config)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pixels = np.stack(list(pool.map(lambda path: decode_image(path, size, channels), paths)))
    return Images(pixels, np.asarray(labels, dtype=np.int64))


def _load_train(config: DatasetConfig) -> Loaded:
    for key, message in problems(config):
        raise UserError(f"dataset.{key} {message}")
    own = _images(config, "val") if (_root(config) / "val").is_dir() else None
    return Loaded(_images(config, "train"), _classes(config), own)


DATASET = DataSet(
    name="folder",
    summary="your own images, laid out as `root/train/<class>/*` and `root/test/<class>/*`",
    options=("root", "image_size", "channels"),
    augment=Augment(crop=4, flip=True),
    geometry=_geometry,
    load_train=_load_train,
    load_test=lambda config: _images(config, "test"),
    required={
        "root": "the directory with the images",
        "image_size": "the side in pixels that images are resized to",
    },
    problems=_problems,
)
