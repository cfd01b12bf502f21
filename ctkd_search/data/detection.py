"""Size and colour of image files, as far as all of them agree."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from ctkd_search.data.pillow import open_image, unreadable_errors
from ctkd_search.data.watching import watcher
from ctkd_search.errors import UserError
from ctkd_search.geometry import MIN_SIZE

# Images larger than this are usually shrunk, and the user must decide to which size.
_LARGEST = 64
_GREY = {"1", "L", "LA", "La", "I", "F"}
_SUGGESTED = (8, 16, 24, 32, 48, 64)
# Number of images after which a difference of sizes is reported without looking at the rest.
_SEEN_ENOUGH = 2000
_STEP = 500


class Found(NamedTuple):
    """The common properties of images.

    Attributes:
        image_size: Side in pixels.
        channels: 1 if all of them are grey, 3 otherwise.
    """

    image_size: int
    channels: int


def found_in(paths: Sequence[str], image_size: int | None, channels: int | None) -> Found:
    """Finds the properties of images that a config leaves out, in the first bytes of all of them.

    Args:
        paths: The files; those that cannot be read are skipped here, and reported when they are decoded.
        image_size: The config's value, or None.
        channels: The config's value, or None.

    Raises:
        UserError: The images have different sizes, are not square, or are too small or too large to be used as they
            are.
    """
    # It takes seconds for tens of thousands, so the result is kept while the files do not change.
    signature = tuple((path, (stat := os.stat(path)).st_mtime_ns, stat.st_size) for path in paths)
    return _looked(signature, image_size, channels)


@functools.lru_cache(maxsize=4)
def _looked(signature: tuple[tuple[str, int, int], ...], image_size: int | None, channels: int | None) -> Found:
    unreadable = unreadable_errors()
    sizes: Counter[tuple[int, int]] = Counter()
    colour = False
    for number, (path, *_) in enumerate(signature):
        try:
            with open_image(path) as image:
                # Turning upright changes no square size; of other sizes the message has only an example.
                sizes[image.size] += 1
                colour = colour or not (image.mode in _GREY or image.mode.startswith("I;16"))
        except unreadable:
            continue
        if (colour or channels is not None) and image_size is not None:
            break
        if len(sizes) > 1 and number >= _SEEN_ENOUGH and image_size is None:
            break
        if number % _STEP == 0:
            watcher().progress("looking at the training images", number, len(signature))
    watcher().progress("looking at the training images", len(signature), len(signature))
    if not sizes:
        raise UserError(f"cannot be found: none of the training images can be read; the first is {signature[0][0]}")
    if image_size is None:
        image_size = _common(sizes, complete=sizes.total() == len(signature))
    return Found(image_size, channels or (3 if colour else 1))


def _common(sizes: Counter[tuple[int, int]], complete: bool) -> int:
    """Returns the side of images that are all of one size."""
    shortest = min(min(size) for size in sizes)
    suggested = max((size for size in _SUGGESTED if size <= shortest), default=MIN_SIZE)
    remedy = f"set the side in pixels that they are cut and resized to, as in image_size: {suggested}"
    if len(sizes) > 1:
        small, large = (pick(sizes, key=lambda size: size[0] * size[1]) for pick in (min, max))
        more = "" if complete else " or more"
        raise UserError(
            f"is missing: the training images have {len(sizes):,}{more} sizes, from {small[0]}x{small[1]} to "
            f"{large[0]}x{large[1]} pixels; {remedy}"
        )
    ((width, height),) = sizes
    if width != height:
        raise UserError(f"is missing: the training images are of {width}x{height} pixels, not square; {remedy}")
    if not MIN_SIZE <= width <= _LARGEST:
        raise UserError(f"is missing: the training images are of {width}x{height} pixels; {remedy}")
    return width
