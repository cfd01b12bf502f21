"""Carries out the trainings of all benchmarks of accuracies, in one pool of processes: for a GPU that is borrowed.

    python benchmarks/accuracies.py IMAGES --processes 12 [--only schedules replay] [--seconds 600]

Each keeps its trainings in its own file, and prints its table when it is called itself.
"""

from __future__ import annotations

import recipes
import replay
import schedules
import transformer
from trainings import arguments, run, title

BENCHMARKS = {
    "schedules": (schedules.FILE, lambda: schedules.trainings(("none", "ctkd"), (15, 30), 3)),
    "replay": (replay.FILE, lambda: replay.trainings(30, 5)),
    "transformer": (transformer.FILE, lambda: transformer.trainings(30, 5)),
    "recipes": (recipes.FILE, lambda: recipes.trainings((10, 30, 60), 2)),
}


def main() -> None:
    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS))
    options = parser.parse_args()
    title(", ".join(options.only), options)
    chosen = [BENCHMARKS[name] for name in options.only]
    run(options, {file: trainings() for file, trainings in chosen})


if __name__ == "__main__":
    main()
