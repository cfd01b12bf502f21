"""Recipes that a space gets when it says nothing of one: three students alone, at three budgets, on photographs.

    python benchmarks/recipes.py IMAGES [--epochs 10 30 60] [--seeds 2] [--seconds 3600]

Validation accuracy at the end, because recipes are chosen by it. Every training that has ended is kept in
`benchmarks/recipes.json`; begun again, the rest is trained. Prints the table of what there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from schedules import at
from trainings import Training, arguments, config, run, table, title

from ctkd_search.recipe import Recipe

FILE = Path(__file__).with_name("recipes.json")
STUDENTS = ("wrn-16-1", "resnet20", "mobilenetv2-0.5")
# Warm-ups are shares of the epochs here.
RECIPES = {
    "milestones from 0.1": Recipe(),
    "cosine from 0.1, Nesterov": Recipe(schedule="cosine", nesterov=True),
    "cosine from 0.2, Nesterov": Recipe(schedule="cosine", nesterov=True, lr=0.2),
    "warm-up, linear from 0.2, Nesterov": Recipe(schedule="linear", lr=0.2, warmup=0.15, nesterov=True),
    "warm-up, cosine from 0.2, Nesterov": Recipe(schedule="cosine", lr=0.2, warmup=0.1, nesterov=True),
}


def trainings(epochs: Sequence[int], seeds: int) -> list[Training]:
    """The trainings, those of one seed after those of another."""
    return [
        Training((student, length, name, seed), config(at(recipe, length), "none", length, seed, student=student))
        for seed in range(seeds)
        for length in epochs
        for student in STUDENTS
        for name, recipe in RECIPES.items()
    ]


def main() -> None:
    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, nargs="+", default=[10, 30, 60])
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    title("recipes of students alone", options)
    run(options, {FILE: trainings(options.epochs, options.seeds)})
    table(FILE, "validation_accuracy", ("student", "epochs", "recipe"))


if __name__ == "__main__":
    main()
