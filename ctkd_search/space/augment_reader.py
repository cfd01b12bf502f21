"""Reading the settings of an augmentation, of a space and of a config."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from ctkd_search import data
from ctkd_search.config import Augment, DatasetConfig, Erasing
from ctkd_search.geometry import Geometry
from ctkd_search.plugins import is_reference
from ctkd_search.space.document import Document, Place

# Of two keys with the same purpose, the one that is given replaces the other one of the data set's own augmentation.
_RIVALS = (("crop", "resized_crop"), ("randaugment", "trivialaugment"))
# Keys of what is searched elsewhere.
_FORMS = frozenset(["float", "int", "choice", "choices", "subsets"])
ONLY_ALTERNATIVES = (
    "is searched as a part of named alternatives alone, because teachers are trained and recorded anew for each "
    "augmentation; write search: {augment: {choice: {weak: {}, strong: {mixup: 0.2}}}}"
)
# A side of a whole number and this much more is rounded up.
_ROUNDED = 0.5


def read_augment(
    document: Document, dataset: DatasetConfig | None, ask_images: bool = True, shared: bool = False
) -> Augment:
    """Returns the section ``augment``, where what is not given is the data set's own.

    Args:
        document: The file.
        dataset: The data set; None for one that cannot be read.
        ask_images: Whether the images may be asked how large they are.
        shared: Whether it is no augmentation by itself, but what alternatives have in common; they are judged instead.
    """
    own = Augment() if not _is_known(dataset, ask_images) else data.find(dataset).augment
    return read_settings(document, ("augment",), own, dataset, ask_images and not shared)


def read_settings(
    document: Document, place: Place, base: Augment, dataset: DatasetConfig | None, ask_images: bool
) -> Augment:
    """Returns the augmentation at a place, where what is not given is taken from another one; notes its faults.

    Args:
        document: The file.
        place: Place of a mapping, which may be missing.
        base: The other augmentation.
        dataset: The data set; None for one that cannot be read.
        ask_images: Whether it is judged by the images.
    """
    raw: Any = document.data
    for key in place:
        raw = raw.get(key) if isinstance(raw, dict) else None
    raw = _expanded({} if raw is None else raw)
    before = len(document.problems)
    if isinstance(raw, dict):
        raw = _merged(base, _without_searched(document, place, raw))
    augment: Augment = document.validated(place, raw, Augment, base)
    if not ask_images or dataset is None:
        return augment
    geometry = data.geometry(dataset)
    if augment.crop >= geometry.image_size:
        message = f"must be less than the image size {geometry.image_size}, but got {augment.crop}"
        document.fault((*place, "crop"), message)
    if augment.resized_crop:
        inside = (*place, "resized_crop")
        if augment.crop:
            document.fault(inside, "replaces crop; leave one of the two out")
        if "loading" not in data.find(dataset).options:
            document.fault(inside, f"has no meaning for the data set {dataset.name!r}, whose images are not files")
        elif dataset.loading == "resident":
            document.fault(inside, "cuts parts out of whole pictures, which are streamed or stored; leave loading out")
    if len(document.problems) == before:
        for inner, message in _faults(augment, geometry):
            document.fault((*place, *inner), message)
    return augment


def settings_to_read(augment: Augment, dataset: DatasetConfig) -> dict[str, Any]:
    """Returns the settings from which `read_augment` makes an augmentation again, as few as are sure to.

    Args:
        augment: The augmentation.
        dataset: The data set. What its own augmentation has and this one lacks is named as None. For a data set of the
            user's own, all settings are: its code may have gone, or have other defaults when they are read.
    """
    whole = dataclasses.asdict(augment)
    if is_reference(dataset.name):
        return whole
    given = augment.given()
    left_out = _merged(data.find(dataset).augment, given)
    return {key: value for key, value in whole.items() if key in given or left_out[key] != value}


def is_replaced(key: str, given: Mapping[str, Any]) -> bool:
    """Returns whether settings give a key, or another one with the same purpose."""
    return key in given or any(given.get(other) for pair in _RIVALS if key in pair for other in pair)


def _is_known(dataset: DatasetConfig | None, ask_images: bool) -> TypeGuard[DatasetConfig]:
    """Returns whether a data set can be asked for its own augmentation; the code of the user's own may have gone."""
    return dataset is not None and (ask_images or not is_reference(dataset.name))


def _without_searched(document: Document, place: Place, raw: dict[str, Any]) -> dict[str, Any]:
    """Returns settings without those that are written as something to be searched, which are noted."""
    kept = {}
    for key, value in raw.items():
        if key in _FORMS or (isinstance(value, dict) and not _FORMS.isdisjoint(value)):
            document.fault((*place, str(key)), ONLY_ALTERNATIVES)
        else:
            kept[key] = _without_searched(document, (*place, str(key)), value) if isinstance(value, dict) else value
    return kept


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
