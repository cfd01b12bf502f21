"""The one place where a name becomes a data set, and a data set becomes splits."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ctkd_search.config import Augment, DatasetConfig
from ctkd_search.discovery import entries
from ctkd_search.errors import UserError
from ctkd_search.models.registry import Geometry
from ctkd_search.plugins import is_reference

if TYPE_CHECKING:
    import numpy as np

# The keys of `DatasetConfig` that a data set may or may not understand.
OWN_OPTIONS = ("root", "image_size", "channels", "verify", "extra", "skip_broken", "options")
# Which of them the user's own data sets have: what their factories are called with.
OPTIONS_OF_OWN = ("options",)
_DEFAULT_VALIDATION = 0.1


@dataclass(frozen=True)
class Images:
    """Labelled images in memory.

    Attributes:
        pixels: uint8, shape (images, height, width, channels).
        labels: int64, shape (images,).
    """

    pixels: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.labels)

    def __getitem__(self, chosen: np.ndarray) -> Images:
        """The images at these positions."""
        return Images(self.pixels[chosen], self.labels[chosen])

    def joined(self, other: Images) -> Images:
        """These images followed by the other ones."""
        import numpy as np

        return Images(np.concatenate([self.pixels, other.pixels]), np.concatenate([self.labels, other.labels]))

    def fingerprint(self) -> str:
        """A hash of every pixel and label, in order."""
        digest = hashlib.sha256()
        for array in (self.pixels, self.labels):
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Splits:
    """What a search may see of a data set. The test split is not among it.

    Attributes:
        train: The images that students and teachers learn from.
        validation: The images that trials are compared on; empty in final training.
        classes: Names of the classes, in the order of the labels.
        mean: Mean of each channel, in pixel values (0 to 255).
        std: Standard deviation of each channel, in pixel values.
        fingerprint: Hash of the training images and all that is derived from them.
    """

    train: Images
    validation: Images
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str

    @property
    def geometry(self) -> Geometry:
        """Classes, channels and image size."""
        _, _, size, channels = self.train.pixels.shape
        return Geometry(len(self.classes), channels, size)

    def with_validation(self) -> Splits:
        """The splits of the final training: everything that may be learned from, and nothing held out."""
        import numpy as np

        train = self.train.joined(self.validation)
        nothing = self.validation[np.arange(0)]
        return dataclasses.replace(self, train=train, validation=nothing, fingerprint=_hash(train, self.mean, self.std))


@dataclass(frozen=True)
class Loaded:
    """What a data set hands over.

    Attributes:
        train: Every image that may be learned from.
        classes: Names of the classes.
        validation: The data set's own validation split, where it has one.
    """

    train: Images
    classes: tuple[str, ...]
    validation: Images | None = None


@dataclass(frozen=True)
class DataSet:
    """A data set as the registry knows it.

    Attributes:
        name: How a space calls it.
        summary: One line for the help.
        options: Which of the optional keys of `DatasetConfig` it understands.
        required: Those that it cannot do without, each with what it is.
        augment: What is done with its images unless the space says otherwise.
        geometry: Classes, channels and image size, without loading images.
        load_train: Loads what may be learned from.
        load_test: Loads the test split.
        mean: Published mean of each channel (0 to 255), or None to measure it on the training images.
        std: Published standard deviation of each channel, likewise.
        problems: Yields (key, message) for what is wrong with the options, cheaply, where none is missing.
        resolved: The options with all that follows from the images where it is not said, where nothing is wrong.
    """

    name: str
    summary: str
    options: tuple[str, ...]
    augment: Augment
    geometry: Callable[[DatasetConfig], Geometry]
    load_train: Callable[[DatasetConfig], Loaded]
    load_test: Callable[[DatasetConfig], Images]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    required: Mapping[str, str] = field(default_factory=dict)
    problems: Callable[[DatasetConfig], Iterator[tuple[str, str]]] = lambda config: iter(())
    resolved: Callable[[DatasetConfig], DatasetConfig] = lambda config: config


@functools.cache
def _all() -> dict[str, DataSet]:
    return {dataset.name: dataset for dataset in entries("ctkd_search.data.sets", "DATASET")}


def names() -> list[str]:
    """The data sets there are."""
    return sorted(_all())


def describe(name: str) -> DataSet:
    """The data set of that name.

    Raises:
        UserError: There is none; the message says which there are.
    """
    try:
        return _all()[name]
    except KeyError:
        raise UserError(
            f"unknown data set {name!r}; there are: {', '.join(names())}, and your own as package.module:factory"
        ) from None


def find(config: DatasetConfig) -> DataSet:
    """The data set that a config means: one that comes along, or the user's own.

    Raises:
        UserError: There is none of that name, or the user's own cannot be had.
    """
    if is_reference(config.name):
        from ctkd_search.data.own import own_dataset

        return own_dataset(config)
    return describe(config.name)


def problems(config: DatasetConfig) -> list[tuple[str, str]]:
    """What is wrong with a data set's options, as pairs of the key and a message; nothing is loaded."""
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
    return found or list(dataset.problems(config))


def resolved(config: DatasetConfig) -> DatasetConfig:
    """A config with nothing wrong in it, complete: what it leaves to the images is said, and paths are absolute."""
    config = find(config).resolved(config)
    # Trials run in other working directories than this one.
    return dataclasses.replace(config, root=os.path.abspath(config.root)) if config.root else config


def geometry(config: DatasetConfig) -> Geometry:
    """Classes, channels and image size of a data set, without loading its images."""
    return find(config).geometry(config)


def load_train(config: DatasetConfig) -> Splits:
    """Loads a data set and cuts its validation split off, before anything else sees it.

    Args:
        config: The data set; relative directories are relative to the working directory.

    Returns:
        Training and validation images. The test split is not read.

    Raises:
        UserError: The files are missing or broken, or too few for the split.
    """
    import numpy as np

    from ctkd_search.data.split import stratified_split

    dataset = find(config)
    loaded = dataset.load_train(config)
    train, validation = loaded.train, loaded.validation
    if validation is None:
        share = config.validation or _DEFAULT_VALIDATION
        kept, held_out = stratified_split(train.labels, share, config.split_seed, loaded.classes)
        train, validation = train[kept], train[held_out]
    mean, std = dataset.mean, dataset.std
    if mean is None or std is None:
        channels = train.pixels.reshape(-1, train.pixels.shape[-1])
        mean = tuple(round(float(value), 3) for value in channels.mean(axis=0, dtype=np.float64))
        std = tuple(round(max(float(value), 1.0), 3) for value in channels.std(axis=0, dtype=np.float64))
    return Splits(train, validation, loaded.classes, mean, std, _hash(train, mean, std))


def load_test(config: DatasetConfig) -> Images:
    """Loads the test split. Only the final training calls this.

    Raises:
        UserError: The files are missing or broken.
    """
    return find(config).load_test(config)


def _hash(train: Images, mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    return hashlib.sha256(f"{train.fingerprint()} {mean} {std}".encode()).hexdigest()


def cache_directory() -> Path:
    """Where downloads are kept unless a space names another directory."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ctkd-search"
