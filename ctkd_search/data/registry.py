"""Lookup of data sets by name, and loading of their splits."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ctkd_search.config import Augment, DatasetConfig
from ctkd_search.data.dataset import OPTIONS_OF_OWN, OWN_OPTIONS, DataSet, Loaded, Splits, fingerprint_of
from ctkd_search.data.images import STREAMED, ImageFiles, Pictures
from ctkd_search.data.memory import room_for_images
from ctkd_search.data.shares import DEFAULT_VALIDATION, share_faults
from ctkd_search.discovery import entries
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.paths import directory_fault, expanded
from ctkd_search.plugins import is_reference


@functools.cache
def _all() -> dict[str, DataSet]:
    return {dataset.name: dataset for dataset in entries("ctkd_search.data.sets", "DATASET")}


def names() -> list[str]:
    """Returns the names of all data sets, sorted."""
    return sorted(_all())


def describe(name: str) -> DataSet:
    """Returns the data set of that name.

    Raises:
        UserError: There is none; the message lists the known ones.
    """
    try:
        return _all()[name]
    except KeyError:
        raise UserError(
            f"unknown data set {name!r}; there are: {', '.join(names())}, and your own as package.module:factory"
        ) from None


def find(config: DatasetConfig) -> DataSet:
    """Returns the data set of a config: one of this package, or the user's own.

    Raises:
        UserError: There is none of that name, or the user's own cannot be imported.
    """
    if is_reference(config.name):
        from ctkd_search.data.own import own_dataset

        return own_dataset(config)
    return describe(config.name)


def problems(config: DatasetConfig) -> list[tuple[str, str]]:
    """Returns the faults of a data set's options, as pairs of the key and a message; nothing is loaded."""
    found = []
    try:
        # Of the user's own, this is known before it is imported.
        own = OPTIONS_OF_OWN if is_reference(config.name) else describe(config.name).options
        for option in OWN_OPTIONS:
            if getattr(config, option) is not None and option not in own:
                listed = ", ".join(own) or "none"
                found.append((option, f"has no meaning for the data set {config.name!r} (its own options: {listed})"))
        dataset = find(config)
    except UserError as error:
        return [*found, ("name", str(error))]
    for option, meaning in dataset.required.items():
        if getattr(config, option) is None:
            found.append((option, f"is missing: {meaning}"))
    if not found and (fault := _root_fault(config)):
        found.append(("root", fault))
    if found:
        return found
    faults = (_share_problems(dataset, config), _resize_faults(config), _store_faults(config))
    return list(dataset.problems(config)) or [fault for each in faults for fault in each]


def _root_fault(config: DatasetConfig) -> str | None:
    """Returns why the directory that a space names cannot be looked at; each data set itself refuses a file."""
    root = Path(expanded(config.root)) if config.root else None
    return None if root is None or os.path.isfile(root) else directory_fault(root)


def _share_problems(dataset: DataSet, config: DatasetConfig) -> Iterator[tuple[str, str]]:
    if config.test is not None and dataset.has_test(config):
        yield "test", f"has no effect, because {_called(config)} has its own test images; leave it out"
        return
    if config.test is None and config.validation is None:
        return
    sizes, counted = dataset.class_sizes(config), dataset.count(config)
    if sizes is not None:
        yield from share_faults(config, *sizes, own_validation=bool(counted and counted[1]))
    elif config.test is not None and config.test + (config.validation or DEFAULT_VALIDATION) >= 1:
        yield "test", f"must be less than 1 together with validation, but got {config.test:g}"


def _called(config: DatasetConfig) -> str:
    return expanded(config.root) if config.root else config.name


def _resize_faults(config: DatasetConfig) -> Iterator[tuple[str, str]]:
    if config.resize is not None and config.resize < geometry(config).image_size:
        size = geometry(config).image_size
        yield "resize", f"must be at least the image size {size}, which is cut out of it, but got {config.resize}"


def _store_faults(config: DatasetConfig) -> Iterator[tuple[str, str]]:
    for key in ("stored_side", "stored_as"):
        if getattr(config, key) is not None and config.loading != "stored":
            yield key, "has no effect unless loading is stored; leave it out"
    if config.stored_side is not None and config.stored_side < geometry(config).image_size:
        size = geometry(config).image_size
        yield "stored_side", f"must be at least the image size {size}, but got {config.stored_side}"


def resolved(config: DatasetConfig) -> DatasetConfig:
    """Returns a valid config made complete: with the properties of the images, and absolute paths."""
    config = find(config).resolved(config)
    # Trials run in other working directories than this one.
    return dataclasses.replace(config, root=os.path.abspath(expanded(config.root))) if config.root else config


def geometry(config: DatasetConfig) -> Geometry:
    """Returns classes, channels and image size of a data set, without loading its images."""
    return find(config).geometry(config)


def absent(config: DatasetConfig) -> str | None:
    """Returns which files the user must provide before a data set can be loaded; None if none is missing."""
    return find(config).absent(config)


def sizes(config: DatasetConfig) -> tuple[int, int] | None:
    """Returns the approximate numbers of training and validation images, without loading them; None if not known."""
    counted = find(config).count(config)
    if counted is None:
        return None
    learn, own = counted
    held_out = own or round((config.validation or DEFAULT_VALIDATION) * learn)
    return learn - round((config.test or 0.0) * learn) - (0 if own else held_out), held_out


