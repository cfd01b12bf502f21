"""Students taught by one expert and by the mean of several, on CIFAR-10 photographs: accuracies, and seconds.

    python benchmarks/ensembles.py IMAGES [--members 5] [--epochs 15] [--seeds 5] [--teachers DIRECTORY]

A resnet20 teaches a resnet8; the first 1,200 images of each class are used, of which 200 are held out. The students of
all seeds have the same teachers and see the same views. Every training that has ended is kept in
`benchmarks/ensembles.json`; begun again, the rest is trained. Prints the accuracies of experts and students on the test
photographs, the differences by seed, and the medians of the students' seconds and of their ratios by seed.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from cifar_search import link_subset
from common import spread
from trainings import Training, arguments, by_key, config, run, table, title, with_interval

from ctkd_search.config import ExpertConfig, TrialConfig
from ctkd_search.data import load_test, load_train
from ctkd_search.data.stream import Normalise
from ctkd_search.distill.build import load_expert
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.evaluation import evaluate
from ctkd_search.distill.expert import Ensemble
from ctkd_search.recipe import Recipe

FILE = Path(__file__).with_name("ensembles.json")
TEACHER, STUDENT = "resnet20", "resnet8"
RECIPE = Recipe(schedule="linear", lr=0.2, warmup=2.0, nesterov=True)
TAUGHT = ("kd", "ctkd")


def trainings(members: int, epochs: int, seeds: int) -> list[Training]:
    """The trainings, those of one seed after those of another; of the student alone with no expert."""
    experts = {1: ExpertConfig(), members: ExpertConfig(ensemble=members)}
    asked: list[tuple[str, int]] = [("none", 0), *((method, count) for method in TAUGHT for count in experts)]
    return [
        Training(
            (method, count, seed),
            _config(method, epochs, experts.get(count), seed),
        )
        for seed in range(seeds)
        for method, count in asked
    ]


def _config(method: str, epochs: int, expert: ExpertConfig | None, seed: int) -> TrialConfig:
    made = config(RECIPE, method, epochs, 0, teacher=TEACHER, student=STUDENT, expert=expert)
    return dataclasses.replace(made, student_seed=seed)


def print_experts(images: Path, per_class: int, tested: int, teachers: str, made: Sequence[Training]) -> None:
    """Prints the accuracies of the experts on the test photographs."""
    with tempfile.TemporaryDirectory() as directory:
        link_subset(images, Path(directory), per_class, tested)
        for each in {each.key[1]: each for each in made if each.key[1]}.values():
            dataset = dataclasses.replace(each.config.dataset, root=directory)
            splits, test = load_train(dataset), load_test(dataset)
            expert = load_expert(each.config, splits, TeacherCache(Path(teachers)), torch.device("cpu"))
            networks = {"expert": expert.classifier() if isinstance(expert, Ensemble) else expert.network}
            if isinstance(expert, Ensemble):
                networks |= {f"member {number}": one.network for number, one in enumerate(expert.members, start=1)}
            normalise = Normalise(splits.mean, splits.std)
            for name, network in networks.items():
                found = evaluate(network, test, normalise, torch.device("cpu"))
                print(f"{name} of {each.key[1]}: {100 * found['accuracy']:.2f} % of the test photographs")


def main() -> None:
    parser = arguments(__doc__.split("\n")[0])
    parser.add_argument("--members", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    title(f"one expert and {options.members}", options)
    made = trainings(options.members, options.epochs, options.seeds)
    run(options, {FILE: made})
    table(FILE, "test_accuracy", ("method", "experts"))
    kept = json.loads(FILE.read_text())
    found = by_key(kept, "test_accuracy")
    for method in TAUGHT:
        several, one = (found.get((method, count), {}) for count in (options.members, 1))
        differences = [accuracy - one[seed] for seed, accuracy in several.items() if seed in one]
        if differences:
            print(
                f"{method}, {options.members} experts minus one, of the same seeds: {with_interval(differences)} points"
            )
    taken = by_key(kept, "seconds")
    for key, seconds in taken.items():
        print(f"seconds of {key}: median {statistics.median(seconds.values()) / 100:.1f}")
    for method in TAUGHT:
        several, one = (taken.get((method, count), {}) for count in (options.members, 1))
        # The first student of either also records what its experts compute.
        ratios = [seconds / one[seed] for seed, seconds in several.items() if seed and seed in one]
        if ratios:
            print(f"{method}, seconds with {options.members} experts over those with one, by seed: {spread(ratios)}")
    if options.teachers:
        print_experts(options.images, options.per_class, options.test_per_class, options.teachers, made)


if __name__ == "__main__":
    main()
