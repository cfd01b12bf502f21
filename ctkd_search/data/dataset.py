"""Declarations of data sets, and their splits."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

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
    "stored_side",
    "stored_as",
    "workers",
    "verify",
    "extra",
    "skip_broken",
    "options",
)
# Those of them that the user's own data sets have: the arguments of their factories.
OPTIONS_OF_OWN = ("options",)


def fingerprint_of(train: Pictures, mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    """Return the hash of training images and of their normalisation; streamed ones are marked as such."""
    own = train.fingerprint()
    prefix = STREAMED if own.startswith(STREAMED) else ""
    return prefix + hashlib.sha256(f"{own} {mean} {std}".encode()).hexdigest()


@dataclass(frozen=True)
class Splits:
    """The splits of a data set that a search uses. The test split is not among them.

    Attributes:
        train: Images that students and teachers are trained on.
        validation: Images that trials are compared on; empty in final training.
        classes: Names of the classes, in the order of the labels.
        mean: Mean of each channel, in pixel values (0 to 255).
        std: Standard deviation of each channel, in pixel values.
        fingerprint: Hash of the training images and their normalisation.
        resize: Length that a picture's shorter side was resized to before its centred square was cut out; None for the
            image's size.
        kept_apart: Number of images held out for the test of the final training.
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
        """Returns classes, channels and image size."""
        return Geometry(len(self.classes), self.train.channels, self.train.size)

    @property
    def loading(self) -> str:
        """Returns a description of where the images are during training."""
        size = f"{len(self.train) * self.train.size**2 * self.train.channels / 1e9:.2g} GB"
        if isinstance(self.train, ImageFiles):
            form = self.train.kept
            if not (self.train.squares or self.train.parts):
                return f"streamed from their files, {size} of pixels in every epoch"
            return "stored decoded" if form is None else f"stored decoded, shorter sides of at most {form.side} pixels"
        return f"{size} in memory"

    @property
    def stores(self) -> list[Path]:
        """Returns the directories in which images are stored decoded."""
        images = [each for each in (self.train, self.validation) if isinstance(each, ImageFiles)]
        stored = [places for each in images for places in (each.parts, each.squares) if places]
        return [
            Path(directory) for directory in dict.fromkeys(each for places in stored for each in places.directories)
        ]

    def with_validation(self) -> Splits:
        """Returns the splits of the final training: all images that may be trained on, and none held out."""
        import numpy as np

        train = self.train.joined(self.validation)
        nothing = self.validation[np.arange(0)]
        return dataclasses.replace(
            self, train=train, validation=nothing, fingerprint=fingerprint_of(train, self.mean, self.std)
        )


@dataclass(frozen=True)
class Loaded:
    """The images of a data set; as files if they are files, whether they fit into memory or not.

    Attributes:
        train: All images that may be trained on.
        classes: Names of the classes.
        validation: The data set's own validation split, if it has one.
    """

    train: Pictures
    classes: tuple[str, ...]
    validation: Pictures | None = None


@dataclass(frozen=True)
class DataSet:
    """The declaration of a data set in the registry.

    Attributes:
        name: Its name in a space.
        summary: One line for the help.
        options: Optional keys of `DatasetConfig` that it accepts.
        required: Those of them that it requires, each with a description.
        augment: Default augmentation of its images.
        geometry: Returns classes, channels and image size, without loading images.
        load_train: Loads the images that may be trained on.
        load_test: Loads the test split.
        mean: Published mean of each channel (0 to 255), or None to measure it on the training images.
        std: Published standard deviation of each channel, likewise.
        problems: Yields (key, message) for each wrong option, quickly, if none is missing.
        resolved: Returns the options with all that follows from the images if it is left out, if nothing is wrong.
        count: Returns the numbers of images that may be trained on and of its own validation split (0: it has none),
            without loading them; None if they are not known.
        absent: Returns which files the user must provide before anything can be loaded, quickly; None if none is
            missing.
        class_sizes: Returns the numbers of images that may be trained on of the smallest and the largest class, without
            loading them; None if they are not known.
        has_test: Returns whether there is a test split.
        files: Returns the image files that a search would decode, split by split, as far as they exist.
        recognised: Yields the properties found of the files, a line each, if nothing is wrong.
        notes: Yields notes for the user on the files: skipped ones, and likely mistakes.
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