def recognised(config: DatasetConfig) -> list[str]:
    """Returns the properties found of a data set's files, a line each; nothing is decoded."""
    return list(find(config).recognised(config))


def notes(config: DatasetConfig) -> list[str]:
    """Returns notes for the user on a data set before a search, a line each."""
    dataset = find(config)
    found = list(dataset.notes(config))
    if config.test is None and not dataset.has_test(config):
        found.append(f"no test images: a search needs none, but its final training does ({_ADD_TEST})")
    return found


_ADD_TEST = "add some that it has not used, or set dataset.test: 0.2 beforehand, which holds out a share of the images"


def test_fault(config: DatasetConfig) -> str | None:
    """Returns why a final training cannot be tested, or None."""
    if config.test is not None or find(config).has_test(config):
        return None
    return (
        f"there are no test images for the final training: {_called(config)} has none, and the search held none out. "
        "Add some that the search has not used, or search again with dataset.test: 0.2, which holds out a share of the "
        "images beforehand; the search has used all of the present ones"
    )


def load_train(
    config: DatasetConfig, augments: Sequence[Augment] = (), like: str | None = None, stores: Path | None = None
) -> Splits:
    """Loads a data set and cuts its validation split off, before anything else sees it.

    Args:
        config: The data set; relative directories are relative to the working directory.
        augments: Augmentations of its images: one that cuts parts out of the original pictures needs their files.
        like: Fingerprint of images that were loaded earlier. Unless the config decides, these are kept in memory or
            streamed as those were, whatever memory is free now.
        stores: Directory in which images are stored decoded; without it, they are decoded in every epoch.

    Returns:
        Training and validation images. The test split is not read.

    Raises:
        UserError: The files are missing or damaged, or too few for the split, or the disk has no room for the stores.
    """
    from ctkd_search.data.measure import mean_and_deviation
    from ctkd_search.data.split import stratified_split, without_test
    from ctkd_search.data.storing import Storing

    dataset = find(config)
    loaded = dataset.load_train(config)
    train, validation = loaded.train, loaded.validation
    _check_shares(config, loaded)
    kept_apart = None
    if config.test is not None:
        train, kept_apart = without_test(loaded.train, config.test, loaded.classes)
    resize = train.resize if isinstance(train, ImageFiles) else None
    if isinstance(train, ImageFiles):
        total = train.bytes_held + (validation.bytes_held if isinstance(validation, ImageFiles) else 0)
        streamed = _streamed(config, total, augments, like)
        train = _settled(config, train, streamed)
        if isinstance(validation, ImageFiles):
            validation = _settled(config, validation, streamed)
    storing = Storing(config, augments, stores)
    if isinstance(train, ImageFiles):
        train = storing.of_training(train)
    if validation is None:
        share = config.validation or DEFAULT_VALIDATION
        beside = None if kept_apart is None else kept_apart.labels
        kept, held_out = stratified_split(train.labels, share, config.split_seed, loaded.classes, beside)
        train, validation = train[kept], train[held_out]
        if isinstance(validation, ImageFiles):
            validation = dataclasses.replace(validation, what="validation images")
    validation = storing.of_validation(validation)
    mean, std = dataset.mean, dataset.std
    if mean is None or std is None:
        mean, std = mean_and_deviation(train)
    apart = 0 if kept_apart is None else len(kept_apart)
    return Splits(train, validation, loaded.classes, mean, std, fingerprint_of(train, mean, std), resize, apart)


def _check_shares(config: DatasetConfig, loaded: Loaded) -> None:
    import numpy as np

    sizes = np.bincount(loaded.train.labels, minlength=len(loaded.classes))
    own = loaded.validation is not None
    for key, message in share_faults(config, int(sizes.min()), int(sizes.max()), own):
        raise UserError(f"dataset.{key} {message}")


def _streamed(config: DatasetConfig, size: int, augments: Sequence[Augment], like: str | None) -> bool:
    """Returns whether images whose pixels take `size` bytes are streamed from their files."""
    if any(augment.resized_crop for augment in augments):
        return True
    if config.loading in ("resident", "streamed", "stored"):
        return config.loading != "resident"
    return like.startswith(STREAMED) if like else size > room_for_images()


def _settled(config: DatasetConfig, files: ImageFiles, streamed: bool) -> Pictures:
    """Returns files to be streamed, or the images in them."""
    from ctkd_search.data.image_files import read_files, readable

    skip_broken = bool(config.skip_broken)
    if not streamed:
        return read_files(files, skip_broken)
    return readable(files) if skip_broken else files


def load_test(config: DatasetConfig) -> Pictures:
    """Loads the test split. Only the final training calls this.

    Raises:
        UserError: The files are missing or damaged.
    """
    if fault := test_fault(config):
        raise UserError(fault)
    dataset = find(config)
    if config.test is None:
        images = dataset.load_test(config)
    else:
        from ctkd_search.data.split import without_test

        loaded = dataset.load_train(config)
        _, images = without_test(loaded.train, config.test, loaded.classes)
        if isinstance(images, ImageFiles):
            images = dataclasses.replace(images, what="test images")
    if isinstance(images, ImageFiles):
        return _settled(config, images, _streamed(config, images.bytes_held, (), None))
    return images


def cache_directory() -> Path:
    """Returns the directory of downloads unless a space names another one."""
    return Path(expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache")) / "ctkd-search"
