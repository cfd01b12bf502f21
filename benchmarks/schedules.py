"""Students alone, and with CTKD, under each schedule, on CIFAR-10 photographs: validation accuracy at the end.

    python benchmarks/schedules.py IMAGES [--epochs 15 30] [--seeds 3] [--methods none ctkd] [--minutes 60]

IMAGES is laid out as IMAGES/train/<class>/* and IMAGES/test/<class>/*. A wrn-40-2 teaches the student, a wrn-16-1,
and the first 1,200 images of each class are used, of which 200 are held out. Every training that has ended is kept in
`benchmarks/schedules.json`; begun again, the rest is trained. Prints the table of what there is.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from cifar_search import link_subset
from common import hardware, header

from ctkd_search.config import Augment, DatasetConfig, MethodConfig, TeachersConfig, TrialConfig
from ctkd_search.data import Splits, load_train
from ctkd_search.distill.build import make_trainer, teacher_runs
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.recording import prepare
from ctkd_search.files import write_text
from ctkd_search.recipe import Recipe
from ctkd_search.versions import versions

FILE = Path(__file__).with_name("schedules.json")
CPU = torch.device("cpu")
PER_CLASS = 1200
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
METHODS = {
    "none": MethodConfig("none", {"label_smoothing": 0.0}),
    "ctkd": MethodConfig(
        "ctkd", {"step_loss": "kl", "temperature": 4.0, "alpha": 1.0, "beta": 1000.0, "attention_layers": (1, 2, 3)}
    ),
}


def config(schedule: str, method: str, epochs: int, seed: int, dataset: DatasetConfig) -> TrialConfig:
    """The config of a training."""
    recipe = SCHEDULES[schedule]
    recipe = dataclasses.replace(recipe, warmup=recipe.warmup * epochs)
    teachers = Recipe(schedule="cosine", nesterov=True)
    return TrialConfig(
        dataset=dataset,
        epochs=epochs,
        teacher="wrn-40-2",
        student="wrn-16-1",
        method=METHODS[method],
        augment=Augment(),
        train=recipe,
        teachers=TeachersConfig(mode="recorded", recipe=teachers),
        seed=seed,
    )


def trained(asked: TrialConfig, splits: Splits, cache: TeacherCache) -> float:
    """The validation accuracy at the end of a training."""
    needs = make_method(asked.method).needs
    for run, wanted in teacher_runs(asked, splits.fingerprint, CPU, needs, len(splits.train)).items():
        for _ in prepare(run, splits, cache, CPU, wanted):
            pass
    trainer = make_trainer(asked, splits, cache, CPU)
    return [trainer.run_epoch()["validation_accuracy"] for _ in range(asked.epochs)][-1]


def table(kept: dict[str, Any]) -> None:
    """Prints mean, standard deviation and number of the trainings of each schedule."""
    found: dict[tuple[str, str, int], list[float]] = {}
    for key, accuracy in kept["accuracies"].items():
        schedule, method, epochs, _ = json.loads(key)
        found.setdefault((schedule, method, epochs), []).append(100 * accuracy)
    print("| schedule | method | epochs | validation accuracy, % | n |")
    print("| --- | --- | --- | --- | --- |")
    for (schedule, method, epochs), values in sorted(found.items(), key=lambda item: item[0][::-1]):
        deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        print(f"| {schedule} | {method} | {epochs} | {statistics.mean(values):.2f}{deviation} | {len(values)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--epochs", type=int, nargs="+", default=[15, 30])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no training after so many minutes")
    parser.add_argument("--teachers", type=Path, help="directory in which teachers are kept from run to run")
    options = parser.parse_args()
    header("schedules on 10,000 CIFAR-10 photographs, 2,000 held out")
    new: dict[str, Any] = {"accuracies": {}, "hardware": hardware(), "versions": versions()}
    kept = json.loads(FILE.read_text()) if FILE.is_file() else new
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        link_subset(options.images, Path(directory), PER_CLASS, 1)
        dataset = DatasetConfig("folder", root=directory, image_size=32, channels=3, validation=1 / 6)
        splits = load_train(dataset)
        print(f"{len(splits.train):,} training images, {len(splits.validation):,} held out", flush=True)
        cache = TeacherCache(options.teachers or Path(directory) / "teachers")
        wanted = [
            (schedule, method, epochs, seed)
            for epochs in options.epochs
            for method in options.methods
            for seed in range(options.seeds)
            for schedule in SCHEDULES
        ]
        for schedule, method, epochs, seed in wanted:
            key = json.dumps([schedule, method, epochs, seed])
            if key in kept["accuracies"] or time.monotonic() - started > 60 * options.minutes:
                continue
            begun = time.monotonic()
            accuracy = trained(config(schedule, method, epochs, seed, dataset), splits, cache)
            kept["accuracies"][key] = accuracy
            write_text(FILE, json.dumps(kept, indent=1) + "\n")
            print(f"{key}: {100 * accuracy:.2f} %, {time.monotonic() - begun:.0f} s", flush=True)
    print(f"# measured on {kept['hardware']}")
    table(kept)


if __name__ == "__main__":
    main()
