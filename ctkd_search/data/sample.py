"""A few validation images for a look at a network before a search, bounded in number and time."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from ctkd_search.config import DatasetConfig
from ctkd_search.data.images import ImageFiles, Images
from ctkd_search.data.published import no_downloads
from ctkd_search.data.registry import find, load_train, sizes
from ctkd_search.errors import UserError
from ctkd_search.plugins import is_reference

# More images than this are not even listed, and more bytes of files not decoded, by a look.
_MOST_LISTED = 200_000
_MOST_BYTES = 500_000_000
# So many files are decoded to measure mean and deviation.
_MEASURED = 5000


class Sample(NamedTuple):
    """Some of the validation images.

    Attributes:
        images: The images, in random order.
        total: How many validation images there are.
        mean: Mean of each channel of the training images.
        std: Their standard deviation.
    """

    images: Images
    total: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def validation_sample(config: DatasetConfig, most: int) -> Sample:
    """Loads some of the validation images that a search would hold out.

    Args:
        config: The data set.
        most: How many to load at most.

    Raises:
        UserError: They cannot be had at once: they must be downloaded first, are the user's own function's, or are too
            many to be looked at; or one is broken.
    """
    if is_reference(config.name):
        raise UserError("your own data set is loaded by run alone")
    counted = sizes(config)
    if counted is None or sum(counted) > _MOST_LISTED:
        raise UserError("there are too many images for a look")
    with no_downloads():
        files = find(config).load_train(config).train
        if isinstance(files, ImageFiles):
            decoded = min(len(files), _MEASURED) + most
            if decoded * float(files.marks[:, 0].mean()) > _MOST_BYTES:
                raise UserError("the image files are too large for a look")
            config = dataclasses.replace(config, loading="streamed", skip_broken=None)
        splits = load_train(config)
    chosen = np.random.default_rng(0).permutation(len(splits.validation))[:most]
    return Sample(splits.validation[chosen].held(), len(splits.validation), splits.mean, splits.std)
