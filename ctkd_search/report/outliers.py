"""Values so much worse than the others that these could not be told apart on one axis with them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

# Of fewer rows, the median distance says little about what lies far from the others.
_FEWEST = 5
# Of equal values the median distance is 0: up to this part of the median, and of 1, they are near.
_NEAR = 0.005
# Share of the axis that is too small to tell the values in it apart.
_SMALL_PART = 0.25


def far_below(rows: Sequence[Sequence[float]], sign: float) -> set[int]:
    """Returns the positions of the rows of values that a picture leaves out, so that the others are seen.

    Their means are further on the worse side of the median than ten times the median distance from it, or than ten
    times `_NEAR` where that is more, and with them the others would share a small part of the axis.

    Args:
        rows: Values that belong together, as the seeds of a config.
        sign: 1 if more is better, -1 if less is.
    """
    if len(rows) < _FEWEST:
        return set()
    scores = [sign * statistics.fmean(row) for row in rows]
    median = statistics.median(scores)
    distance = statistics.median(abs(score - median) for score in scores)
    limit = median - 10 * max(distance, _NEAR * max(1.0, abs(median)))
    found = {position for position, score in enumerate(scores) if score < limit}
    others = [row for position, row in enumerate(rows) if position not in found]
    return found if _width(others) < _SMALL_PART * _width(rows) else set()


def _width(rows: Sequence[Sequence[float]]) -> float:
    """Returns the distance between the lowest and the highest value."""
    values = [value for row in rows for value in row]
    return max(values) - min(values)
