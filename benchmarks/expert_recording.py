"""The cost of recording an expert: the first trials of a search, one after the other and two at once.

    python benchmarks/expert_recording.py IMAGES [--per-class 1000] [--rounds 1] [--pair wrn-40-2/wrn-16-1]

IMAGES is a directory with train/<class>/ and test/<class>/ of small pictures. In each round, and in an empty cache:
the student alone; the first trial by kd; the first by at, which the same search has; two students alone at once; and in
another empty cache the trials by kd and at at once. The expert has random weights, which take as long as others.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from cifar_search import link_subset
from common import header, spread

from ctkd_search.config import Augment, DatasetConfig, ExpertConfig, MethodConfig, TeachersConfig, TrialConfig
from ctkd_search.data import Splits, load_train
from ctkd_search.distill.asked import asked_of_experts
from ctkd_search.distill.build import make_trainer
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.methods.base import make_method
from ctkd_search.models import build
from ctkd_search.pairs import split_pair
from ctkd_search.recipe import Recipe

_EPOCHS = 2
_CPU = torch.device("cpu")


def config(root: Path, pair: str, method: str) -> TrialConfig:
    """The config of a trial."""
    teacher, student = split_pair(pair)
    recipe = Recipe(batch_size=128, lr=0.05)
    return TrialConfig(
        dataset=DatasetConfig("folder", root=str(root / "images"), image_size=32, channels=3, validation=0.05),
        epochs=_EPOCHS,
        teacher=teacher,
        student=student,
        method=MethodConfig(method),
        augment=Augment(crop=4, flip=True),
        train=recipe,
        teachers=TeachersConfig(
            mode="recorded", recipe=recipe, expert=ExpertConfig(checkpoint=str(root / "expert.pt"))
        ),
    )


def trial(made: TrialConfig, splits: Splits, cache: Path, start: Any = None) -> list[float]:
    """The seconds of each epoch of a trial, with one thread."""
    torch.set_num_threads(1)
    both = [
        config(Path(str(made.dataset.root)).parent, f"{made.teacher}/{made.student}", name) for name in ("kd", "at")
    ]
    asked = asked_of_experts((each, make_method(each.method).needs) for each in both)
    trainer = make_trainer(made, splits, TeacherCache(cache), _CPU, asked=asked)
    if start is not None:
        start.wait()
    return [trainer.run_epoch()["seconds"] for _ in range(made.epochs)]


def _in_process(results: Any, name: str, *words: Any) -> None:
    results.put((name, trial(*words)))


def at_once(configs: Sequence[tuple[str, TrialConfig]], splits: Splits, cache: Path) -> dict[str, list[float]]:
    """The seconds of each epoch of trials that begin at the same moment in processes of their own."""
    context = multiprocessing.get_context("spawn")
    results, start = context.Queue(), context.Barrier(len(configs))
    going = [
        context.Process(target=_in_process, args=(results, name, made, splits, cache, start)) for name, made in configs
    ]
    for process in going:
        process.start()
    found = dict(results.get() for _ in going)
    for process in going:
        process.join()
    return found


def measure(root: Path, pair: str, splits: Splits, number: int) -> dict[str, list[float]]:
    """One round: the seconds of each epoch of each trial."""
    none, kd, at = (config(root, pair, method) for method in ("none", "kd", "at"))
    one, two = root / f"one-{number}", root / f"two-{number}"
    found = {"student alone": trial(none, splits, one)}
    found["first kd"] = trial(kd, splits, one)
    found["then first at"] = trial(at, splits, one)
    alone = at_once([("one", none), ("other", none)], splits, two)
    found["two students alone at once"] = [statistics.fmean(pair) for pair in zip(*alone.values(), strict=True)]
    together = at_once([("kd", kd), ("at", at)], splits, two)
    return found | {f"{name} of kd and at at once": seconds for name, seconds in together.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--per-class", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--pair", default="wrn-40-2/wrn-16-1")
    options = parser.parse_args()
    header(f"seconds of the first epochs of trials that record their expert, {options.pair}, one thread each")
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        link_subset(options.images, root / "images", options.per_class, 1)
        made = config(root, options.pair, "none")
        splits = load_train(made.dataset, [made.augment])
        torch.save(build(made.teacher, splits.geometry, seed=0).state_dict(), root / "expert.pt")
        print(f"# {len(splits.train):,} images an epoch; median (lowest to highest), and over the student alone\n")
        started = time.perf_counter()
        rounds: dict[str, list[list[float]]] = defaultdict(list)
        for number in range(options.rounds):
            for name, seconds in measure(root, options.pair, splits, number).items():
                rounds[name].append(seconds)
    for name, measured in rounds.items():
        beside = "two students alone at once" if "at once" in name else "student alone"
        for epoch in range(_EPOCHS):
            alone = [statistics.fmean(one) for one in rounds[beside]]
            ratios = [one[epoch] / other for one, other in zip(measured, alone, strict=True)]
            print(f"{name:28} epoch {epoch + 1}  {spread([one[epoch] for one in measured])} s, {spread(ratios)} times")
    print(f"\nall of it: {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
