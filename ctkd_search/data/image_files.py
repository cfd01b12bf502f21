"""Labelled image files become images in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ctkd_search.data.decode import decode_files, listed
from ctkd_search.data.registry import Images
from ctkd_search.errors import UserError
from ctkd_search.models.registry import Geometry

_LISTED_CLASSES = 10


def read_files(
    paths: Sequence[Path],
    labels: Sequence[int],
    classes: Sequence[str],
    geometry: Geometry,
    what: str,
    skip_broken: bool,
) -> Images:
    """Decodes labelled image files.

    Args:
        paths: The files.
        labels: Class of each.
        classes: Names of the classes, for messages.
        geometry: Size and channels that they are to have.
        what: What they are, for messages, as in ``training images``.
        skip_broken: Whether files that cannot be read are passed over.

    Raises:
        UserError: Some cannot be read, or no image of a class can.
    """
    import numpy as np

    pixels, kept = decode_files(paths, geometry.image_size, geometry.channels, what, skip_broken)
    found = np.asarray(labels, dtype=np.int64)[kept]
    without = [name for label, name in enumerate(classes) if label not in set(found.tolist())]
    if without:
        raise UserError(f"none of the {what} of {listed(without, _LISTED_CLASSES)} can be read; mend them")
    return Images(pixels, found)
