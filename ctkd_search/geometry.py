"""The images that a network is made for: classes, channels and pixels."""

from __future__ import annotations

from typing import NamedTuple

# The smallest images, in pixels a side, of this package's own families; larger ones may have any size.
MIN_SIZE = 8


class Geometry(NamedTuple):
    """The properties of a data set that a network depends on.

    Attributes:
        classes: Number of classes, at least 2.
        channels: Channels of an image.
        image_size: Side of an image in pixels.
    """

    classes: int
    channels: int
    image_size: int
