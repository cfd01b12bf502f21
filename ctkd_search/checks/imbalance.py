"""Lines of `check` about classes of different sizes: how to judge and to train students, or that nothing is gained."""

from __future__ import annotations

from typing import Any

from ctkd_search import data
from ctkd_search.metrics import BALANCED as BALANCED_ACCURACY
from ctkd_search.recipe import BALANCED, EFFECTIVE, UNWEIGHTED
from ctkd_search.space.definition import Space

# Ratio of the largest to the smallest class from which on classes are called imbalanced; ImageNet's is 1.8.
IMBALANCED = 2.0
_WEIGHTS = "class_weights"
# Values that follow from the sizes of the classes.
_BY_SIZE = {BALANCED, EFFECTIVE}


def imbalance_lines(space: Space) -> list[str]:
    """Returns a line about the sizes of the classes, as far as they are known without loading the images.

    Args:
        space: The space.

    Returns:
        Of imbalanced classes, their sizes and what a space has for them, apart from what this one uses already; of
        balanced ones, the settings that change little with them. Nothing if there is nothing to say.
    """
    sizes = data.find(space.dataset).class_sizes(space.dataset)
    if sizes is None:
        return []
    smallest, largest = sizes
    used = _equalised(space)
    if largest < IMBALANCED * smallest:
        how_many = f"{smallest:,} images each" if smallest == largest else f"{smallest:,} to {largest:,} images"
        # Given weights have another purpose.
        by_size = [key for key, values in used.items() if not _BY_SIZE.isdisjoint(values)]
        return [f"warning: {key} changes little, because the classes have {how_many}" for key in by_size]
    sentences = [f"the classes are imbalanced: the smallest has {smallest:,} images, the largest {largest:,}"]
    if BALANCED_ACCURACY.key not in space.strategy.objectives:
        sentences.append(
            "accuracy is for the most part that of the large ones; to count all classes alike, set objectives: "
            f"[{BALANCED_ACCURACY.key}]"
        )
    if not used:
        sentences.append(
            "for students that learn the small ones as well, set search.class_weights: {choice: [none, balanced]}, or "
            "augment.sampling: balanced"
        )
    return ["; ".join(sentences)]


def _equalised(space: Space) -> dict[str, set[Any]]:
    """Returns the settings that change how much the classes count, each with its possible values."""
    entry = space.entries.get(_WEIGHTS)
    found = {
        f"train.{_WEIGHTS}": {space.train.class_weights},
        f"search.{_WEIGHTS}": set() if entry is None else set(entry.values() or ()),
        f"teachers.recipe.{_WEIGHTS}": {space.teachers.recipe.class_weights},
        "sampling": {each.sampling for each in space.augmentations} - {None},
    }
    return {key: values for key, values in found.items() if values - {UNWEIGHTED}}
