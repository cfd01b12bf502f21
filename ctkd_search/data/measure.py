"""Mean and deviation of a data set that has published none."""

from __future__ import annotations

import numpy as np

from ctkd_search.data.images import Images, Pictures

# Decoding a million images for two numbers a channel would take an hour; a sample of this many gives the mean to about
# a pixel value.
_SAMPLE = 5000
_AT_ONCE = 250


def mean_and_deviation(images: Pictures) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, in pixel values, rounded to three decimals.

    Of images that are not in memory, 5,000 are measured, evenly spread over their order.

    Args:
        images: The images.

    Raises:
        UserError: One of them is broken.
    """
    if isinstance(images, Images):
        pixels = images.pixels.reshape(-1, images.channels)
        return _rounded(pixels.mean(axis=0, dtype=np.float64), pixels.std(axis=0, dtype=np.float64))
    chosen = np.linspace(0, len(images) - 1, min(len(images), _SAMPLE)).astype(np.int64)
    # Sums of whole numbers are exact, in whichever pieces they are taken.
    total, squared = (np.zeros(images.channels, dtype=np.int64) for _ in range(2))
    for start in range(0, len(chosen), _AT_ONCE):
        pixels = images[chosen[start : start + _AT_ONCE]].held().pixels.reshape(-1, images.channels).astype(np.int64)
        total += pixels.sum(axis=0)
        squared += (pixels**2).sum(axis=0)
    count = len(chosen) * images.size**2
    mean = total / count
    return _rounded(mean, np.sqrt(np.maximum(squared / count - mean**2, 0)))


def _rounded(mean: np.ndarray, std: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return (
        tuple(round(float(value), 3) for value in mean),
        tuple(round(max(float(value), 1.0), 3) for value in std),
    )
