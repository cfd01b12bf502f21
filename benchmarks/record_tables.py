"""Records the tables of `tables.py`, in processes of one thread each; it goes on where it stopped.

    python benchmarks/record_tables.py cifar --images IMAGES [--processes 2] [--minutes 60] [--teachers DIRECTORY]

IMAGES is a directory of photographs, IMAGES/train/<class>/*. A table is kept in `benchmarks/tables/NAME.json.gz`: for
each config and seed, the rows of `SIGNALS`, one an epoch, and `ENDS`; a training that diverges has fewer rows. Students
are evaluated in the precision that they are trained in.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cifar_search import link_subset
from common import hardware, header
from tables import ENDS, HORIZONS, PLANS, SIGNALS, halves, load, points, save
from torch import Tensor

from ctkd_search.data import Images, Splits, load_train
from ctkd_search.distill.average import Average
from ctkd_search.distill.build import make_trainer, teacher_runs
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.engine import autocast
from ctkd_search.distill.evaluation import evaluate
from ctkd_search.distill.lesson import Lesson
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.recording import prepare
from ctkd_search.distill.trainer import Trainer, diverged
from ctkd_search.errors import UserError
from ctkd_search.space.definition import Space
from ctkd_search.versions import versions

CPU = torch.device("cpu")
# Seconds between two writings of the file.
INTERVAL = 60.0
# The rows of `SIGNALS`, and `ENDS`.
Curve = tuple[list[list[float]], list[float]]


class Followed:
    """A training step whose student is followed by running averages of its weights.

    Args:
        step: The step.
        steps: Steps of an epoch.
    """

    def __init__(self, step: Any, steps: int) -> None:
        self._step = step
        self._steps = steps
        self.averages = [Average(step.student, horizon) for horizon in HORIZONS]

    def __call__(self, lesson: Lesson) -> dict[str, Tensor]:
        """Learns from a lesson."""
        sums: dict[str, Tensor] = self._step(lesson)
        for average in self.averages:
            average.follow(self._steps)
        return sums

    def __getattr__(self, name: str) -> Any:
        return getattr(self._step, name)


class Student:
    """Trains configs in a process.

    Args:
        space: The space.
        splits: The images.
        cache: The recorded teachers.
    """

    def __init__(self, space: Space, splits: Splits, cache: TeacherCache) -> None:
        self._space = space
        self._searched, self._unseen = halves(splits)
        self._splits = dataclasses.replace(splits, validation=self._searched)
        self._cache = cache

    def curve(self, point: dict[str, Any], seed: int) -> Curve:
        """The signals after each epoch, and those of the end."""
        config = self._space.config(self._space.decode(point))
        trainer = make_trainer(dataclasses.replace(config, student_seed=seed), self._splits, self._cache, CPU)
        trainer.validation = self._searched[np.arange(0)]  # the evaluations are here
        step = Followed(trainer.step, trainer.teachers.steps)
        trainer.step = step  # type: ignore[assignment]
        rows = []
        for _ in range(trainer.epochs):
            metrics = trainer.run_epoch()
            found = {**_judged(trainer, self._searched), "seconds": metrics["seconds"]}
            for horizon, average in zip(HORIZONS, step.averages, strict=True):
                with average.in_place():
                    judged = _judged(trainer, self._searched)
                found |= {f"averaged_{horizon:g}_{name}": judged[name] for name in ("accuracy", "loss")}
            rows.append([round(found[name], 5) for name in SIGNALS])
            if diverged({**metrics, "validation_loss": found["loss"]}):
                return rows, []
        ends = [_judged(trainer, self._unseen)["accuracy"]]
        with step.averages[-1].in_place():
            ends.append(_judged(trainer, self._unseen)["accuracy"])
        return rows, [round(value, 5) for value in ends]


def _judged(trainer: Trainer, images: Images) -> dict[str, float]:
    with autocast(trainer.step.recipe.precision, CPU):
        return evaluate(trainer.student, images, trainer.normalise, CPU)


_student: Student


def begin(name: str, root: Path | None, teachers: Path) -> None:
    """Called once in each process."""
    global _student
    torch.set_num_threads(1)
    space = PLANS[name].read(root)
    _student = Student(space, load_train(space.dataset), TeacherCache(teachers))


def trained(work: tuple[int, dict[str, Any], int]) -> tuple[int, Curve]:
    """A config's number and its curve."""
    number, point, seed = work
    return number, _student.curve(point, seed)


def prepare_teachers(space: Space, teachers: Path) -> None:
    """Trains the teachers that the students will hear from."""
    splits, cache = load_train(space.dataset), TeacherCache(teachers)
    for method in space.methods():
        config = space.config(space.decode(space.paper_point(method)))
        needs = make_method(config.method).needs
        for run, wanted in teacher_runs(config, splits.fingerprint, CPU, needs, len(splits.train)).items():
            for _ in prepare(run, splits, cache, CPU, wanted):
                pass


def record(name: str, root: Path | None, teachers: Path, processes: int, minutes: float) -> None:
    """Records what a table does not have yet.

    Raises:
        UserError: The table was begun with another plan, or other versions.
    """
    plan = PLANS[name]
    space = plan.read(root)
    asked = points(space, plan)
    kept = {"signals": list(SIGNALS), "end_signals": list(ENDS)}
    about = {"space": plan.space, **kept, "points": [[point, seed] for point, seed in asked]}
    nothing = [None] * len(asked)
    found = {"versions": versions(), "hardware": hardware(), "rows": nothing, "ends": list(nothing)}
    content = load(name) or {**about, **found}
    if {key: content[key] for key in about} != about:
        raise UserError(f"the table {name} was begun with another plan; remove it to record anew")
    missing = [(number, *asked[number]) for number, rows in enumerate(content["rows"]) if rows is None]
    started = written = time.monotonic()
    if missing:
        prepare_teachers(space, teachers)
        print(f"teachers: {time.monotonic() - started:.0f} s; {len(missing)} of {len(asked)} to do", flush=True)
    with multiprocessing.get_context("spawn").Pool(processes, begin, (name, root, teachers)) as pool:
        for done, (number, (rows, ends)) in enumerate(pool.imap_unordered(trained, missing), 1):
            content["rows"][number], content["ends"][number] = rows, ends
            over = time.monotonic() > started + 60 * minutes
            if over or done == len(missing) or time.monotonic() > written + INTERVAL:
                save(name, content)
                written = time.monotonic()
                print(f"{done} trainings, {written - started:.0f} s", flush=True)
            if over:
                break


@contextlib.contextmanager
def photographs(images: Path | None, per_class: int) -> Iterator[Path | None]:
    """A directory with the first photographs of each class; None where a table needs none."""
    if not per_class:
        yield None
        return
    if images is None:
        raise SystemExit("this table needs photographs: --images DIRECTORY")
    with tempfile.TemporaryDirectory() as directory:
        link_subset(images, Path(directory), per_class, 1)
        yield Path(directory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=PLANS)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after the training that ends then")
    parser.add_argument("--teachers", type=Path, help="keep the teachers here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    header(f"the table {options.name}, {options.processes} processes of one thread")
    with (
        photographs(options.images, PLANS[options.name].per_class) as root,
        tempfile.TemporaryDirectory() as directory,
    ):
        record(options.name, root, options.teachers or Path(directory), options.processes, options.minutes)


if __name__ == "__main__":
    main()
