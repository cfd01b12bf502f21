"""Students alone, and with CTKD, under each schedule, on CIFAR-10 photographs: accuracies at the end.

    python benchmarks/schedules.py IMAGES [--epochs 15 30] [--seeds 3] [--methods none ctkd] [--seconds 3600]

A wrn-40-2 teaches the student, a wrn-16-1, and the first 1,200 images of each class are used, of which 200 are held
out. Every training that has ended is kept in `benchmarks/schedules.json`; begun again, the rest is trained. Prints the
tables of what there is, and by how much CTKD is ahead.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from trainings import METHODS, Training, arguments, by_key, config, run, table, title, with_interval

from ctkd_search.recipe import Recipe

FILE = Path(__file__).with_name("schedules.json")
# The warm-up is a share of the epochs here.
WARM_UP = 0.15
SCHEDULES = {
    "milestones from 0.1": Recipe(),
    "cosine from 0.1, Nesterov": Recipe(schedule="cosine", nesterov=True),
    "warm-up, linear from 0.2, Nesterov": Recipe(schedule="linear", lr=0.2, warmup=WARM_UP, nesterov=True),
    "warm-up, constant 0.1, cooldown 0.4, Nesterov": Recipe(
        schedule="constant", cooldown=0.4, warmup=WARM_UP, nesterov=True
    ),
    "milestones from 0.1, averaged": Recipe(average=1.0),
}


def at(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe whose warm-up is a share of so many epochs."""
    return dataclasses.replace(recipe, warmup=recipe.warmup * epochs)


def trainings(methods: Sequence[str], epochs: Sequence[int], seeds: int) -> list[Training]:
    """The trainings, those of one seed after those of another."""
    return [
        Training((name, method, length, seed), config(at(recipe, length), method, length, seed))
        for seed in range(seeds)
        for length in epochs
        for method in methods
        for name, recipe in SCHEDULES.items()
    ]


def main() -> None:
    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, nargs="+", default=[15, 30])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["none", "ctkd"])
    options = parser.parse_args()
    title("schedules", options)
    run(options, {FILE: trainings(options.methods, options.epochs, options.seeds)})
    for metric in ("validation_accuracy", "test_accuracy"):
        table(FILE, metric, ("schedule", "method", "epochs"))
    found = by_key(json.loads(FILE.read_text()), "test_accuracy")
    print("CTKD minus the student alone, of the same seeds, on the test photographs:")
    for (name, method, length), taught in found.items():
        alone = found.get((name, "none", length), {})
        differences = [accuracy - alone[seed] for seed, accuracy in taught.items() if seed in alone]
        if method == "ctkd" and differences:
            print(f"{name}, {length} epochs: {with_interval(differences)} points")


if __name__ == "__main__":
    main()
