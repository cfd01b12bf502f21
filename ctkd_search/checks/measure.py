"""Measurement of single steps on this machine, with random pixels of the right shape."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ctkd_search.checks.networks import Facts
from ctkd_search.config import Augment, TrialConfig
from ctkd_search.data import Images, Splits
from ctkd_search.data.stream import Normalise, Stream
from ctkd_search.distill.build import new_step
from ctkd_search.distill.engine import place, resolve_precision
from ctkd_search.distill.evaluation import evaluate
from ctkd_search.distill.expert import Expert, expert_batch
from ctkd_search.distill.lesson import Lesson, plain_lessons
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.recording import make_stream
from ctkd_search.distill.requests import Needs, TeacherOutput
from ctkd_search.distill.teachers import LiveTeachers, ScratchTeacher
from ctkd_search.geometry import Geometry
from ctkd_search.models import build
from ctkd_search.models.network import TappedNetwork

# Something is measured this many times and for this many seconds, unless the time is over before.
_STEPS, _ENOUGH = 7, 0.3
# Multiply-adds of the largest step that is tried on a CPU, which computes a few billion of them in a second.
_LARGEST_STEP = 2e10
# A training step computes about this many times what a forward pass computes.
_BACKWARD = 3
_EVALUATION_BATCH = 500


@dataclass(frozen=True)
class Speed:
    """Seconds for one image.

    Attributes:
        training: Of a training step, the stream's share included.
        forward: Of a forward pass in evaluation mode, as for the validation images.
        expert: Of an expert's outputs for an image of the stream; 0 for students.
        measured: Whether it was measured, and not estimated from another network's multiply-adds.
    """

    training: float
    forward: float
    expert: float = 0.0
    measured: bool = True


@dataclass(frozen=True)
class Speeds:
    """The measured speeds of networks.

    Attributes:
        teachers: Each teacher by its architecture.
        students: Each student by its architecture and the method that it learns by.
    """

    teachers: Mapping[str, Speed]
    students: Mapping[tuple[str, str], Speed]

    @property
    def estimated(self) -> list[str]:
        """The networks that were not measured for lack of time."""
        teachers = [name for name, speed in self.teachers.items() if not speed.measured]
        students = [f"{name} by {method}" for (name, method), speed in self.students.items() if not speed.measured]
        return [*teachers, *students]


def learner(config: TrialConfig) -> tuple[str, str]:
    """Returns the key of the speed of a trial's epochs: its student and its method."""
    return config.student, config.method.name


def measure(
    configs: Sequence[TrialConfig],
    known: Mapping[str, Facts],
    geometry: Geometry,
    device: torch.device,
    threads: tuple[int, int],
    seconds: float,
) -> Speeds:
    """Measures a few steps of every teacher, and of every student with every method.

    Args:
        configs: Configs that contain all of them.
        known: The facts of each network.
        geometry: The images.
        device: Where to compute.
        threads: CPU threads of a teacher's training, and of a trial.
        seconds: About how long it may take in all; the speeds of networks that come after that are estimated from
            those before by their multiply-adds.
    """
    end = time.monotonic() + seconds
    by_teacher = {config.teacher: config for config in configs}
    by_learner = {learner(config): config for config in configs}
    count = len(by_teacher) + len(by_learner)
    before = torch.get_num_threads()

    def share() -> float:
        """Returns the seconds that the next one may take; 0 if no time is left."""
        return max(0.0, end - time.monotonic()) / (count - len(teachers) - len(students))

    try:
        teachers: dict[str, Speed] = {}
        students: dict[tuple[str, str], Speed] = {}
        torch.set_num_threads(threads[0])
        for name, config in by_teacher.items():
            left = share()
            if left or not teachers:
                teachers[name] = _teacher(config, known, geometry, device, left)
            else:
                measured = {other: speed for other, speed in teachers.items() if speed.measured}
                teachers[name] = _estimated(known[name], measured, known)
        torch.set_num_threads(threads[1])
        for (name, method), config in by_learner.items():
            left = share()
            if left or not students:
                students[name, method] = _student(config, known, geometry, device, left)
            else:
                seen = {key: speed for key, speed in students.items() if speed.measured}
                same = {other: speed for (other, by), speed in seen.items() if by == method}
                any_method = {other: speed for (other, _), speed in seen.items()}
                students[name, method] = _estimated(known[name], same or any_method, known)
    finally:
        torch.set_num_threads(before)
    return Speeds(teachers, students)


def _estimated(wanted: Facts, measured: Mapping[str, Speed], known: Mapping[str, Facts]) -> Speed:
    """Estimates the speed of a network from that of the measured network nearest in multiply-adds."""
    near = min(measured, key=lambda name: abs(np.log(known[name].multiply_adds / wanted.multiply_adds)))
    ratio = wanted.multiply_adds / known[near].multiply_adds
    speed = measured[near]
    return Speed(speed.training * ratio, speed.forward * ratio, speed.expert * ratio, measured=False)


