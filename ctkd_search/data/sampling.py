"""Balanced sampling: which images an epoch shows where every class is to be shown equally often."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


class BalancedSampling:
    """The images of each epoch, so that no class has more than one more than another.

    The positions of all epochs, one after another, go around the classes. Each class's images come in rounds: in one
    round each of them once, in random order. So an image is repeated only after all others of its class, within an
    epoch and from epoch to epoch, and as many images are shown as without balancing.

    Every epoch is a function of the seed and its number, because the random numbers of a round can be reached without
    drawing those before it.

    Args:
        labels: Class of each image, int64, shape (images,).
        seed_of: Returns the seed of random numbers for a purpose.
    """

    def __init__(self, labels: np.ndarray, seed_of: Callable[[str], int]) -> None:
        self._count = len(labels)
        present, sizes = np.unique(labels, return_counts=True)
        members = np.split(np.argsort(labels, kind="stable"), np.cumsum(sizes)[:-1])
        turns = _permutations(seed_of("sampling"), len(present), 0, 1)
        # In the order of their turns.
        self._classes = [(seed_of(f"sampling {present[turn]}"), members[turn]) for turn in turns]

    def chosen(self, epoch: int) -> np.ndarray:
        """Returns the indices of an epoch's images, as many as there are images, class by class."""
        ends = [epoch * self._count, (epoch + 1) * self._count]
        return np.concatenate([self._drawn(turn, *ends) for turn in range(len(self._classes))])

    def _drawn(self, turn: int, start: int, stop: int) -> np.ndarray:
        """Returns the images of one class at the positions from `start` to `stop` (exclusive) of all epochs."""
        seed, members = self._classes[turn]
        # Turns of the class before a position.
        first, last = (-((turn - end) // len(self._classes)) for end in (start, stop))
        size = len(members)
        rounds = first // size, -(-last // size)
        drawn = _permutations(seed, size, *rounds)
        return members[drawn[first - rounds[0] * size : last - rounds[0] * size]]


def _permutations(seed: int, size: int, first: int, last: int) -> np.ndarray:
    """Returns the permutations of some numbers from the `first` to the `last` (exclusive), one behind another."""
    # Its raw numbers never change, from one version of NumPy to the next, and each can be reached at once.
    numbers = np.random.PCG64(seed).advance(first * size).random_raw((last - first) * size)
    return np.argsort(numbers.reshape(-1, size), axis=1, kind="stable").ravel()
