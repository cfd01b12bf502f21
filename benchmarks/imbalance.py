"""A student alone on imbalanced classes: with class weights, with balanced sampling, and without either.

    python benchmarks/imbalance.py [--common 100] [--rare 5] [--epochs 30] [--seeds 5] [--threads 1]
    python benchmarks/imbalance.py --images IMAGES --student wrn-16-1 --common 400 --rare 40 [--device cuda]

Every second class keeps `common` of its training images, the others `rare` ones. The images are scikit-learn's digits
and their test images, or those of IMAGES/train/<class>/* and 200 of each class of IMAGES/test/<class>/*. Prints the
mean over the seeds of what is measured after the last epoch, with the standard deviation, and the difference to the
same seeds without either, as an interval of 95 %.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import header

from ctkd_search.analysis.intervals import estimate
from ctkd_search.config import Augment, DatasetConfig, MethodConfig, TrialConfig
from ctkd_search.data import Splits, load_test, load_train
from ctkd_search.distill.build import make_trainer
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.metrics import BALANCED
from ctkd_search.recipe import Recipe

TESTED = 200
RECIPE = Recipe(batch_size=64, schedule="cosine", nesterov=True, warmup=1.0, precision="float32")
PLAIN = "neither"
TREATMENTS = {
    PLAIN: (RECIPE, Augment()),
    "class_weights: effective, effective_beta: 0.99": (
        dataclasses.replace(RECIPE, class_weights="effective", effective_beta=0.99),
        Augment(),
    ),
    "class_weights: balanced": (dataclasses.replace(RECIPE, class_weights="balanced"), Augment()),
    "sampling: balanced": (RECIPE, Augment(sampling="balanced")),
}


def imbalanced_digits(common: int, rare: int) -> Splits:
    """The digits, those of the test in place of the validation."""
    dataset = DatasetConfig("digits")
    splits = load_train(dataset).with_validation()
    labels = splits.train.labels
    counts = [(common, rare)[number % 2] for number in range(len(splits.classes))]
    kept = [np.flatnonzero(labels == number)[:count] for number, count in enumerate(counts)]
    return dataclasses.replace(splits, train=splits.train[np.concatenate(kept)], validation=load_test(dataset))


def imbalanced(images: Path, common: int, rare: int, directory: Path) -> Splits:
    """The images, those of the test in place of the validation."""
    for split, counts in (("train", (common, rare)), ("test", (TESTED, TESTED))):
        for number, own in enumerate(sorted((images / split).iterdir())):
            into = directory / split / own.name
            into.mkdir(parents=True)
            for path in sorted(own.iterdir())[: counts[number % 2]]:
                os.symlink(path.resolve(), into / path.name)
    dataset = DatasetConfig("folder", root=str(directory), image_size=32, channels=3, loading="resident")
    splits = load_train(dataset).with_validation()
    return dataclasses.replace(splits, validation=load_test(dataset))


def trained(
    treatment: tuple[Recipe, Augment], seed: int, splits: Splits, options: argparse.Namespace
) -> tuple[float, float]:
    """Balanced accuracy and seconds of a student."""
    config = TrialConfig(
        dataset=DatasetConfig("folder"),
        epochs=options.epochs,
        teacher=options.student,
        student=options.student,
        method=MethodConfig("none"),
        augment=treatment[1] if options.images else dataclasses.replace(treatment[1], crop=1, flip=False),
        train=treatment[0],
        seed=seed,
        metrics=(BALANCED.name,),
    )
    with tempfile.TemporaryDirectory() as directory:
        trainer = make_trainer(config, splits, TeacherCache(Path(directory)), torch.device(options.device))
        started = time.perf_counter()
        told = [trainer.run_epoch() for _ in range(options.epochs)]
    return told[-1][BALANCED.key], time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=Path, help="images as IMAGES/train/<class>/* and IMAGES/test/<class>/*")
    parser.add_argument("--student", default="resnet8")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--common", type=int, default=100, help="training images of every second class")
    parser.add_argument("--rare", type=int, default=5, help="training images of the others")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    header(
        f"{options.student} alone, {options.common} images of every second class and {options.rare} of the others, "
        f"{options.epochs} epochs, n = {options.seeds} seeds"
    )
    with tempfile.TemporaryDirectory() as directory:
        if options.images:
            splits = imbalanced(options.images, options.common, options.rare, Path(directory))
        else:
            splits = imbalanced_digits(options.common, options.rare)
    print(f"| | balanced accuracy of {len(splits.validation):,} images, % | points over {PLAIN} | s |")
    print("| --- | --- | --- | --- |")
    without: list[float] = []
    for name, treatment in TREATMENTS.items():
        told = [trained(treatment, seed, splits, options) for seed in range(options.seeds)]
        reached = [100 * accuracy for accuracy, _ in told]
        without = without or reached
        gained = estimate([own - other for own, other in zip(reached, without, strict=True)])
        over = "" if name == PLAIN else f"{gained.mean:+.2f} ± {gained.half_width:.2f}"
        mean, deviation = statistics.mean(reached), statistics.stdev(reached) if len(reached) > 1 else float("nan")
        seconds = statistics.median(seconds for _, seconds in told)
        shown = f"`{name}`" if name != PLAIN else name
        print(f"| {shown} | {mean:.2f} ± {deviation:.2f} | {over} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
