"""Records the learning curves of every config of a grid, for `regret.py`.

    python benchmarks/record_curves.py [--processes 2] [--teachers DIRECTORY] [--file benchmarks/curves.json]

The grid is that of `curves.py`: a WRN-16-1 teaches a ResNet-8 scikit-learn's digits for 9 epochs. The teachers are
recorded first; then each config is trained to its end, in processes of one thread each. Interrupted, it goes on from
what the file has. Prints how far it is, and how long it took.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from common import hardware, header
from curves import FILE, SPACE, Values, axes, config, grid_space, points

from ctkd_search.config import plain
from ctkd_search.data import Splits, load_train
from ctkd_search.distill.build import make_trainer, teacher_runs
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.recording import prepare
from ctkd_search.distill.requests import Needs
from ctkd_search.distill.trainer import diverged
from ctkd_search.errors import UserError
from ctkd_search.files import write_text
from ctkd_search.space.definition import Space
from ctkd_search.versions import versions

CPU = torch.device("cpu")
# Seconds between two writings of the file.
INTERVAL = 15.0


class Student:
    """Trains configs in a process; made once per process.

    Args:
        space: The space.
        splits: The images.
        cache: The recorded teachers.
    """

    def __init__(self, space: Space, splits: Splits, cache: TeacherCache) -> None:
        self._space = space
        self._splits = splits
        self._cache = cache

    def curve(self, point: Values) -> list[float]:
        """Validation accuracy after each epoch; one that diverges ends there."""
        trainer = make_trainer(config(self._space, point), self._splits, self._cache, CPU)
        accuracies: list[float] = []
        for _ in range(trainer.epochs):
            metrics = trainer.run_epoch()
            accuracies.append(round(metrics["validation_accuracy"], 5))
            if diverged(metrics):
                break
        return accuracies


_student: Student


def begin(teachers: Path) -> None:
    """Called once in each process."""
    global _student
    torch.set_num_threads(1)
    space = grid_space()
    _student = Student(space, load_train(space.dataset), TeacherCache(teachers))


def trained(work: tuple[int, Values]) -> tuple[int, list[float]]:
    """A config's number and its curve."""
    number, point = work
    return number, _student.curve(point)


def prepare_teachers(space: Space, teachers: Path) -> None:
    """Records all that the students will hear from their teachers."""
    splits = load_train(space.dataset)
    cache = TeacherCache(teachers)
    made = config(space, {"attention_layers": (1, 2, 3)})
    for run, storage in teacher_runs(
        made, splits.fingerprint, CPU, Needs(scratch=True, network=True), len(splits.train)
    ).items():
        for _ in prepare(run, splits, cache, CPU, storage):
            pass
    lessons = make_trainer(made, splits, cache, CPU).teachers
    for epoch in range(made.epochs):
        for _ in lessons.lessons(epoch):
            pass  # attention maps are recorded by whoever needs them first


def begun(path: Path, space: Space, count: int) -> dict[str, Any]:
    """The file's content, or that of one without any curve.

    Raises:
        UserError: The file is of another grid, or was begun with other versions.
    """
    about = {
        "space": yaml.safe_load(SPACE),
        "axes": plain({name: list(values) for name, values in axes(space).items()}),
        "seed": space.seed,
        "versions": versions(),
    }
    if not path.exists():
        return {**about, "hardware": hardware(), "seconds": 0.0, "curves": [None] * count}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if {name: content[name] for name in about} != about:
        raise UserError(f"{path} is of another grid or of other versions; remove it to record anew")
    return content


def write(path: Path, content: dict[str, Any]) -> None:
    """Writes the file, a curve on each line."""
    lines = ",\n".join(json.dumps(curve) for curve in content["curves"])
    rest = json.dumps({name: value for name, value in content.items() if name != "curves"}, indent=1)
    write_text(path, f'{rest[:-2]},\n "curves": [\n{lines}\n]\n}}\n')


def record(path: Path, teachers: Path, processes: int) -> None:
    """Records what the file does not have yet."""
    space = grid_space()
    grid = points(space)
    content = begun(path, space, len(grid))
    curves = content["curves"]
    missing = [(number, point) for number, point in enumerate(grid) if curves[number] is None]
    before, started = content["seconds"], time.monotonic()
    if missing:
        prepare_teachers(space, teachers)
        print(f"teachers: {time.monotonic() - started:.1f} s; {len(missing)} of {len(grid)} configs to do", flush=True)
    written = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(processes, begin, (teachers,)) as pool:
        for done, (number, curve) in enumerate(pool.imap_unordered(trained, missing), 1):
            curves[number] = curve
            if done == len(missing) or time.monotonic() > written + INTERVAL:
                content["seconds"] = round(before + time.monotonic() - started, 1)
                write(path, content)
                written = time.monotonic()
                print(f"{done} configs, {content['seconds']:.0f} s", flush=True)
    lost = sum(len(curve) < space.budget.epochs for curve in curves)
    print(f"{len(grid)} configs in {content['seconds']:.0f} s, best {max(c[-1] for c in curves):.5f}, {lost} diverged")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--teachers", type=Path, help="keep the recorded teachers here")
    parser.add_argument("--file", type=Path, default=FILE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    header(f"learning curves of a grid, {options.processes} processes of one thread")
    with tempfile.TemporaryDirectory() as directory:
        record(options.file, options.teachers or Path(directory), options.processes)


if __name__ == "__main__":
    main()
