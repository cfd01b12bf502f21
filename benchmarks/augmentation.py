"""The cost of each augmentation, as a share of a training step.

    python benchmarks/augmentation.py [--steps 40] [--threads 2] [--device cpu]

A step is one of wrn-16-1 alone, in float32, on a batch of 128 random images of CIFAR's size, without the time in which
its images are made. All augmentations take turns with it, a batch each, so that a noisy machine is as noisy for one as
for the other. Prints the time of a batch, and the median of its ratios to the step of the same turn; without the first
two turns, which warm up.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from common import header, spread
from step_cost import BATCH, images

from ctkd_search.config import Augment, Erasing, Jitter, MethodConfig, RandAugment
from ctkd_search.data.stream import Normalise, Stream
from ctkd_search.distill.engine import place
from ctkd_search.distill.lesson import Lesson
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.step import StudentStep
from ctkd_search.geometry import Geometry
from ctkd_search.models import build
from ctkd_search.recipe import Recipe

STUDENT, SIZE, WARM_UP = "wrn-16-1", 32, 2
JITTER, ERASING = Jitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1), Erasing(0.25)
AUGMENTATIONS = {
    "none": Augment(crop=0, flip=False),
    "crop and flip": Augment(),
    "RandAugment(2, 9)": Augment(randaugment=RandAugment(2, 9)),
    "TrivialAugment": Augment(trivialaugment=True),
    "jitter": Augment(jitter=JITTER),
    "erasing": Augment(erasing=ERASING),
    "mixup": Augment(mixup=0.2),
    "mixup or cutmix": Augment(mixup=0.2, cutmix=1.0),
    "RandAugment(2, 9), erasing, mixing": Augment(
        randaugment=RandAugment(2, 9), erasing=ERASING, mixup=0.2, cutmix=1.0
    ),
    "all of them": Augment(randaugment=RandAugment(2, 9), jitter=JITTER, erasing=ERASING, mixup=0.2, cutmix=1.0),
}


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call, with all that it starts on a GPU."""
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def measure(turns: int, device: torch.device) -> tuple[list[float], dict[str, list[float]]]:
    """Seconds of each step, and of a batch of each augmentation in the same turn."""
    normalise = Normalise((127.0,) * 3, (64.0,) * 3).to(device)
    pictures = images(4 * BATCH, 0)
    streams = {name: Stream(pictures, normalise, each, 0, device) for name, each in AUGMENTATIONS.items()}
    plans = {name: stream.plan(0) for name, stream in streams.items()}
    network = place(build(STUDENT, Geometry(10, 3, SIZE), seed=0), device)
    step = StudentStep(network, make_method(MethodConfig("none")), Recipe(lr=0.01, precision="float32"), device)
    step.begin_epoch(0, 1)
    lesson = Lesson(*streams["none"].views(plans["none"], 0, BATCH))
    steps: list[float] = []
    batches: dict[str, list[float]] = {name: [] for name in streams}
    for turn in range(turns + WARM_UP):
        start = turn % 4 * BATCH
        taken = timed(lambda: step(lesson), device)
        shares = {
            name: timed(lambda s=stream, p=plans[name], a=start: s.views(p, a, a + BATCH), device)  # type: ignore[misc]
            for name, stream in streams.items()
        }
        if turn >= WARM_UP:
            steps.append(taken)
            for name, seconds in shares.items():
                batches[name].append(seconds)
    return steps, batches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    header(f"augmentation of {BATCH} images of {SIZE} px, {options.threads} threads, on {device}; median (range)")
    steps, batches = measure(options.steps, device)
    print(f"{'step of ' + STUDENT + ', float32':36} {spread([1000 * value for value in steps])} ms")
    for name, seconds in batches.items():
        ratios = [one / step for one, step in zip(seconds, steps, strict=True)]
        share = statistics.median(ratios)
        print(f"{name:36} {spread([1000 * value for value in seconds])} ms, {100 * share:.1f} % of a step", flush=True)


if __name__ == "__main__":
    main()
