"""Cost of the contrast of `crd` in a step, by the number of training images that its memory holds.

    python benchmarks/contrast_cost.py [--rounds 12] [--threads 2] [--images 500 10000 45000]

A step of 128 images of resnet20 alone, and the contrast of its embedding with one of resnet56's width with the default
settings, forward and backward, take turns. Prints the table in Markdown.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from common import header
from step_cost import BATCH, config, images

from ctkd_search.config import MethodConfig
from ctkd_search.distill.build import new_step
from ctkd_search.distill.contrast import Contrast
from ctkd_search.distill.lesson import Lesson
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.training_network import Context
from ctkd_search.geometry import Geometry
from ctkd_search.models import describe

PAIR = "resnet56/resnet20"
GEOMETRY = Geometry(10, 3, 32)


def student_step(device: torch.device) -> Callable[[], object]:
    """A step of the student alone."""
    method = MethodConfig("none")
    shown = images(BATCH, 0)
    made = config(PAIR, "recorded", "float32", method)
    step = new_step(made, make_method(method), GEOMETRY, shown.labels, device, lambda: step.student)
    step.begin_epoch(0, 1)
    lesson = Lesson(torch.randn(BATCH, 3, 32, 32, device=device), torch.tensor(shown.labels, device=device))
    return lambda: step(lesson)


def contrasting(count: int, device: torch.device) -> Callable[[], object]:
    """The contrast of a batch, with a memory of so many images."""
    labels = torch.randint(0, 10, (count,)).numpy()
    teacher, student = map(describe, PAIR.split("/"))
    values = make_method(MethodConfig("crd")).values
    context = Context(teacher, student, GEOMETRY, 0, lambda: None, labels)  # type: ignore[arg-type, return-value]
    contrast = Contrast(context, values["width"], values["negatives"]).to(device)
    indices = torch.randperm(count)[:BATCH]
    chosen = torch.tensor(labels)[indices].to(device)
    lesson = Lesson(torch.zeros(BATCH), chosen, indices=indices.to(device))
    own = torch.randn(BATCH, student.embedding or 0, device=device, requires_grad=True)
    given = torch.randn(BATCH, teacher.embedding or 0, device=device)
    return lambda: contrast(own, given, lesson, values["temperature"], values["momentum"]).backward()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--images", type=int, nargs="+", default=[500, 10_000, 45_000])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    header(f"the contrast of crd beside a step of {PAIR}, {options.threads} threads, on {device}, float32")
    works = {0: student_step(device), **{count: contrasting(count, device) for count in options.images}}
    taken: dict[int, list[float]] = {count: [] for count in works}
    for number in range(2 + options.rounds):
        for count, work in works.items():
            started = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number >= 2:  # after the warm-up
                taken[count].append(1000 * (time.perf_counter() - started))
    print("| training images | ms | relative to a step of the student alone |\n|---|---|---|")
    for count, each in taken.items():
        ratio = sum(each) / sum(taken[0])
        name = f"{count:,}" if count else "the step alone"
        print(f"| {name} | {statistics.median(each):.0f} ({min(each):.0f} to {max(each):.0f}) | {ratio:.2f} |")


if __name__ == "__main__":
    main()
