"""The cost of a step with each optimizer, and with clipping and averaging, beside one of SGD.

    python benchmarks/optimizers.py [--steps 20] [--threads 2] [--device cpu] [--optimizers adamw lion ...]

A step is one of wrn-16-1 alone, in float32, on 128 random images of CIFAR's size. All settings take turns, a step
each, so that a noisy machine is as noisy for one as for the other. Prints the time of a step, and the median of its
ratios to SGD's of the same turn; without the first two turns, which warm up. On CUDA the steps are those of a trial:
captured where that is possible.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from augmentation import SIZE, STUDENT, WARM_UP, timed
from common import header, spread
from step_cost import BATCH, images

from ctkd_search.config import Augment, MethodConfig
from ctkd_search.data.stream import Normalise, Stream
from ctkd_search.distill.engine import place
from ctkd_search.distill.lesson import Lesson
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.step import make_step
from ctkd_search.geometry import Geometry
from ctkd_search.models import build
from ctkd_search.recipe import SGD, Recipe

USUAL = ("adamw", "nadamw", "lion", "lamb", "adan", "adopt", "mars", "muon", "sgdw", "rmsproptf")
OTHERS: dict[str, dict[str, object]] = {
    "sgd, clip": {"clip": 1.0},
    "sgd, decay of weights": {"decay": "weights"},
    "sgd, average": {"average": 1.0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--optimizers", nargs="+", default=USUAL)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    header(f"steps of {STUDENT}, {BATCH} images of {SIZE} px, {options.threads} threads, on {device}; median (range)")
    recipes: dict[str, dict[str, object]] = {
        SGD: {},
        **OTHERS,
        **{name: {"optimizer": name} for name in options.optimizers},
    }
    steps = {}
    for name, settings in recipes.items():
        recipe = Recipe(lr=1e-4, precision="float32", **settings)  # type: ignore[arg-type]
        network = place(build(STUDENT, Geometry(10, 3, SIZE), seed=0), device)
        steps[name] = make_step(network, make_method(MethodConfig("none")), recipe, device)
        steps[name].begin_epoch(0, 1)
    stream = Stream(images(BATCH, 0), Normalise((127.0,) * 3, (64.0,) * 3).to(device), Augment(), 0, device)
    lesson = Lesson(*stream.views(stream.plan(0), 0, BATCH))
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(options.steps + WARM_UP):
        for name, step in steps.items():
            seconds = timed(lambda step=step: step(lesson), device)  # type: ignore[misc]
            if turn >= WARM_UP:
                taken[name].append(seconds)
    for name, times in taken.items():
        ratio = statistics.median(one / other for one, other in zip(times, taken[SGD], strict=True))
        print(f"{name:24} {spread([1000 * value for value in times])} ms, {ratio:.3f} of sgd", flush=True)


if __name__ == "__main__":
    main()
