"""Rankings of configs with the largest logits of the teachers, beside those with all of them.

    python benchmarks/top_ranking.py IMAGES [--only pairs] [--processes 2] [--teachers DIRECTORY]

For each seed, configs of CTKD are drawn at random. Each is trained with all logits, with the largest ones alone, and
with all logits but another seed of the student, which tells what chance alone does to a ranking. The student is a
resnet8. `photographs` are 4,000 of CIFAR-10's, with a resnet20 as teacher and the 4 largest of 10 logits; `pairs` are
the digits of `benchmarks/top_logits.py` with 200 classes, a wrn-16-1 and the 16 largest. Every training that has ended
is kept in `benchmarks/top_ranking-….json`; begun again, the rest is trained.

Prints the rank correlation of the validation accuracies with those of all logits; and, on the test images, how the
best config by each ranking does: trained as it was, and trained with all logits.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import header
from scipy.stats import spearmanr
from trainings import Training, arguments, config, run, with_interval

from ctkd_search.config import Augment, DatasetConfig, MethodConfig, TrialConfig
from ctkd_search.recipe import Recipe
from ctkd_search.storage import Storage, TopLogits

# Accuracies as shares in [0, 1].
Result = Mapping[str, float]
STUDENT = "resnet8"
ALL, AGAIN = "all logits", "all logits, other seed"


@dataclass(frozen=True)
class Task:
    """A task for the students.

    Attributes:
        teacher: Architecture of both teachers.
        top: Number of logits that are kept.
        epochs: Length of a training.
        dataset: The images; None for the photographs, whose directory is an argument.
        augment: Their augmentation.
    """

    teacher: str
    top: int
    epochs: int
    dataset: DatasetConfig | None
    augment: Augment


TASKS = {
    "photographs": Task("resnet20", 4, 5, None, Augment()),
    "pairs": Task(
        "wrn-16-1",
        16,
        8,
        DatasetConfig("top_logits:digit_pairs", options={"images": 7500}, validation=1 / 3),
        Augment(crop=2, flip=False),
    ),
}


def drawn(seed: int, configs: int) -> list[tuple[MethodConfig, Recipe]]:
    """Methods and recipes at random, in the ranges of the ready spaces."""
    random = np.random.default_rng(seed)

    def log(low: float, high: float) -> float:
        return float(np.exp(random.uniform(np.log(low), np.log(high))))

    found = []
    for _ in range(configs):
        parameters = {
            "step_loss": "kl",
            "temperature": log(1, 20),
            "alpha": log(0.05, 5),
            "beta": log(10, 10000),
            "attention_layers": (1, 2, 3),
            "expert_kd": float(random.uniform(0, 3)),
        }
        found.append((MethodConfig("ctkd", parameters), Recipe(schedule="linear", lr=log(0.03, 0.4), nesterov=True)))
    return found


def trainings(task: Task, configs: int, seeds: int) -> list[Training]:
    """The trainings, those of one seed after those of another."""
    arms: dict[str, tuple[Storage, int]] = {
        ALL: ("float16", 0),
        AGAIN: ("float16", 1),
        f"top {task.top}": (TopLogits(task.top), 0),
    }
    return [
        Training((arm, number, seed), _config(task, method, recipe, storage, seed, 100 * seed + other))
        for seed in range(seeds)
        for arm, (storage, other) in arms.items()
        for number, (method, recipe) in enumerate(drawn(seed, configs))
    ]


def _config(
    task: Task, method: MethodConfig, recipe: Recipe, storage: Storage, seed: int, student_seed: int
) -> TrialConfig:
    made = config(recipe, "ctkd", task.epochs, seed, teacher=task.teacher, student=STUDENT, augment=task.augment)
    return dataclasses.replace(
        made,
        dataset=task.dataset or made.dataset,
        method=method,
        teachers=dataclasses.replace(made.teachers, storage=storage),
        student_seed=student_seed,
    )


def compare(results: Mapping[str, Result]) -> None:
    """Prints the comparison of the rankings, of the seeds all of whose trainings have ended."""
    found: dict[str, dict[int, dict[int, Result]]] = {}
    for key, result in results.items():
        arm, number, seed = json.loads(key)
        found.setdefault(arm, {}).setdefault(seed, {})[number] = result
    most = max(len(rows) for rows in found[ALL].values())
    complete = [seed for seed in found[ALL] if all(len(rows.get(seed, ())) == most for rows in found.values())]
    if not complete:
        print("no seed has all of its trainings yet")
        return
    print("| trained with | rank correlation | same best | best on test images, % | beside | its config with all |")
    print("|---|---|---|---|---|---|")
    for arm, rows in found.items():
        seen = [ranked(found[ALL][seed], rows[seed]) for seed in complete]
        same = sum(each.same for each in seen)
        numbers = ((each.correlation, each.tested, each.beside, each.retrained) for each in seen)
        correlation, *tested = (with_interval(column) for column in zip(*numbers, strict=True))
        print(f"| {arm} | {correlation} | {same} of {len(complete)} | {' | '.join(tested)} |")
    print(
        f"n = {len(complete)} seeds of {most} configs; beside the best config by all logits, in points; 95 % intervals"
    )


@dataclass(frozen=True)
class Ranked:
    """A ranking beside that with all logits.

    Attributes:
        correlation: Of the ranks.
        same: Whether the best config is the same.
        tested: Test accuracy of the best config, in percent.
        beside: That, minus that of the best by all logits.
        retrained: The same difference where the chosen config is trained with all logits.
    """

    correlation: float
    same: bool
    tested: float
    beside: float
    retrained: float


def ranked(whole: Mapping[int, Result], own: Mapping[int, Result]) -> Ranked:
    """Compares the results by config of a ranking with those of all logits."""
    order = sorted(whole)
    judged = [[rows[each]["validation_accuracy"] for each in order] for rows in (whole, own)]
    ranks = spearmanr(*judged)
    best, chosen = (order[accuracies.index(max(accuracies))] for accuracies in judged)
    reference, tested, retrained = (
        100 * result["test_accuracy"] for result in (whole[best], own[chosen], whole[chosen])
    )
    return Ranked(ranks.statistic, best == chosen, tested, tested - reference, retrained - reference)


def main() -> None:
    parser = arguments(__doc__.split("\n")[0])
    parser.set_defaults(per_class=480, test_per_class=200)
    parser.add_argument("--only", choices=sorted(TASKS), help="one of the two tasks")
    parser.add_argument("--configs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    header(f"rankings of {options.configs} configs with the largest logits alone")
    for name in [options.only] if options.only else TASKS:
        task, file = TASKS[name], Path(__file__).with_name(f"top_ranking-{name}.json")
        print(f"\n# {name}: {task.teacher} teaches {STUDENT}, {task.epochs} epochs")
        run(options, {file: trainings(task, options.configs, options.seeds)}, task.dataset)
        compare(json.loads(file.read_text())["results"])


if __name__ == "__main__":
    main()
