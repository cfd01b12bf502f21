"""A data set as it is declared, and the splits that it becomes."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ctkd_search.config import Augment, DatasetConfig
from ctkd_search.data.images import STREAMED, ImageFiles, Pictures
from ctkd_search.geometry import Geometry

# The keys of `DatasetConfig` that a data set may or may not understand.
OWN_OPTIONS = (
    "root",
    "image_size",
    "channels",
    "resize",
    "loading",
    "workers",
    "verify",
    "extra",
    "skip_broken",
    "options",
)
# Which of them the user's own data sets have: what their factories are called with.
OPTIONS_OF_OWN = ("options",)


def fingerprint_of(train: Pictures, mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    """Return the hash of training images and of what they are normalised by; streamed ones are marked as such."""
    own = train.fingerprint()
    prefix = STREAMED if own.startswith(STREAMED) else ""
    return prefix + hashlib.sha256(f"{own} {mean} {std}".encode()).hexdigest()


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
        resize: Length that a picture's shorter side was resized to before its centred square was cut out; None for the
            image's size.
        kept_apart: How many images have been cut off for the test of the final training.
    """

    train: Pictures
    validation: Pictures
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    resize: int | None = None
    kept_apart: int = 0

    @property
    def geometry(self) -> Geometry:
        """Classes, channels and image size."""
        return Geometry(len(self.classes), self.train.channels, self.train.size)

    @property
    def loading(self) -> str:
        """Where the images are while they are learned from, in words."""
        size = f"{len(self.train) * self.train.size**2 * self.train.channels / 1e9:.2g} GB"
        if isinstance(self.train, ImageFiles):
            return f"streamed from their files, {size} of pixels in every epoch"
        return f"{size} in memory"

    def with_validation(self) -> Splits:
        """The splits of the final training: everything that may be learned from, and nothing held out."""
        import numpy as np

        train = self.train.joined(self.validation)
        nothing = self.validation[np.arange(0)]
        return dataclasses.replace(
            self, train=train, validation=nothing, fingerprint=fingerprint_of(train, self.mean, self.std)
        )


@dataclass(frozen=True)
class Loaded:
    """What a data set hands over. Those whose images are files give the files, whether they fit into memory or not.

    Attributes:
        train: Every image that may be learned from.
        classes: Names of the classes.
        validation: The data set's own validation split, where it has one.
    """

    train: Pictures
    classes: tuple[str, ...]
    validation: Pictures | None = None


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
        count: How many images may be learned from, and how many its own validation split has (0: it has none), without
            loading them; None where that cannot be said.
        absent: What the user must bring before anything can be loaded, cheaply; None where nothing is missing.
        class_sizes: How many images that may be learned from the smallest and the largest class have, without loading
            them; None where that cannot be said.
        has_test: Whether there is a test split.
        files: The image files that a search would decode, split by split, as far as they are at hand.
        recognised: Yields what was found of the files, a line each, where nothing is wrong.
        notes: Yields what the user should know of them: what is passed over, and what looks like a mistake.
    """

    name: str
    summary: str
    options: tuple[str, ...]
    augment: Augment
    geometry: Callable[[DatasetConfig], Geometry]
    load_train: Callable[[DatasetConfig], Loaded]
    load_test: Callable[[DatasetConfig], Pictures]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    required: Mapping[str, str] = field(default_factory=dict)
    problems: Callable[[DatasetConfig], Iterator[tuple[str, str]]] = lambda config: iter(())
    resolved: Callable[[DatasetConfig], DatasetConfig] = lambda config: config
    count: Callable[[DatasetConfig], tuple[int, int] | None] = lambda config: None
    absent: Callable[[DatasetConfig], str | None] = lambda config: None
    class_sizes: Callable[[DatasetConfig], tuple[int, int] | None] = lambda config: None
    has_test: Callable[[DatasetConfig], bool] = lambda config: True
    files: Callable[[DatasetConfig], Sequence[Pictures]] = lambda config: []
    recognised: Callable[[DatasetConfig], Iterator[str]] = lambda config: iter(())
    notes: Callable[[DatasetConfig], Iterator[str]] = lambda config: iter(())
