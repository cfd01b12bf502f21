"""The validation split, and the test split of a data set that has none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ctkd_search.data.decode import listed
from ctkd_search.data.images import Pictures
from ctkd_search.data.shares import held_out as held_out_of
from ctkd_search.errors import UserError

_LISTED = 10
# Test images are drawn with a seed of their own: another draw of the validation images leaves them as they are.
_TEST_SEED = 1797


def stratified_split(
    labels: np.ndarray, share: float, seed: int, classes: Sequence[str], already: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts the same share of every class off.

    Args:
        labels: Class of each image, shape (images,).
        share: Share of each class to hold out, in (0, 1); at least one image of a class is held out, and one is not.
        seed: Seed of the draw.
        classes: Names of the classes, for the message.
        already: Class of each image that has been held out already; the share is one of these images too.

    Returns:
        Positions of the images kept and of the images held out, each in rising order.

    Raises:
        UserError: A class has fewer than two images.
    """
    generator = np.random.default_rng(seed)
    held_out = np.zeros(len(labels), dtype=bool)
    counts = np.bincount(labels, minlength=len(classes))
    cut_off = np.bincount([] if already is None else already, minlength=len(classes))
    few = [f"{name!r} ({count})" for name, count in zip(classes, counts, strict=True) if count < 2]
    if few:
        raise UserError(
            f"too few training images of the class{'es' * (len(few) > 1)} {listed(few, _LISTED)}; a validation split "
            "needs at least 2 of each class"
        )
    for label in range(len(classes)):
        members = np.flatnonzero(labels == label)
        count = min(held_out_of(share, len(members) + int(cut_off[label])), len(members) - 1)
        held_out[generator.permutation(members)[:count]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def without_test(images: Pictures, share: float, classes: Sequence[str]) -> tuple[Pictures, Pictures]:
    """Cut test images off those that may be learned from, before one of them is decoded.

    Args:
        images: The images.
        share: Share of each class.
        classes: Names of the classes.

    Returns:
        The images that are left, and those cut off.
    """
    kept, apart = stratified_split(images.labels, share, _TEST_SEED, classes)
    return images[kept], images[apart]
