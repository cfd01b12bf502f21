"""Where a trial's time goes: forward, backward and optimizer, and everything else.

    python benchmarks/trial_time.py [--images 5000] [--epochs 3] [--pair wrn-40-2/wrn-16-1]

First the parts of one trial in this process, each timed by itself along whole epochs on random images of CIFAR's size.
Then a search of the digits through Ray and MLflow, one trial at a time, whose time beyond the trials' own epochs is
theirs: it depends on the number of epochs and not on what is in them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from common import header
from step_cost import FULL, config, images

from ctkd_search.data import Splits
from ctkd_search.distill.build import make_trainer, teacher_runs
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.engine import autocast
from ctkd_search.distill.evaluation import evaluate
from ctkd_search.distill.lesson import StudentOutput
from ctkd_search.distill.recording import prepare
from ctkd_search.distill.requests import Needs
from ctkd_search.distill.trainer import Trainer

Spent = dict[str, float]


@contextmanager
def clock(spent: Spent, name: str) -> Iterator[None]:
    """Adds the seconds of a block."""
    started = time.perf_counter()
    yield
    spent[name] += time.perf_counter() - started


def taken_apart(trainer: Trainer, epoch: int, checkpoint: Path) -> Spent:
    """One epoch as `Trainer.run_epoch` does it, with a clock around each part."""
    spent: Spent = defaultdict(float)
    step = trainer.step
    step.begin_epoch(epoch, trainer.epochs, trainer.teachers.steps)
    lessons = trainer.teachers.lessons(epoch)
    while True:
        with clock(spent, "lessons"):
            lesson = next(lessons, None)
        if lesson is None:
            break
        with clock(spent, "forward"):
            with autocast(step.recipe.precision, step.device):
                output = StudentOutput(*step.network(lesson.images))
            output = output._replace(logits=output.logits.float())
            loss = torch.stack(list(step.method.terms(output, lesson).values())).sum()
        with clock(spent, "backward"):
            step.optimizer.zero_grad(set_to_none=True)
            loss.backward()
        with clock(spent, "optimizer"):
            step.optimizer.step()
    with clock(spent, "evaluation"):
        evaluate(trainer.student, trainer.validation, trainer.normalise, trainer.device)
    with clock(spent, "checkpoint"):
        torch.save(trainer.state_dict(), checkpoint)
    return spent


def orchestration(trials: int, epochs: int, work: Path) -> None:
    """Prints what Ray and MLflow take of a search, per trial and per epoch."""
    from ctkd_search.cli import main as command
    from ctkd_search.records.store import SearchFolder
    from ctkd_search.search.observer import Observer

    moments: list[float] = []
    report = Observer.on_trial_result

    def noted(*positional: Any, **named: Any) -> None:
        moments.append(time.perf_counter())
        report(*positional, **named)

    Observer.on_trial_result = noted  # type: ignore[method-assign]
    shipped = Path(__file__).resolve().parents[1] / "spaces" / "digits.yaml"
    content = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    # Nothing but trials, in one process: baselines and confirmations would begin others, and train teachers in between.
    content = {key: value for key, value in content.items() if key not in {"baselines", "confirm"}}
    space = work / "space.yaml"
    space.write_text(yaml.safe_dump(content), encoding="utf-8")
    words = [f"--trials={trials}", f"--epochs={epochs}", f"--set=budget.grace_period={epochs}", "--concurrent=1"]
    begun = time.perf_counter()
    code = command(["run", str(space), *words, "--trials-dir", str(work)])
    if code:
        raise SystemExit(code)
    records = SearchFolder(work, "digits").trials()
    count = sum(len(record.epochs) for record in records)
    within = sum(record.seconds for record in records)
    # From the first report to the last, all but the first epoch have been done, and every actor but none was started.
    between = moments[-1] - moments[0] - (within - records[0].epochs[0]["seconds"])
    print(f"\n{len(records)} trials, {count} epochs, {within:.1f} s within them, {moments[-1] - begun:.1f} s in all")
    print(f"until the first report (imports, Ray, teachers, actor): {moments[0] - begun:.1f} s, once")
    # MLflow is told from a thread of its own, which is part of it.
    print(f"Ray, states, records and MLflow: {1000 * between / count:.1f} ms an epoch (n = {count} epochs)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--validation", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--pair", default="wrn-40-2/wrn-16-1")
    options = parser.parse_args()
    header(f"a trial of {options.pair}, {options.images} images an epoch, {options.validation} for validation")
    device = torch.device("cpu")
    splits = Splits(
        images(options.images, 0),
        images(options.validation, 1),
        tuple("0123456789"),
        (127.0,) * 3,
        (64.0,) * 3,
        "random",
    )
    made = config(options.pair, "recorded", "auto", FULL)
    with tempfile.TemporaryDirectory() as directory:
        cache = TeacherCache(Path(directory))
        for run, storage in teacher_runs(
            made, splits.fingerprint, device, Needs(scratch=True, network=True), len(splits.train)
        ).items():
            for _ in prepare(run, splits, cache, device, storage):
                pass
        first = make_trainer(made, splits, cache, device)
        first.run_epoch()  # records the maps
        started = time.perf_counter()
        trainer = make_trainer(made, splits, cache, device)
        begun = time.perf_counter() - started
        # Every epoch is the first one again: its lessons are recorded.
        epochs = [taken_apart(trainer, 0, Path(directory) / "state.pt") for _ in range(options.epochs)]
    medians = {name: statistics.median(epoch[name] for epoch in epochs) for name in epochs[0]}
    total = sum(medians.values())
    print(f"beginning a trial: {begun:.3f} s, once")
    for name, seconds in medians.items():
        print(f"{name:11} {seconds:7.3f} s an epoch, {100 * seconds / total:5.1f} %")
    own = sum(medians[name] for name in ("forward", "backward", "optimizer"))
    print(f"beside forward, backward and optimizer: {100 * (total - own) / total:.1f} % (n = {options.epochs} epochs)")
    with tempfile.TemporaryDirectory() as directory:
        orchestration(trials=6, epochs=6, work=Path(directory))


if __name__ == "__main__":
    main()
