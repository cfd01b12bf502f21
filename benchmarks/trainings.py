"""Trainings to their end on CIFAR-10 photographs, in several processes, each kept in a file as soon as it has ended.

Shared by the benchmarks that compare accuracies. A file is added to where the last call of a benchmark stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as multiprocessing
from cifar_search import link_subset
from common import hardware, header

from ctkd_search.analysis.intervals import estimate
from ctkd_search.config import Augment, DatasetConfig, ExpertConfig, MethodConfig, TeachersConfig, TrialConfig
from ctkd_search.data import Splits, load_test, load_train
from ctkd_search.distill.build import make_trainer, teacher_runs
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.evaluation import evaluate
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.recording import prepare
from ctkd_search.distill.trainer import Trainer
from ctkd_search.files import write_text
from ctkd_search.recipe import Recipe
from ctkd_search.versions import versions

PER_CLASS, TEACHER, STUDENT = 1200, "wrn-40-2", "wrn-16-1"
TEACHERS_RECIPE = Recipe(schedule="cosine", nesterov=True)
# Share of the photographs that are held out for validation.
HELD_OUT = 1 / 6
METHODS = {
    "none": MethodConfig("none"),
    "kd": MethodConfig("kd", {"temperature": 4.0, "weight": 0.9}),
    "ctkd": MethodConfig(
        "ctkd", {"step_loss": "kl", "temperature": 4.0, "alpha": 1.0, "beta": 1000.0, "attention_layers": (1, 2, 3)}
    ),
}
# Changes a trainer before its first epoch.
Change = Callable[[Trainer, TrialConfig, Splits, TeacherCache], None]


@dataclass(frozen=True)
class Training:
    """A training.

    Attributes:
        key: What tells it from the others, in the order of the table's columns; the seed is the last.
        config: Its config.
        change: Changes its trainer before the first epoch; None for a trainer as it is.
    """

    key: tuple[Any, ...]
    config: TrialConfig
    change: Change | None = None


# Work on a training, what its result belongs to, and the training.
Job = tuple[Callable[..., Any], Any, Training]


@dataclass(frozen=True)
class Place:
    """The images, the directory of the teachers and the device of trainings."""

    dataset: DatasetConfig
    teachers: str
    device: str
    threads: int


def config(
    recipe: Recipe,
    method: str,
    epochs: int,
    seed: int,
    *,
    teacher: str = TEACHER,
    student: str = STUDENT,
    expert: ExpertConfig | None = None,
    augment: Augment | None = None,
    mode: str = "recorded",
) -> TrialConfig:
    """A training on the photographs; their directory is set where they are read."""
    return TrialConfig(
        dataset=DatasetConfig("folder", image_size=32, channels=3, validation=HELD_OUT),
        epochs=epochs,
        teacher=teacher,
        student=student,
        method=METHODS[method],
        augment=augment or Augment(),
        train=recipe,
        teachers=TeachersConfig(
            mode=mode,  # type: ignore[arg-type]
            expert=expert or ExpertConfig(),
            recipe=TEACHERS_RECIPE,
        ),
        seed=seed,
    )


def arguments(description: str) -> argparse.ArgumentParser:
    """The arguments that these benchmarks have in common."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("images", type=Path, help="photographs, as IMAGES/train/<class>/* and IMAGES/test/<class>/*")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--processes", type=int, default=1, help="trainings at once")
    parser.add_argument("--threads", type=int, default=1, help="processor threads of each")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no training after so many seconds")
    parser.add_argument("--per-class", type=int, default=PER_CLASS, help="photographs of each class, a sixth held out")
    parser.add_argument("--test-per-class", type=int, default=1000, help="test photographs of each class")
    parser.add_argument("--teachers", help="directory in which teachers are kept from run to run")
    return parser


def run(
    options: argparse.Namespace, trainings: Mapping[Path, Sequence[Training]], dataset: DatasetConfig | None = None
) -> None:
    """Carries out those trainings of each file that it does not have yet, the first ones first.

    Args:
        options: The values of `arguments`.
        trainings: The trainings of each file.
        dataset: What all of them are trained on; None for the photographs.
    """
    kept, jobs = {}, []
    for file, asked in trainings.items():
        new: dict[str, Any] = {"results": {}, "hardware": hardware(), "versions": versions()}
        kept[file] = json.loads(file.read_text()) if file.is_file() else new
        left = [each for each in asked if json.dumps(each.key) not in kept[file]["results"]]
        print(f"{len(asked) - len(left)} of {len(asked)} trainings are in {file.name}", flush=True)
        jobs += [(file, each) for each in left]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        if dataset is None:
            link_subset(options.images, Path(directory), options.per_class, options.test_per_class)
            dataset = DatasetConfig("folder", root=directory, image_size=32, channels=3, validation=HELD_OUT)
        place = Place(dataset, options.teachers or f"{directory}/teachers", options.device, options.threads)
        with _workers(min(options.processes, len(jobs)), place, started + options.seconds) as workers:
            for _ in workers.results([(_prepare, None, each) for each in _teachers([each for _, each in jobs])]):
                pass
            print(f"teachers ready after {time.monotonic() - started:.0f} s", flush=True)
            for file, key, result in workers.results([(_train, file, each) for file, each in jobs]):
                kept[file]["results"][json.dumps(key)] = result
                write_text(file, json.dumps(kept[file], indent=1) + "\n")
                print(f"{json.dumps(key)}: {result} after {time.monotonic() - started:.0f} s", flush=True)


def table(file: Path, metric: str, columns: Sequence[str]) -> None:
    """Prints mean, its 95 % interval and number of the trainings that differ in the last part of their keys alone."""
    kept = json.loads(file.read_text())
    print(
        f"# measured on {kept['hardware']}; "
        + ", ".join(f"{name} {number}" for name, number in kept["versions"].items())
    )
    print(f"| {' | '.join(columns)} | {metric.replace('_', ' ')}, % | n |")
    print("| " + " | ".join("---" for _ in range(len(columns) + 2)) + " |")
    for key, values in by_key(kept, metric).items():
        print(f"| {' | '.join(map(str, key))} | {with_interval(list(values.values()))} | {len(values)} |")


def by_key(kept: Mapping[str, Any], metric: str) -> dict[tuple[Any, ...], dict[int, float]]:
    """The percentages by all of the key but its seed, and by seed."""
    found: dict[tuple[Any, ...], dict[int, float]] = {}
    for key, result in sorted((json.loads(key), result) for key, result in kept["results"].items()):
        found.setdefault(tuple(key[:-1]), {})[key[-1]] = 100 * result[metric]
    return found


def with_interval(values: Sequence[float]) -> str:
    """The mean with its 95 % interval; alone, if there is one value."""
    found = estimate(values)
    return f"{found.mean:.2f}" + (f" ± {found.half_width:.2f}" if len(values) > 1 else "")


def _teachers(trainings: Sequence[Training]) -> list[Training]:
    """A training for each set of teachers, the longest first."""
    found: dict[Any, Training] = {}
    for each in trainings:
        needs = make_method(each.config.method).needs
        if needs.any_expert or needs.scratch:
            own = each.config
            told = (own.teacher, own.seed, own.epochs, own.augment, own.method.name, own.teachers.expert)
            found.setdefault(told, each)
    return sorted(found.values(), key=lambda each: -each.config.epochs)


class Workers:
    """Processes that carry out jobs."""

    def __init__(self, count: int, place: Place, end: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._waiting, self._done = context.Queue(), context.Queue()
        arguments = (self._waiting, self._done, place, end)
        self._processes = [context.Process(target=_serve, args=arguments, daemon=True) for _ in range(count)]
        for process in self._processes:
            process.start()

    def results(self, jobs: Sequence[Job]) -> Iterator[tuple[Any, tuple[Any, ...], Any]]:
        """Yields what each job belongs to, the training's key and what came of it, as they end."""
        for job in jobs:
            self._waiting.put(job)
        for _ in jobs:
            belongs, key, result, fault = self._done.get()
            if fault:
                print(f"{json.dumps(key)} failed: {fault}", flush=True)
            elif result is not None:
                yield belongs, key, result

    def end(self) -> None:
        """Waits until all processes have ended."""
        for _ in self._processes:
            self._waiting.put(None)
        for process in self._processes:
            process.join()


@contextlib.contextmanager
def _workers(count: int, place: Place, end: float) -> Iterator[Workers]:
    workers = Workers(count, place, end)
    yield workers
    workers.end()


def _serve(waiting: Any, done: Any, place: Place, end: float) -> None:
    """Carries out jobs until there are none; those that come too late have no result."""
    torch.set_num_threads(place.threads)
    images = functools.cache(lambda: (load_train(place.dataset), load_test(place.dataset)))
    while (job := waiting.get()) is not None:
        work, belongs, each = job
        result, fault = None, None
        try:
            if time.monotonic() < end:
                result = work(each, *images(), place)
        except Exception as error:
            fault = f"{type(error).__name__}: {error}"
        done.put((belongs, each.key, result, fault))


def _prepare(each: Training, splits: Splits, test: Any, place: Place) -> int:
    """Trains the teachers of a training."""
    del test
    device, cache = torch.device(place.device), TeacherCache(Path(place.teachers))
    needs = make_method(each.config.method).needs
    runs = teacher_runs(each.config, splits.fingerprint, device, needs, len(splits.train))
    return sum(1 for run, wanted in runs.items() for _ in prepare(run, splits, cache, device, wanted))


def _train(each: Training, splits: Splits, test: Any, place: Place) -> dict[str, Any]:
    """Accuracies of a student, of each epoch on the validation images and at the end on the test images; seconds."""
    _prepare(each, splits, test, place)
    device, cache = torch.device(place.device), TeacherCache(Path(place.teachers))
    started = time.perf_counter()
    trainer = make_trainer(each.config, splits, cache, device)
    if each.change:
        each.change(trainer, each.config, splits, cache)
    curve = [trainer.run_epoch()["validation_accuracy"] for _ in range(each.config.epochs)]
    with trainer.step.judged():
        tested = evaluate(trainer.student, test, trainer.normalise, device)
    return {
        "validation_accuracy": round(curve[-1], 5),
        "test_accuracy": round(tested["accuracy"], 5),
        "seconds": round(time.perf_counter() - started, 1),
    }


def title(text: str, options: argparse.Namespace) -> None:
    """Prints what was run."""
    seen = 10 * options.per_class
    held_out, tested = round(HELD_OUT * seen), 10 * options.test_per_class
    header(f"{text}; {seen - held_out:,} CIFAR-10 photographs, {held_out:,} more held out, {tested:,} of the test")
