"""The size of images that are stored decoded, or that could be."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ctkd_search import data
from ctkd_search.config import DatasetConfig
from ctkd_search.data.picture_form import JPEG
from ctkd_search.data.storing import STORED, Storing
from ctkd_search.files import free_on_disk
from ctkd_search.space.definition import Space
from ctkd_search.text import size


def store_line(space: Space, held_out: int, place: Path) -> str | None:
    """Returns a line about the images of a space that are stored decoded, or could be; None if neither.

    Args:
        space: The space.
        held_out: Number of validation images.
        place: Directory of the stores.
    """
    config = space.dataset
    splits = data.find(config).files(config)
    files = next((images for images in splits if isinstance(images, data.ImageFiles) and len(images)), None)
    if files is None:
        return None
    if config.loading == STORED:
        needed = size(_bytes(space, config, files, held_out))
        return (
            f"images stored decoded: about {needed} in {place}, once for all searches; {size(free_on_disk(place))} free"
        )
    cut = any(augment.resized_crop for augment in space.augmentations)
    if not cut or config.loading not in (None, "auto"):
        return None
    pixels = size(_bytes(space, config, files, held_out))
    jpeg = size(_bytes(space, dataclasses.replace(config, stored_as=JPEG), files, held_out))
    return (
        "random crops are cut from files that are decoded in every epoch; dataset.loading: stored would decode them "
        f"once, and take about {pixels} of disk, or {jpeg} with stored_as: jpeg"
    )


def _bytes(space: Space, config: DatasetConfig, files: data.ImageFiles, held_out: int) -> int:
    """Returns the bytes of all stores if these files are stored."""
    forms = Storing(dataclasses.replace(config, loading=STORED), space.augmentations, None).forms(files)
    paths = files.paths(slice(None))
    needed = sum(form.bytes_of(paths) for form in forms)
    apart = files.square in forms  # those that are held out are then among them, unless they have files of their own
    return needed if apart else needed + held_out * files.square.bytes_of(paths[:1])
