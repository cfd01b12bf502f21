"""Gains of students of the digits from their teachers, and the number of seeds that it takes to see them.

Each student is trained alone, by KD, and by CTKD with the expert's predictions, with several seeds that each have
their own stream and teachers, as a confirmation has. Printed are validation accuracies, the difference to the student
alone, its deviation from seed to seed, and with how many seeds a search would tell the two apart in four of five cases.

    python benchmarks/small_students.py [--seeds 8] [--only NUMBER ...]
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from common import header
from scipy.stats import nct

from ctkd_search.analysis.intervals import critical, estimate
from ctkd_search.config import Augment, DatasetConfig, MethodConfig, TeachersConfig, TrialConfig
from ctkd_search.data import Splits, load_train
from ctkd_search.distill.build import make_trainer, teacher_runs
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.recording import prepare
from ctkd_search.recipe import Recipe

CPU = torch.device("cpu")
ALONE = "alone"
METHODS = {
    ALONE: MethodConfig("none"),
    "KD": MethodConfig("kd", {"temperature": 4.0, "weight": 0.9}),
    "CTKD with the expert's predictions": MethodConfig(
        "ctkd",
        {
            "step_loss": "kl",
            "temperature": 4.0,
            "alpha": 1.0,
            "beta": 5.0,
            "attention_layers": (1, 2, 3),
            "expert_kd": 3.0,
        },
    ),
}
# A search compares its best two configs with three baselines.
PICKED, OTHERS, POWER = 2, 3, 0.8


@dataclass(frozen=True)
class Setting:
    """A student, its images and its budget."""

    student: str
    validation: float
    crop: int
    epochs: int
    batch_size: int
    lr: float


SETTINGS = (
    Setting("resnet8", 0.15, 1, 12, 64, 0.2),
    Setting("resnet8x0.1875", 0.3, 1, 30, 64, 0.1),
    Setting("resnet8x0.1875", 0.4, 1, 30, 32, 0.05),
    Setting("resnet8x0.25", 0.3, 2, 30, 64, 0.2),
    Setting("resnet8x0.25", 0.3, 2, 60, 64, 0.1),
)


def config(setting: Setting, method: MethodConfig, seed: int) -> TrialConfig:
    """A training on the digits."""
    recipe = Recipe(batch_size=setting.batch_size, lr=setting.lr, precision="float32")
    return TrialConfig(
        dataset=DatasetConfig("digits", validation=setting.validation),
        epochs=setting.epochs,
        teacher="wrn-16-1",
        student=setting.student,
        method=method,
        augment=Augment(crop=setting.crop, flip=False),
        train=recipe,
        teachers=TeachersConfig(mode="recorded", recipe=Recipe(batch_size=64, lr=0.05, precision="float32")),
        seed=seed,
    )


def trained(own: TrialConfig, splits: Splits, cache: TeacherCache) -> tuple[float, float | None, float]:
    """Accuracies of a student and of its expert in percent, and the seconds that the student took."""
    needs = make_method(own.method).needs
    expert = None
    for run, wanted in teacher_runs(own, splits.fingerprint, CPU, needs, len(splits.train)).items():
        for event in prepare(run, splits, cache, CPU, wanted):
            if event.accuracy is not None:
                expert = 100 * event.accuracy
    started = time.perf_counter()
    trainer = make_trainer(own, splits, cache, CPU)
    for _ in range(own.epochs):
        metrics = trainer.run_epoch()
    return 100 * metrics["validation_accuracy"], expert, time.perf_counter() - started


def needed(gaps: list[float]) -> str:
    """The seeds with which a gap of this size and spread is told apart with a probability of `POWER`."""
    size = statistics.fmean(gaps) / statistics.stdev(gaps)
    for seeds in range(3, 100):
        freedom = 2 * (seeds - 1)
        if nct.sf(critical(PICKED, OTHERS, freedom), freedom, size * math.sqrt(seeds)) >= POWER:
            return str(seeds)
    return "more than 99"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--only", type=int, nargs="+", help="settings by their numbers, from 1")
    options = parser.parse_args()
    torch.set_num_threads(1)
    header(
        f"students of the digits, {options.seeds} seeds with a stream and teachers of their own, wrn-16-1 as teacher"
    )
    print("| setting | method | accuracy | minus alone | deviation | seeds to tell it | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for number, setting in enumerate(SETTINGS, 1):
        if options.only and number not in options.only:
            continue
        splits = load_train(DatasetConfig("digits", validation=setting.validation))
        found: dict[str, list[tuple[float, float | None, float]]] = {name: [] for name in METHODS}
        with tempfile.TemporaryDirectory() as directory:
            cache = TeacherCache(Path(directory))
            for seed in range(options.seeds):
                for name, method in METHODS.items():
                    found[name].append(trained(config(setting, method, seed), splits, cache))
        experts = [expert for rows in found.values() for _, expert, _ in rows if expert is not None]
        shape = f"{setting.student}, {len(splits.train)} images, crop {setting.crop}, {setting.epochs} epochs"
        recipe = f"batches of {setting.batch_size}, rate {setting.lr}"
        print(f"| {number}: {shape}, {recipe} | expert | {statistics.fmean(experts):.2f} ||||")
        alone = [accuracy for accuracy, _, _ in found[ALONE]]
        for name, rows in found.items():
            mean = estimate([accuracy for accuracy, _, _ in rows])
            row = f"| | {name} | {mean.mean:.2f} ± {mean.half_width:.2f} "
            gaps = [accuracy - base for (accuracy, _, _), base in zip(rows, alone, strict=True)]
            if name != ALONE:
                gap = estimate(gaps)
                row += f"| {gap.mean:+.2f} ± {gap.half_width:.2f} | {gap.deviation:.2f} | {needed(gaps)} "
            else:
                row += "| | | "
            print(f"{row}| {statistics.median(seconds for _, _, seconds in rows):.1f} |", flush=True)


if __name__ == "__main__":
    main()
