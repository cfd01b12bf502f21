"""Shares of the images that are held out, and their faults for classes of a certain size."""

from __future__ import annotations

from collections.abc import Iterator

from ctkd_search.config import DatasetConfig

DEFAULT_VALIDATION = 0.1


def held_out(share: float, images: int) -> int:
    """Return how many of a class's images a share is: at least one."""
    return max(round(share * images), 1)


def share_faults(config: DatasetConfig, smallest: int, largest: int, own_validation: bool) -> Iterator[tuple[str, str]]:
    """Yield the faults of the shares, as pairs of the key and a message.

    Args:
        config: The data set.
        smallest: Images of the smallest class, held-out ones included.
        largest: Images of the largest one.
        own_validation: Whether the data set has its own validation split.
    """
    given = {"test": config.test, "validation": None if own_validation else config.validation}
    for key, share in given.items():
        if share is not None and share * largest < 0.5:
            images = _of(smallest, largest)
            yield key, f"must be at least one image of a class, but {share:g} of {images} is {share * largest:.2g}"
    test = held_out(config.test, smallest) if config.test is not None else 0
    validation = 0 if own_validation else held_out(config.validation or DEFAULT_VALIDATION, smallest)
    if config.test is None and config.validation is None:
        return  # the default share is reduced to the images there are
    if smallest - test - validation < 1:
        key = "test" if config.validation is None else "validation"
        parts = [
            f"{count:,} for {what} ({share:g})"
            for what, share, count in (
                ("the test", config.test, test),
                ("validation", config.validation or DEFAULT_VALIDATION, validation),
            )
            if count
        ]
        yield (
            key,
            f"must leave at least one image of each class for training, but of {_smallest(smallest, largest)} "
            f"{' and '.join(parts)} are taken",
        )


def _of(smallest: int, largest: int) -> str:
    return f"{largest:,}" if smallest == largest else f"{largest:,}, the largest class,"


def _smallest(smallest: int, largest: int) -> str:
    return f"the {smallest:,} images of {'each' if smallest == largest else 'the smallest class'}"
