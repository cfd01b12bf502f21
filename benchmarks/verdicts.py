"""False and true verdicts of a search that confirms its best configs and its baselines with fresh seeds.

Every search is simulated: each config's accuracies are normal about its mean, the best mean of the searched configs
wins, and it is compared with all others by the intervals that the leaderboard shows. Printed are the share of searches
with any false verdict, where all configs are equal and where one varies two or three times as much, and the share in
which a winner that is two deviations better is told apart from the best baseline, without and with half of the variance
shared by the trainings of a seed. Accuracies are shares of 2,000 images, with a deviation of 1 percentage point.

    python benchmarks/verdicts.py [--searches 2000]

Takes a few minutes on one core.
"""

from __future__ import annotations

import argparse
import math
import platform
import statistics
from collections.abc import Hashable, Sequence

import numpy as np
import scipy

from ctkd_search.analysis.intervals import Family

IMAGES, DEVIATION, MEAN = 2000, 0.01, 0.8
DESIGNS = ((1, 1), (2, 1), (2, 4), (3, 5), (12, 0), (1, 11))
SEEDS = (3, 5, 10)


def verdicts(
    design: tuple[int, int],
    seeds: int,
    random: np.random.Generator,
    *,
    spreads: Sequence[float],
    ahead: float = 0.0,
    shared: float = 0.0,
) -> tuple[bool, bool]:
    """Returns whether a simulated search gives a false verdict, and whether it tells the winner from the best baseline.

    Args:
        design: How many searched configs, and how many baselines.
        seeds: With how many fresh seeds.
        random: Where the accuracies come from.
        spreads: The deviation of each config, in `DEVIATION`.
        ahead: By how many deviations the searched configs are better than the baselines.
        shared: Share of the variance that trainings of one seed have in common.
    """
    searched, baselines = design
    means = [ahead] * searched + [0.0] * baselines
    common = random.standard_normal(seeds) * math.sqrt(shared)
    values: dict[Hashable, dict[int, float]] = {
        thing: dict(
            enumerate(
                np.round((MEAN + DEVIATION * (mean + spread * (own * math.sqrt(1 - shared) + common))) * IMAGES)
                / IMAGES
            )
        )
        for thing, (mean, spread, own) in enumerate(
            zip(means, spreads, random.standard_normal((len(means), seeds)), strict=True)
        )
    }
    reached = [statistics.fmean(own.values()) for own in values.values()]
    winner = max(range(searched), key=reached.__getitem__)
    family, false, told = Family(values, 1 / IMAGES), False, False
    best = max(range(searched, len(means)), key=reached.__getitem__) if baselines else None
    for other in range(len(means)):
        found = None if other == winner else family.difference(winner, other, *design)
        if found is not None and found.excludes(0.0):
            false |= (found.mean > 0) != (means[winner] > means[other]) or means[winner] == means[other]
            told |= other == best and found.mean > 0
    return false, told


def rates(searches: int, design: tuple[int, int], seeds: int, **how: object) -> tuple[float, float]:
    """Returns the shares of searches with a false verdict, and with the winner told from the best baseline."""
    random = np.random.default_rng(0)
    found = [verdicts(design, seeds, random, **how) for _ in range(searches)]  # type: ignore[arg-type]
    return float(np.mean([false for false, _ in found])), float(np.mean([told for _, told in found]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=2000, help="simulated searches for each figure (default 2000)")
    searches = parser.parse_args().searches
    print(
        f"numpy {np.__version__}, scipy {scipy.__version__}, {platform.machine()}; n = {searches} searches a figure, "
    )
    print(f"standard error of a figure at most {50 / math.sqrt(searches):.1f} percentage points\n")
    head = (
        "seeds",
        "searched + baselines",
        "false: equal",
        "one varies 2x",
        "one varies 3x",
        "found: 2 sd",
        "half shared",
    )
    print(("{:>6}" + "{:>22}" + "{:>15}" * 5).format(*head))
    for seeds in SEEDS:
        for design in DESIGNS:
            count = sum(design)
            false = [
                rates(searches, design, seeds, spreads=[wild] + [1.0] * (count - 1))[0] for wild in (1.0, 2.0, 3.0)
            ]
            found = [
                rates(searches, design, seeds, spreads=[1.0] * count, ahead=2.0, shared=shared)[1]
                for shared in (0.0, 0.5)
            ]
            shown = [f"{100 * rate:.1f} %" for rate in false] + [
                f"{100 * rate:.0f} %" if design[1] else "" for rate in found
            ]
            print(("{:>6}" + "{:>22}" + "{:>15}" * 5).format(seeds, f"{design[0]} + {design[1]}", *shown), flush=True)


if __name__ == "__main__":
    main()
