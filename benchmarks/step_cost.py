"""What a step costs: the student alone, under recorded teachers, and under live ones.

    python benchmarks/step_cost.py [--steps 12] [--threads 2] [--pairs wrn-40-2/wrn-16-1 ...]

All variants take turns, a step each, on the same random images of CIFAR's size, so that a noisy machine is as noisy for
one as for the other. A recorded step includes reading its lesson; a live one includes the teacher's step and the
expert's maps. Prints medians in milliseconds and their ratios.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from common import header, spread

from ctkd_search.config import Augment, DatasetConfig, MethodConfig, TeachersConfig, TrialConfig
from ctkd_search.data import Images, Splits
from ctkd_search.distill.build import make_trainer, teacher_runs
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.recording import prepare
from ctkd_search.distill.trainer import Trainer
from ctkd_search.pairs import split_pair
from ctkd_search.recipe import Recipe

BATCH = 128
PAIRS = ("wrn-40-1/wrn-16-1", "wrn-40-2/wrn-16-1", "wrn-40-2/wrn-16-2")
FULL = MethodConfig(
    "ctkd", {"step_loss": "kl", "temperature": 4.0, "alpha": 1.0, "beta": 1000.0, "attention_layers": (1, 2, 3)}
)
ALONE = MethodConfig("ctkd", {**FULL.values, "alpha": 0.0, "beta": 0.0, "attention_layers": ()})


def images(count: int, seed: int) -> Images:
    """Random images of CIFAR's size."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return Images(pixels, generator.integers(0, 10, count))


def config(pair: str, mode: str, precision: str, method: MethodConfig) -> TrialConfig:
    """The config of one variant."""
    teacher, student = split_pair(pair)
    recipe = Recipe(batch_size=BATCH, lr=0.01, precision=precision)  # type: ignore[arg-type]
    return TrialConfig(
        dataset=DatasetConfig("cifar10"),
        epochs=1,
        teacher=teacher,
        student=student,
        method=method,
        augment=Augment(crop=4, flip=True),
        train=recipe,
        teachers=TeachersConfig(mode=mode, recipe=recipe),  # type: ignore[arg-type]
    )


def steps(trainer: Trainer, device: torch.device) -> Iterator[float]:
    """Does one step each time it is asked for more, and says how many seconds it took."""
    while True:
        lessons = trainer.teachers.lessons(0)
        while True:
            started = time.perf_counter()
            lesson = next(lessons, None)
            if lesson is None:
                break
            trainer.step(lesson)
            if device.type == "cuda":
                torch.cuda.synchronize()
            yield time.perf_counter() - started


def prepared(made: TrialConfig, splits: Splits, cache: TeacherCache, device: torch.device) -> Iterator[float]:
    """The seconds of each step of a trial, its teachers and all that they say recorded before."""
    for run, wanted in teacher_runs(
        made, splits.fingerprint, device, make_method(made.method).needs, len(splits.train)
    ).items():
        for _ in prepare(run, splits, cache, device, wanted):
            pass
    trainer = make_trainer(made, splits, cache, device)
    for _ in trainer.teachers.lessons(0):
        pass  # attention maps are recorded by whoever needs them first
    return steps(trainer, device)


def measure(pair: str, precision: str, count: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each step of each variant."""
    splits = Splits(images(4 * BATCH, 0), images(0, 1), tuple("0123456789"), (127.0,) * 3, (64.0,) * 3, "random")
    variants = {"alone": ("recorded", ALONE), "recorded": ("recorded", FULL), "live": ("live", FULL)}
    with tempfile.TemporaryDirectory() as directory:
        cache = TeacherCache(Path(directory))
        going = {}
        for name, (mode, method) in variants.items():
            going[name] = prepared(config(pair, mode, precision, method), splits, cache, device)
        seconds: dict[str, list[float]] = {name: [] for name in variants}
        for number in range(count + 2):
            for name, source in going.items():
                taken = next(source)
                if number >= 2:  # the first two warm up
                    seconds[name].append(taken)
    return seconds


def report(pair: str, precision: str, seconds: dict[str, list[float]]) -> dict[str, float]:
    """Prints one line of the table and returns the medians."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    milliseconds = {name: spread([1000 * value for value in values]) for name, values in seconds.items()}
    print(
        f"{pair:19} {precision:9} alone {milliseconds['alone']}, recorded {milliseconds['recorded']}, "
        f"live {milliseconds['live']} ms\n{'':29} recorded/alone {medians['recorded'] / medians['alone']:.2f}, "
        f"live/recorded {medians['live'] / medians['recorded']:.1f}",
        flush=True,
    )
    return medians


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--pairs", nargs="+", default=PAIRS)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    header(f"step cost at batch {BATCH}, {options.threads} threads, on {options.device}; median (range)")
    for pair in options.pairs:
        medians = {}
        for precision in ("float32", "bfloat16"):
            medians[precision] = report(
                pair, precision, measure(pair, precision, options.steps, torch.device(options.device))
            )
        ratio = medians["float32"]["live"] / medians["bfloat16"]["recorded"]
        print(f"{'':29} live in float32 over recorded in bfloat16 {ratio:.1f}", flush=True)


if __name__ == "__main__":
    main()
