"""The user's own data set: their factory, referred to by name, returns its description and its images."""

from __future__ import annotations

import functools
import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ctkd_search.config import Augment, DatasetConfig
from ctkd_search.data.class_folders import alike, is_text, normal
from ctkd_search.data.dataset import OPTIONS_OF_OWN, DataSet, Loaded
from ctkd_search.data.decode import as_square, upright
from ctkd_search.data.images import Images
from ctkd_search.data.watching import watcher
from ctkd_search.errors import UserError
from ctkd_search.geometry import MIN_SIZE, Geometry
from ctkd_search.plugins import describe_error, load_object

if TYPE_CHECKING:
    import numpy as np

_STEP = 500


@dataclass(frozen=True)
class OwnData:
    """A data set of your own, as your factory returns it.

    The functions are called when the images are needed, and not by ``check``. Each returns either a pair of arrays, the
    pixels (uint8, shape (images, height, width, channels), or without the last axis for grey ones) and the labels
    (whole numbers from 0), or a sequence of pairs of an image (of Pillow, or an array of uint8) and its label, such as
    a data set of torchvision without transforms. Images of such a sequence may have any size and colour.

    Attributes:
        classes: Names of the classes, in the order of the labels.
        image_size: Side of the images in pixels.
        channels: 3 for colour, 1 for grey.
        train: Loads the images that may be trained on.
        test: Loads the test split, for the final training alone; without it, a search may hold out a share of the
            training images (``dataset.test``).
        validation: Loads its own validation split; without it, one is held out of the training images.
        mean: Mean of each channel, in pixel values (0 to 255); without it, it is measured on the training images.
        std: Standard deviation of each channel, likewise.
        augment: Default augmentation of the training images.
    """

    classes: Sequence[str]
    image_size: int
    channels: int
    train: Callable[[], Any]
    test: Callable[[], Any] | None = None
    validation: Callable[[], Any] | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    augment: Augment = field(default_factory=Augment)


def own_dataset(config: DatasetConfig) -> DataSet:
    """Returns the data set of the user's own factory.

    Args:
        config: Its name is the factory's; its options are the factory's arguments.

    Raises:
        UserError: The factory cannot be imported, takes other arguments, fails, or returns something else.
    """
    # In another directory the same name may mean another factory.
    return _made(os.getcwd(), config.name, json.dumps(config.options or {}, sort_keys=True, default=str))


@functools.lru_cache(maxsize=8)
def _made(directory: str, reference: str, options: str) -> DataSet:
    factory = load_object(reference)
    if not callable(factory):
        raise UserError(f"{reference!r} must be a function, but is {_kind(factory)}")
    arguments: dict[str, Any] = json.loads(options)
    _check_arguments(reference, factory, arguments)
    try:
        own = factory(**arguments)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # of the user's code, which may raise anything
        raise UserError(f"{reference} fails with {describe_error(error)}") from None
    if not isinstance(own, OwnData):
        raise UserError(f"{reference} must return ctkd_search.data.OwnData, but returned {_kind(own)}")
    for fault in _faults(own):
        raise UserError(f"{reference} returned OwnData whose {fault}")
    return _as_dataset(reference, own)


