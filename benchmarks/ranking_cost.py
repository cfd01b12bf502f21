"""Cost of the average of weights by which trials are compared: epochs with it beside the same epochs without.

    python benchmarks/ranking_cost.py [--images 2000] [--epochs 7] [--threads 2] [--students resnet8 wrn-16-1]

A tenth of the images is held out, and evaluated after each epoch. Random images of CIFAR's size; the student alone, in
the precision that is the default here. The two trainings take turns, an epoch each. Prints medians in seconds and their
ratio.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
from pathlib import Path

import torch
from common import header, spread
from step_cost import ALONE, config, images

from ctkd_search.data import Splits
from ctkd_search.distill.build import make_trainer
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.trainer import Trainer


def trainer(student: str, horizon: float, splits: Splits, epochs: int, device: torch.device, cache: Path) -> Trainer:
    """A training of a student alone."""
    alone = dataclasses.replace(
        config(f"wrn-40-1/{student}", "live", "auto", ALONE), epochs=epochs, ranking_horizon=horizon
    )
    return make_trainer(alone, splits, TeacherCache(cache), device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=7, help="epochs of each; the first one is not counted")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--students", nargs="+", default=["resnet8", "wrn-16-1"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    header(f"epochs with and without averaged weights, {options.images} images, {options.threads} threads")
    held = options.images // 10
    shown, kept = images(options.images - held, 0), images(held, 1)
    splits = Splits(shown, kept, tuple("0123456789"), (127.0,) * 3, (64.0,) * 3, "random")
    for student in options.students:
        with tempfile.TemporaryDirectory() as directory:
            made = {
                horizon: trainer(student, horizon, splits, options.epochs, device, Path(directory))
                for horizon in (0.0, 1.0)
            }
            seconds: dict[float, list[float]] = {horizon: [] for horizon in made}
            for _ in range(options.epochs):
                for horizon, each in made.items():
                    seconds[horizon].append(each.run_epoch()["seconds"])
        without, beside = (found[1:] for found in seconds.values())
        ratio = statistics.median(one / other for one, other in zip(beside, without, strict=True))
        print(f"{student:12} without {spread(without)} s, with {spread(beside)} s, ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
