"""A few validation images for the check of a network before a search, limited in number and time."""

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

# More images than this are not listed, and more bytes of files not decoded, for a check.
_MOST_LISTED = 200_000
_MOST_BYTES = 500_000_000
# Number of files decoded to measure mean and deviation.
_MEASURED = 5000


class Sample(NamedTuple):
    """Some of the validation images.

    Attributes:
        images: The images, in random order.
        total: Number of all validation images.
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
        most: Most images to load.

    Raises:
        UserError: They cannot be loaded quickly: they must be downloaded first, are loaded by the user's own function,
            or are too many; or one is damaged.
    """
    if is_reference(config.name):
        raise UserError("your own data set is loaded only by run")
    counted = sizes(config)
    if counted is None or sum(counted) > _MOST_LISTED:
        raise UserError("there are too many images for check")
    with no_downloads():
        files = find(config).load_train(config).train
        if isinstance(files, ImageFiles):
            # Before files are skipped, all are decoded: which are left decides which are held out.
            decoded = len(files) if config.skip_broken else min(len(files), _MEASURED) + most
            if decoded * float(files.marks[:, 0].mean()) > _MOST_BYTES:
                raise UserError("the image files are too large for check")
            config = dataclasses.replace(config, loading="streamed", stored_side=None, stored_as=None)
        splits = load_train(config)
    chosen = np.random.default_rng(0).permutation(len(splits.validation))[:most]
    return Sample(splits.validation[chosen].held(), len(splits.validation), splits.mean, splits.std)
