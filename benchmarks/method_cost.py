"""What a training step costs under each method, beside the student alone.

    python benchmarks/method_cost.py [--steps 12] [--threads 2] [--pair resnet56/resnet20]

Every method runs with its default settings, under recorded teachers where what it needs can be recorded. All take
turns, a step each, on the same random images of CIFAR's size, so that a noisy machine is as noisy for one as for the
other; the ratio is of the time of all rounds together, because an expert may compute for several steps at a time.
Attention maps are recorded beforehand; what cannot be replayed is computed in the step. Prints the table in Markdown.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
import tempfile
from pathlib import Path

import torch
from common import header
from step_cost import BATCH, config, images, prepared

from ctkd_search.config import MethodConfig, TrialConfig
from ctkd_search.data import Splits
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.methods.base import make_method, methods
from ctkd_search.distill.requests import COMPUTED
from ctkd_search.models import describe
from ctkd_search.pairs import split_pair

ALONE = "none"


def kind(config: MethodConfig) -> str:
    """What the teachers of a trial do while it runs."""
    method = make_method(config)
    needs = method.needs
    computed = [output for output in needs.expert if output.kind in COMPUTED]
    parts = []
    if needs.any_scratch or (needs.expert and not computed):
        parts.append("replayed")
    if computed or needs.network:
        parts.append("the expert computes")
    if method.auxiliary:
        parts.append(f"{method.auxiliary} is trained")
    return ", ".join(parts) or "none"


def shortest(pair: str, method: MethodConfig) -> TrialConfig:
    """The config of a trial of as few epochs as a method can do with."""
    least = next(epochs for epochs in itertools.count(1) if make_method(method).epochs_fault(epochs) is None)
    return dataclasses.replace(config(pair, "recorded", "float32", method), epochs=least)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--pair", default="resnet56/resnet20")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    header(f"a step of {BATCH} images, {options.pair}, {options.threads} threads, on {device}, float32")
    splits = Splits(images(4 * BATCH, 0), images(0, 1), tuple("0123456789"), (127.0,) * 3, (64.0,) * 3, "random")
    teacher, student = map(describe, split_pair(options.pair))
    left_out = {
        name: reason for name in methods() if (reason := make_method(MethodConfig(name)).fault(teacher, student))
    }
    names = [ALONE, *(name for name in methods() if name != ALONE and name not in left_out)]
    with tempfile.TemporaryDirectory() as directory:
        cache = TeacherCache(Path(directory))
        made = {name: shortest(options.pair, MethodConfig(name)) for name in names}
        sources = {name: prepared(made[name], splits, cache, device) for name in names}
        for _ in range(2):  # warm up
            for source in sources.values():
                next(source)
        rounds = [{name: next(source) for name, source in sources.items()} for _ in range(options.steps)]
    print(f"# medians of {options.steps} rounds (lowest to highest)\n")
    print("| method | teachers, while the student learns | ms a step | beside the student alone |\n|---|---|---|---|")
    for name in sorted(names, key=lambda name: statistics.median(one[name] for one in rounds)):
        taken = [1000 * one[name] for one in rounds]
        ratio = sum(one[name] for one in rounds) / sum(one[ALONE] for one in rounds)
        called = "`none` (the student alone)" if name == ALONE else f"`{name}`"
        took = f"{statistics.median(taken):.0f} ({min(taken):.0f} to {max(taken):.0f})"
        print(f"| {called} | {kind(MethodConfig(name))} | {took} | {ratio:.2f} |")
    for name, reason in left_out.items():
        print(f"# left out: {name}: {reason}")


if __name__ == "__main__":
    main()