def _teacher(
    config: TrialConfig, known: Mapping[str, Facts], geometry: Geometry, device: torch.device, seconds: float
) -> Speed:
    adds = known[config.teacher].multiply_adds
    batch = _fitting(config.teachers.recipe.batch_size, _BACKWARD * adds, device)
    splits = random_splits(geometry, batch)
    stream = make_stream(splits, _in_memory(config.augment), config.seed, device)
    teacher = _scratch(config, geometry, device)
    plan = stream.plan(0)
    # An epoch of one step.
    training = (
        _seconds(lambda: list(teacher.train(plain_lessons(stream, plan, batch), 0, 1)), device, seconds / 2) / batch
    )
    seen = random_splits(geometry, _fitting(expert_batch(geometry.image_size), adds, device))
    along = make_stream(seen, _in_memory(config.augment), config.seed, device)
    forward = _forward(teacher.network, seen, along.normalise, device, seconds / 4)
    expert = Expert(teacher.network, config.teachers.recipe.precision)
    view = along.plan(0)
    needed = [TeacherOutput("attention", layer) for layer in teacher.network.layers]
    outputs = _seconds(lambda: list(expert.outputs(along.batches(view, len(seen.train)), needed)), device, seconds / 4)
    outputs /= len(seen.train)
    return Speed(training, forward, outputs)


def _student(
    config: TrialConfig, known: Mapping[str, Facts], geometry: Geometry, device: torch.device, seconds: float
) -> Speed:
    adds = known[config.student].multiply_adds
    heavier = adds + known[config.teacher].multiply_adds
    batch = _fitting(config.train.batch_size, _BACKWARD * heavier, device)
    splits = random_splits(geometry, batch)
    stream = make_stream(splits, _in_memory(config.augment), config.seed, device)
    method = make_method(config.method)
    recipe = dataclasses.replace(config.train, precision=resolve_precision(config.train.precision, device))
    config = dataclasses.replace(config, train=recipe)
    step = new_step(
        config, method, geometry, splits.train.labels, device, lambda: untrained_expert(config, geometry, device)
    )
    plan, lesson = stream.plan(0), lesson_of(config, method.needs, stream, splits, device)
    training = _seconds(lambda: step(lesson), device, seconds / 2)
    training += _seconds(lambda: stream.views(plan, 0, batch), device, seconds / 4)
    seen = random_splits(geometry, _fitting(_EVALUATION_BATCH, adds, device))
    return Speed(training / batch, _forward(step.student, seen, stream.normalise, device, seconds / 4))


def lesson_of(config: TrialConfig, needs: Needs, stream: Stream, splits: Splits, device: torch.device) -> Lesson:
    """Returns a lesson with all needed outputs, from untrained teachers."""
    scratch = _scratch(config, splits.geometry, device, needs.average) if needs.any_scratch else None

    def expert(_: int) -> Expert:
        return Expert(untrained_expert(config, splits.geometry, device), config.teachers.recipe.precision)

    teachers = LiveTeachers(stream, len(splits.train), scratch, expert if needs.expert else None, needs.expert)
    return next(teachers.lessons(0))


def untrained_expert(config: TrialConfig, geometry: Geometry, device: torch.device) -> TappedNetwork:
    """Returns an expert's network."""
    return _network(config.teacher, geometry, device).eval().requires_grad_(False)


def _scratch(config: TrialConfig, geometry: Geometry, device: torch.device, averaged: bool = False) -> ScratchTeacher:
    network = _network(config.teacher, geometry, device)
    return ScratchTeacher(network, config.teachers.recipe, config.epochs, averaged=averaged)


def _network(name: str, geometry: Geometry, device: torch.device) -> TappedNetwork:
    """Returns a network with random weights: its speed is that of published weights."""
    return place(build(name, geometry, seed=0, published=False), device)


def _forward(
    network: TappedNetwork, splits: Splits, normalise: Normalise, device: torch.device, seconds: float
) -> float:
    images = splits.train
    return _seconds(lambda: evaluate(network, images, normalise, device), device, seconds) / len(images)


def _in_memory(augment: Augment) -> Augment:
    """Returns the augmentation without resized crops, which only image files have."""
    return dataclasses.replace(augment, resized_crop=None)


def _fitting(batch: int, adds: float, device: torch.device) -> int:
    """Returns the number of images of a batch that a CPU computes in a short time; a GPU computes all of them."""
    return batch if device.type == "cuda" else int(max(1, min(batch, _LARGEST_STEP // adds)))


def random_splits(geometry: Geometry, images: int) -> Splits:
    """Returns splits with a number of images of noise."""
    random = np.random.default_rng(0)
    side, channels = geometry.image_size, geometry.channels
    pixels = random.integers(0, 256, (images, side, side, channels), dtype=np.uint8)
    found = Images(pixels, random.integers(0, geometry.classes, images))
    names = tuple(map(str, range(geometry.classes)))
    return Splits(found, found[np.arange(0)], names, (127.5,) * channels, (64.0,) * channels, "noise")


def _seconds(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Returns the mean seconds of a few repetitions, after one for warming up.

    The mean, not the median: where the machine has other work too, its pauses are part of an epoch's time.

    Args:
        work: Does the work once.
        device: The device that computes it.
        seconds: After this long it is not repeated; where the first time took longer, that one counts.
    """
    began = time.monotonic()
    taken = []
    while True:
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - started)
        enough = len(taken) > _STEPS and sum(taken[1:]) > _ENOUGH
        if enough or time.monotonic() - began > seconds:
            return statistics.fmean(taken[1:] or taken)
