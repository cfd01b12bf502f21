"""Every two things of a final training beside each other: the config and each baseline, all pairs of them.

    python benchmarks/final_pairs.py DIRECTORY/trials/cifar10-unlike/final-1

`train` compares the config with each baseline. Baselines are compared with each other here, with intervals that hold
together for all pairs, so that a pair may be chosen for what it shows.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Hashable, Mapping
from pathlib import Path

from common import header

from ctkd_search.analysis.intervals import Estimate, Family, estimate
from ctkd_search.api.final import FinalTraining


def measured(final: FinalTraining) -> dict[Hashable, dict[int, float]]:
    """The test accuracies in points, by what was trained and the seed of its student."""
    found: dict[Hashable, dict[int, float]] = {}
    for row in final.students.itertuples():
        found.setdefault(str(row.trained), {})[int(row.seed)] = 100 * row.test_accuracy
    return found


def pairs(values: Mapping[Hashable, Mapping[int, float]]) -> dict[tuple[Hashable, Hashable], Estimate]:
    """The difference of every two things, the better one first, with intervals that hold together."""
    family = Family(values)
    means = {name: estimate(list(each.values())).mean for name, each in values.items()}
    ordered = sorted(values, key=lambda name: -means[name])
    found = {}
    for one, other in itertools.combinations(ordered, 2):
        difference = family.difference(one, other, len(values), 0)
        if difference is not None:
            found[one, other] = difference
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    final = FinalTraining(parser.parse_args().directory)
    header(f"all pairs of {final.name}")
    values = measured(final)
    for name, each in values.items():
        print(f"{name!s:24}" + "".join(f"{each[seed]:8.2f}" for seed in sorted(each)))
    for (one, other), difference in pairs(values).items():
        print(f"{one!s:>24} - {other!s:24}{difference.mean:+7.2f} ± {difference.half_width:.2f}")


if __name__ == "__main__":
    main()
