"""Checks of the images that a search would read: their kinds, and whether they can be decoded."""

from __future__ import annotations

from collections.abc import Iterator

from ctkd_search import data
from ctkd_search.data.decode import broken_images, listed
from ctkd_search.data.look import Looked, look
from ctkd_search.space.definition import Space
from ctkd_search.space.distributions import Choice, Number
from ctkd_search.space.document import Document

# Seconds for which images are decoded, in all.
LOOKING = 10.0
_NAMED = 20


def look_at_images(space: Space, document: Document) -> Iterator[str]:
    """Decodes the images that a search would decode, for `LOOKING` seconds at most, and yields a line per split.

    Args:
        space: The space.
        document: The file that it was read from, for the line.

    Raises:
        UserError: Some cannot be read, and the space does not skip them.
    """
    found = data.find(space.dataset).files(space.dataset)
    files = [images for images in found if isinstance(images, data.ImageFiles)]
    total = sum(map(len, files))
    looked = [look(images, LOOKING * len(images) / total) for images in files]
    for split in looked:
        if split.broken and not space.dataset.skip_broken:
            document.fault(("dataset", "root"), broken_images(split.broken, split.opened, split.what))
    document.raise_problems()
    for split in looked:
        yield _line(split)


def _line(found: Looked) -> str:
    part = f"{found.opened:,}" + (f" of {found.total:,}" if found.opened < found.total else "")
    if found.broken:
        names = listed([error.path for error in found.broken], _NAMED)
        return f"decoded {part} {found.what}: {len(found.broken):,} cannot be read and are skipped: {names}"
    return f"decoded {part} {found.what}: every one can be read"


def kept_apart(space: Space, counted: tuple[int, int]) -> int:
    """Returns about how many images are kept apart for the test of the final training.

    Args:
        space: The space.
        counted: Numbers of training and of validation images.
    """
    if space.dataset.test is None:
        return 0
    learn, own = data.find(space.dataset).count(space.dataset) or (0, 0)
    return learn - counted[0] - (0 if own else counted[1])


def small_data(space: Space, images: int) -> list[str]:
    """Returns warnings about batches that are larger than the data set, a line each.

    Args:
        space: The space.
        images: Number of training images.
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
