"""Means with their 95 % intervals, and differences of several things whose intervals hold together.

Intervals are about other training seeds on the same images. Other held-out images would add an uncertainty that no
number of seeds shows.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

_LEVEL = 0.95
# The steps of the two numerical integrals of `critical`: quantiles then agree with published ones to four digits.
_INNER, _OUTER, _BISECTIONS = 96, 64, 60
# Beyond so many standard deviations there is nothing to integrate.
_TAIL = 8.5
# Rounding error of sums of a few floats.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Estimate:
    """A mean, and how well it is known.

    Attributes:
        mean: Mean of the values.
        deviation: Standard deviation of the values, with n - 1; NaN for one value.
        n: Number of values.
        half_width: Half of the 95 % interval of the mean; infinite for one value.
    """

    mean: float
    deviation: float
    n: int
    half_width: float

    def excludes(self, value: float) -> bool:
        """Returns whether the interval leaves a value out."""
        return abs(self.mean - value) > self.half_width + _ROUNDING


def estimate(values: Sequence[float], resolution: float = 0.0, picked_from: int = 1) -> Estimate:
    """Returns the mean of some independent values, with its 95 % interval by Student's t with n - 1 degrees of freedom.

    Args:
        values: The values, one at least.
        resolution: Unit of which the values are multiples; a smaller deviation is replaced by it.
        picked_from: Number of means of which this one was picked as the best, for which the interval is widened.
    """
    mean, n = statistics.fmean(values), len(values)
    if n < 2:
        return Estimate(mean, math.nan, n, math.inf)
    deviation = statistics.stdev(values)
    # Half of the variance of a difference, which has two such values.
    used = max(deviation, resolution / math.sqrt(2))
    return Estimate(mean, deviation, n, _quantile_of_best(picked_from, n - 1) * used / math.sqrt(n))


@functools.cache
def _quantile_of_best(count: int, df: int) -> float:
    """Returns the two-sided bound that the largest of `count` independent t is within with probability 95 %."""
    from scipy.special import stdtr, stdtrit

    if count == 1:
        return float(stdtrit(df, (1 + _LEVEL) / 2))
    low, high = 0.0, float(stdtrit(df, 1 - (1 - _LEVEL) / 2 / count))
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        inside = stdtr(df, middle) ** count - stdtr(df, -middle) ** count
        low, high = (middle, high) if inside < _LEVEL else (low, middle)
    return high


@functools.cache
def critical(picked: int, others: int, df: int) -> float:
    """Returns how many standard errors all differences to the best of some things stay within, if all are equal.

    With no others it is the quantile of Tukey's studentised range over sqrt(2), for the best of a family was picked for
    being so; with one picked it is Dunnett's two-sided quantile, for a comparison with what was fixed beforehand.

    Args:
        picked: Number of things of which the best was picked, itself included.
        others: Number of further things that it is compared with.
        df: Degrees of freedom of the standard error.

    Returns:
        The quantile c with P(max |difference| <= c · standard error) = 95 %, for independent normal means.
    """
    import numpy as np
    from scipy.special import gammaincinv, ndtr, stdtrit

    if picked + others == 2:
        return float(stdtrit(df, (1 + _LEVEL) / 2))
    at, inner = np.polynomial.legendre.leggauss(_INNER)
    at = _TAIL * at
    inner = _TAIL * inner * np.exp(-at * at / 2) / math.sqrt(2 * math.pi)
    shares, outer = np.polynomial.legendre.leggauss(_OUTER)
    # The standard error over its true value, at quantiles of its distribution.
    errors = np.sqrt(2 * gammaincinv(df / 2, (shares + 1) / 2) / df)

    def inside(bound: float) -> float:
        reach = (bound * math.sqrt(2) * errors)[:, None]
        below = ndtr(at) - ndtr(at - reach)
        around = ndtr(at + reach) - ndtr(at - reach)
        return float((picked * below ** (picked - 1) * around**others * inner).sum(axis=1) @ outer / 2)

    low, high = 0.5, 1.0
    while inside(high) < _LEVEL:
        low, high = high, 2 * high
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if inside(middle) < _LEVEL else (low, middle)
    return high


@dataclass(frozen=True)
class Family:
    """Things that were trained with the same seeds, and are compared with each other.

    The interval of a difference is the wider one of two. One goes by the deviation that all of them have in common,
    seeds being blocks, and is narrow where there are many things. The other goes by the deviation of this difference
    alone, so that a thing that varies more from seed to seed than the rest does not seem to differ because they vary
    little. Both are as wide as is needed for all differences to hold together.

    Attributes:
        values: Values of each thing by seed, finite numbers.
        resolution: Unit of which the values are multiples, as 1 / N for shares of N images; 0 for real numbers. A
            smaller deviation of a difference is replaced by it.
    """

    values: Mapping[Hashable, Mapping[int, float]]
    resolution: float = 0.0

    def difference(self, one: Hashable, two: Hashable, picked: int, others: int) -> Estimate | None:
        """Returns by how much the first exceeds the second, from the seeds that both have; None if there are none.

        Args:
            one: The first.
            two: The second.
            picked: Number of things of which the one that all are compared with was picked.
            others: Number of further things that it is compared with.
        """
        ours, theirs = self.values[one], self.values[two]
        gaps = [ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())]
        if not gaps:
            return None
        mean, n = statistics.fmean(gaps), len(gaps)
        if n < 2:
            return Estimate(mean, math.nan, n, math.inf)
        deviation = statistics.stdev(gaps)
        variance, df = self._common
        # Degrees of freedom as of two independent things: with the n - 1 of one difference, real ones would be missed.
        own = critical(picked, others, 2 * (n - 1)) * max(deviation, self.resolution)
        common = critical(picked, others, df) * max(math.sqrt(2 * variance), self.resolution) if df else 0.0
        half_width = max(own, common) / math.sqrt(n)
        # Values that do not vary at all are too few to estimate how far they vary.
        return Estimate(mean, deviation, n, half_width if half_width > _ROUNDING else math.inf)

    @functools.cached_property
    def _common(self) -> tuple[float, int]:
        """Variance of a value about the sum of its thing's mean and its seed's effect, and its degrees of freedom."""
        import numpy as np

        # A thing with one seed contains no information on the spread, nor does a seed of only one thing.
        kept = {name: own for name, own in self.values.items() if len(own) > 1}
        names, seeds = list(kept), sorted({seed for own in kept.values() for seed in own})
        cells = [
            (names.index(name), seeds.index(seed), value) for name, own in kept.items() for seed, value in own.items()
        ]
        if not cells:
            return 0.0, 0
        if len(cells) == len(names) * len(seeds):
            table = np.array([value for _, _, value in sorted(cells)]).reshape(len(names), len(seeds))
            rest = table - table.mean(axis=0) - table.mean(axis=1)[:, None] + table.mean()
            df = (len(names) - 1) * (len(seeds) - 1)
            return (float((rest**2).sum()) / df, df) if df else (0.0, 0)
        design = np.zeros((len(cells), len(names) + len(seeds)))
        for row, (thing, seed, _) in enumerate(cells):
            design[row, [thing, len(names) + seed]] = 1.0
        found = np.array([value for _, _, value in cells])
        effects, _, rank, _ = np.linalg.lstsq(design, found, rcond=None)
        df = len(cells) - int(rank)
        return (float(((found - design @ effects) ** 2).sum()) / df, df) if df else (0.0, 0)