def _check_arguments(reference: str, factory: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # as for a function written in C, which has no signature
        return
    try:
        signature.bind(**arguments)
    except TypeError as error:
        known = ", ".join(signature.parameters) or "none"
        raise UserError(f"dataset.options do not fit {reference}: {error}; its arguments: {known}") from None


def _kind(value: Any) -> str:
    name = type(value).__name__
    return "nothing" if value is None else f"a{'n' * (name[0] in 'aeiou')} {name}"


def _faults(own: OwnData) -> Iterator[str]:
    """Yields the faults of the data set that a factory returned."""
    classes = own.classes
    if isinstance(classes, str) or not isinstance(classes, Sequence) or not all(isinstance(c, str) for c in classes):
        yield f"classes must be a sequence of names, but got {classes!r:.80}"
    elif len({normal(name) for name in classes}) < max(len(classes), 2):
        yield "classes must be at least 2 different names (in Unicode's NFC)"
    elif strange := [name for name in classes if not is_text(name)]:
        yield f"classes have a name that cannot be written in UTF-8: {strange[0]!r}"
    if type(own.image_size) is not int or own.image_size < MIN_SIZE:
        yield f"image_size must be a whole number, at least {MIN_SIZE}, but got {own.image_size!r}"
    if type(own.channels) is not int or own.channels not in (1, 3):
        yield f"channels must be 1 or 3, but got {own.channels!r}"
        return
    for name in ("train", "test", "validation"):
        load = getattr(own, name)
        if not callable(load) and (name == "train" or load is not None):
            yield f"{name} must be a function without arguments that loads images, but got {_kind(load)}"
    for name in ("mean", "std"):
        values = getattr(own, name)
        if values is not None and not _are_numbers(values, own.channels, 0 if name == "mean" else 1e-6):
            yield f"{name} must be {own.channels} number(s) among pixel values, 0 to 255, but got {values!r:.80}"
    if (own.mean is None) != (own.std is None):
        yield "mean and std must be given together"
    if not isinstance(own.augment, Augment):
        yield f"augment must be ctkd_search.config.Augment, but got {_kind(own.augment)}"


def _are_numbers(values: Any, count: int, least: float) -> bool:
    try:
        return len(values) == count and all(least <= float(value) <= 255 for value in values)
    except (TypeError, ValueError):
        return False


def _as_dataset(reference: str, own: OwnData) -> DataSet:
    geometry = Geometry(len(own.classes), own.channels, own.image_size)

    classes = tuple(normal(name) for name in own.classes)

    def load(name: str) -> Images:
        # Whatever a student learns from or is chosen by has every class; what it is tested on may lack some.
        return _images(f"{reference}: {name}()", getattr(own, name), classes, geometry, every_class=name != "test")

    def load_train(config: DatasetConfig) -> Loaded:
        return Loaded(load("train"), classes, load("validation") if own.validation else None)

    def problems(config: DatasetConfig) -> Iterator[tuple[str, str]]:
        if own.validation and config.validation is not None:
            yield "validation", f"has no effect, because {reference} has its own validation split; leave it out"

    return DataSet(
        name=reference,
        summary=(inspect.getdoc(own.train) or reference).splitlines()[0],
        options=OPTIONS_OF_OWN,
        augment=own.augment,
        geometry=lambda config: geometry,
        load_train=load_train,
        load_test=lambda config: load("test"),
        has_test=lambda config: own.test is not None,
        notes=lambda config: alike(own.classes),
        mean=tuple(map(float, own.mean)) if own.mean is not None else None,
        std=tuple(map(float, own.std)) if own.std is not None else None,
        problems=problems,
    )


def _images(
    where: str, load: Callable[[], Any], classes: Sequence[str], geometry: Geometry, every_class: bool
) -> Images:
    """Calls one of the user's functions and converts its result to images.

    Args:
        where: Its name, for messages.
        load: The function.
        classes: Names of the classes.
        geometry: The images that it must return.
        every_class: Whether each class must have an image.

    Raises:
        UserError: It fails, or does not return images and labels.
    """
    import numpy as np

    try:
        loaded = load()
        if isinstance(loaded, Images):
            loaded = (loaded.pixels, loaded.labels)
        if isinstance(loaded, tuple) and len(loaded) == 2 and all(hasattr(part, "shape") for part in loaded):
            pixels, labels = np.asarray(loaded[0]), np.asarray(loaded[1])
        elif hasattr(loaded, "__len__") and hasattr(loaded, "__getitem__"):
            pixels, labels = _decoded(where, loaded, geometry)
        else:
            raise UserError(
                f"{where} must return (pixels, labels) or a sequence of pairs, but returned {_kind(loaded)}"
            )
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # of the user's code, which may raise anything
        raise UserError(f"{where} fails with {describe_error(error)}") from None
    if geometry.channels == 1 and pixels.ndim == 3:
        pixels = pixels[..., None]
    size = geometry.image_size
    if pixels.dtype != np.uint8 or pixels.shape[1:] != (size, size, geometry.channels):
        raise UserError(
            f"{where} returned pixels of {pixels.dtype} and shape {pixels.shape}; they must be uint8, 0 to 255, of "
            f"shape (images, {size}, {size}, {geometry.channels})"
        )
    return Images(np.ascontiguousarray(pixels), _labels(where, labels, len(pixels), classes, every_class))


def _labels(where: str, labels: np.ndarray, images: int, classes: Sequence[str], every_class: bool) -> np.ndarray:
    import numpy as np

    if labels.ndim != 1 or len(labels) != images or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            f"{where} returned labels of {labels.dtype} and shape {labels.shape}; they must be whole numbers, one for "
            f"each of the {images} images"
        )
    wrong = labels[(labels < 0) | (labels >= len(classes))]
    if len(wrong):
        raise UserError(
            f"{where} returned the label {wrong[0]}; with {len(classes)} classes they are 0 to {len(classes) - 1}"
        )
    if not images:
        raise UserError(f"{where} returned no images")
    without = [name for label, name in enumerate(classes) if not (labels == label).any()]
    if without and every_class:
        raise UserError(
            f"{where} has no image of the class {without[0]!r} ({len(without)} of {len(classes)} are missing)"
        )
    return labels.astype(np.int64)


def _decoded(where: str, pairs: Any, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Returns a sequence of images and labels as arrays."""
    import numpy as np
    from PIL import Image

    count = len(pairs)
    pixels = np.empty((count, geometry.image_size, geometry.image_size, geometry.channels), dtype=np.uint8)
    labels = []
    for position in range(count):
        try:
            image, label = pairs[position]
        except (TypeError, ValueError) as error:
            raise UserError(f"{where}[{position}] must be a pair of an image and its label ({error})") from None
        if isinstance(image, np.ndarray) and image.dtype == np.uint8:
            image = Image.fromarray(image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image)
        if not isinstance(image, Image.Image):
            kind = f"{_kind(image)} of {image.dtype}" if hasattr(image, "dtype") else _kind(image)
            raise UserError(
                f"{where}[{position}] must have an image of Pillow or an array of uint8, but got {kind}; leave "
                "ToTensor and normalisation to ctkd-search"
            )
        pixels[position] = as_square(upright(image, geometry.channels), geometry.image_size)
        labels.append(label)
        if position % _STEP == 0:
            watcher().progress(f"reading {where}", position, count)
    watcher().progress(f"reading {where}", count, count)
    return pixels, np.asarray(labels)
