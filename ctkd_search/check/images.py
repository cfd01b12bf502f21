"""What `check` says of the images that a search would read: what they are, and whether they can be decoded."""

from __future__ import annotations

from ctkd_search.distributions import Choice, Number
from ctkd_search.space import Space


def small_data(space: Space, images: int) -> list[str]:
    """Return what there is to say of batches that are larger than the data set, a line each.

    Args:
        space: The space.
        images: How many images there are to learn from.
    """
    found = []
    entry = space.entries.get("batch_size")
    if isinstance(entry, Number | Choice):
        options = [int(entry.high)] if isinstance(entry, Number) else [int(size) for size in entry.options.values()]
        searched = sorted(size for size in options if size > images)
        if searched:
            found.append(f"search.batch_size {', '.join(map(str, searched))}")
    elif space.train.batch_size > images:
        found.append(f"train.batch_size {space.train.batch_size}")
    if space.teachers.recipe.batch_size > images:
        found.append(f"teachers.recipe.batch_size {space.teachers.recipe.batch_size}")
    return [f"warning: {key} is more than the {images:,} training images: every epoch is one step" for key in found]
