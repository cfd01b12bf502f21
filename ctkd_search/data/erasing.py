"""Random erasing (arXiv 1708.04896): a rectangle of an image becomes the mean colour."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ctkd_search.config import Erasing

# Smallest and largest ratio of a rectangle's sides, and how often one that does not fit is drawn again, as in
# torchvision.
_RATIOS = (0.3, 3.3)
_TRIES = 10


def draw_erasing(erasing: Erasing, count: int, size: int, generator: Callable[[str], torch.Generator]) -> Tensor:
    """Draws the rectangles of an epoch, as torchvision's `RandomErasing` does.

    Args:
        erasing: Probability and areas.
        count: Number of positions.
        size: Side of the images in pixels.
        generator: Returns the generator of random numbers for a purpose.

    Returns:
        First row, first column, height and width of each rectangle, int64 of shape (positions, 4), on the CPU; of
        images that are not erased, the height and the width are 0.
    """

    def uniform(purpose: str, *shape: int) -> Tensor:
        return torch.rand(shape, dtype=torch.float64, generator=generator(f"erasing {purpose}"))

    smallest, largest = erasing.area
    area = size**2 * (smallest + (largest - smallest) * uniform("area", count, _TRIES))
    low, high = (math.log(ratio) for ratio in _RATIOS)
    ratio = (low + (high - low) * uniform("ratio", count, _TRIES)).exp()
    heights, widths = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (heights < size) & (widths < size)
    # The first one that fits, or none.
    first = fits.int().argmax(dim=1, keepdim=True)
    erased = (uniform("probability", count, 1) < erasing.probability) & fits.gather(1, first)
    height, width = (sides.gather(1, first).where(erased, 0) for sides in (heights, widths))
    top = (uniform("row", count, 1) * (size - height + 1)).floor()
    left = (uniform("column", count, 1) * (size - width + 1)).floor()
    return torch.cat([top, left, height, width], dim=1).long()


def erase(images: Tensor, rectangles: Tensor) -> Tensor:
    """Sets rectangles of normalised images to 0, their mean, in their memory, and returns the images.

    Args:
        images: The images, shape (images, channels, height, width).
        rectangles: One for each, as `draw_erasing` returns them, on the same device.
    """
    return images.masked_fill_(within(rectangles, *images.shape[2:]), 0)


def within(rectangles: Tensor, height: int, width: int) -> Tensor:
    """Returns which pixels lie in rectangles, bool of shape (images, 1, height, width).

    Args:
        rectangles: First row, first column, height and width of each, shape (images, 4).
        height: Height of the images.
        width: Their width.
    """
    top, left, tall, wide = (part.view(-1, 1) for part in rectangles.unbind(1))
    rows, columns = (torch.arange(side, device=rectangles.device) for side in (height, width))
    down, right = (rows >= top) & (rows < top + tall), (columns >= left) & (columns < left + wide)
    return (down[:, :, None] & right[:, None, :]).unsqueeze(1)
