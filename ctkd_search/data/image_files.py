"""Labelled image files become images in memory, or files that can be read."""

from __future__ import annotations

import numpy as np

from ctkd_search.data.decode import decode_files, listed, readable_files
from ctkd_search.data.images import ImageFiles, Images
from ctkd_search.errors import UserError

_LISTED_CLASSES = 10


def read_files(files: ImageFiles, skip_broken: bool) -> Images:
    """Decodes labelled image files into memory.

    Args:
        files: The files.
        skip_broken: Whether files that cannot be read are skipped.

    Raises:
        UserError: Some cannot be read, or no image of a class can.
    """
    paths = files.paths(slice(None))
    pixels, kept = decode_files(paths, files.size, files.channels, files.resize, files.what, skip_broken)
    _check_classes(files, files.labels[kept])
    return Images(pixels, files.labels[kept])


def readable(files: ImageFiles) -> ImageFiles:
    """The files that can be read. Each is read once for it, which takes about as long as an epoch of them.

    Raises:
        UserError: No image of a class can be read.
    """
    kept = readable_files(files.paths(slice(None)), files.channels, files.what)
    _check_classes(files, files.labels[kept])
    return files[kept]


def _check_classes(files: ImageFiles, labels: np.ndarray) -> None:
    left = set(labels.tolist())
    without = [name for label, name in enumerate(files.classes) if label not in left]
    if without:
        raise UserError(f"none of the {files.what} of {listed(without, _LISTED_CLASSES)} can be read; repair them")
