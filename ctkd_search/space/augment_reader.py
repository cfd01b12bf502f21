"""Reading the section `augment`, of a space and of a config."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from ctkd_search import data
from ctkd_search.config import Augment, DatasetConfig, Erasing
from ctkd_search.geometry import Geometry
from ctkd_search.plugins import is_reference
from ctkd_search.space.document import Document, Place

# Of two keys with the same purpose, the one that is given replaces the other one of the data set's own augmentation.
_RIVALS = (("crop", "resized_crop"), ("randaugment", "trivialaugment"))
# A side of a whole number and this much more is rounded up.
_ROUNDED = 0.5


def read_augment(document: Document, dataset: DatasetConfig | None, ask_images: bool = True) -> Augment:
    """The section ``augment``, where what is not given is the data set's own; None: a data set that cannot be read.

    Args:
        document: The file.
        dataset: The data set.
        ask_images: Whether the images may be asked how large they are.
    """
    raw = _expanded(document.data.get("augment"))
    if dataset is None or (not ask_images and is_reference(dataset.name)):
        return Augment() if raw is None else document.validated(("augment",), raw, Augment, Augment())
    described = data.find(dataset)
    own = described.augment
    if raw is None:
        raw = {}
    merged = _merged(own, raw) if isinstance(raw, dict) else raw
    before = len(document.problems)
    augment: Augment = document.validated(("augment",), merged, Augment, own)
    if not ask_images:
        return augment
    geometry = data.geometry(dataset)
    if augment.crop >= geometry.image_size:
        document.fault(
            ("augment", "crop"), f"must be less than the image size {geometry.image_size}, but got {augment.crop}"
        )
    if augment.resized_crop:
        place: Place = ("augment", "resized_crop")
        if augment.crop:
            document.fault(place, "replaces crop; leave one of the two out")
        if "loading" not in described.options:
            document.fault(place, f"has no meaning for the data set {dataset.name!r}, whose images are not files")
        elif dataset.loading == "resident":
            document.fault(place, "cuts parts out of the original pictures, which must be streamed; leave loading out")
    if len(document.problems) == before:
        for inner, message in _faults(augment, geometry):
            document.fault(("augment", *inner), message)
    return augment


def _faults(augment: Augment, geometry: Geometry) -> Iterator[tuple[Place, str]]:
    """Yields the operations that cannot be combined, or have no effect on such images, each with its message."""
    if augment.randaugment and augment.trivialaugment:
        yield ("randaugment",), "is replaced by trivialaugment; leave one of the two out"
    if augment.jitter:
        strengths = dataclasses.asdict(augment.jitter)
        if not any(strengths.values()):
            yield ("jitter",), f"has no effect, because {', '.join(strengths)} are all 0; leave it out"
        for key in ("saturation", "hue"):
            if geometry.channels == 1 and strengths[key]:
                yield ("jitter", key), "has no effect, because the images are grey; leave it out"
    if augment.mix_probability and not augment.mixes:
        yield ("mix_probability",), "has no effect without mixup or cutmix; leave it out"
    if augment.cutmix and geometry.image_size == 1:
        yield ("cutmix",), "has no rectangle between none and all of images of a single pixel; leave it out"
    if augment.erasing and (fault := _erasing_fault(augment.erasing, geometry.image_size)):
        yield ("erasing", "area"), fault


def _erasing_fault(erasing: Erasing, size: int) -> str | None:
    """Returns why erasing has no effect on images of a size, or leaves too little of every one of them; or None.

    A rectangle of the smallest area fits best as a square; its side is rounded, and is less than that of the images.
    """
    smallest, largest = erasing.area
    side = size * math.sqrt(smallest)
    if largest * size**2 < 1:
        return f"is less than one pixel of images of size {size}; raise it, or leave erasing out"
    if side >= size - _ROUNDED:
        return (
            f"has no effect, because no such rectangle fits into images of size {size}; lower it, or leave erasing out"
        )
    if erasing.probability == 1 and side >= size - 1 - _ROUNDED:
        return (
            f"leaves no more than a row and a column of any image of size {size}, because the probability is 1; lower "
            "one of the two"
        )
    return None


def _expanded(raw: Any) -> Any:
    """Returns the section with its short forms written out: a probability alone stands for random erasing with it."""
    if not isinstance(raw, dict):
        return raw
    erasing = raw.get("erasing")
    is_number = isinstance(erasing, int | float) and not isinstance(erasing, bool)
    return {**raw, "erasing": {"probability": erasing}} if is_number else raw


def _merged(own: Augment, given: dict[str, Any]) -> dict[str, Any]:
    """Returns the augmentation with the data set's defaults; what is given replaces its rival."""
    displaced: dict[str, Any] = {}
    off = {"crop": 0}
    for pair in _RIVALS:
        for key, rival in (pair, pair[::-1]):
            if given.get(key) and rival not in given:
                displaced[rival] = off.get(rival)
    return {**dataclasses.asdict(own), **displaced, **given}
