"""The images that a network is made for: how many classes, channels and pixels."""

from __future__ import annotations

from typing import NamedTuple

# The smallest images, in pixels a side, of this package's own families; larger ones may have any size.
MIN_SIZE = 8


class Geometry(NamedTuple):
    """What a data set asks of a network.

    Attributes:
        classes: How many classes there are, at least 2.
        channels: Channels of an image.
        image_size: Side of an image in pixels.
    """

    classes: int
    channels: int
    image_size: int
