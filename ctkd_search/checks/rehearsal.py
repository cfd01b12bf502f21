"""A method at work beside untrained networks of a pair, with a lesson of noise."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from ctkd_search.checks.measure import lesson_of, random_splits, untrained_expert
from ctkd_search.config import Augment, MethodConfig, TrialConfig
from ctkd_search.distill.build import new_step
from ctkd_search.distill.lesson import Lesson, StudentOutput
from ctkd_search.distill.methods.base import Method, make_method
from ctkd_search.distill.recording import make_stream
from ctkd_search.distill.requests import TeacherOutput
from ctkd_search.distill.step import StudentStep
from ctkd_search.geometry import Geometry
from ctkd_search.models.network import TappedNetwork
from ctkd_search.pairs import Pair

CPU = torch.device("cpu")
_IMAGES = 8


def shown(output: TeacherOutput) -> str:
    """Returns a teacher output in words."""
    return f"the expert's {output.kind}" + (f" of layer {output.layer}" if output.layer else "")


class _Given(dict[TeacherOutput, Tensor]):
    """The expert's outputs of a lesson, which name what a method does not ask for."""

    def __missing__(self, output: TeacherOutput) -> Tensor:
        raise LookupError(f"it reads {shown(output)}, which needs does not name")


class Rehearsal:
    """A method beside untrained networks of a pair, with a lesson of noise.

    Args:
        config: The config of a trial, whose method, pair and seed are used.
        geometry: The images.
    """

    def __init__(self, config: TrialConfig, geometry: Geometry) -> None:
        recipe = dataclasses.replace(config.train, precision="float32", batch_size=_IMAGES, average=0.0)
        teachers = dataclasses.replace(
            config.teachers,
            recipe=dataclasses.replace(config.teachers.recipe, precision="float32", batch_size=_IMAGES),
        )
        self.config = dataclasses.replace(config, train=recipe, teachers=teachers, augment=Augment(), student_seed=0)
        self.geometry = geometry
        self.pair = str(Pair(config.teacher, config.student))

    def method(self, **changes: Any) -> Method:
        """Returns the method with some other values."""
        return make_method(MethodConfig(self.config.method.name, {**self.config.method.values, **changes}))

    def lesson(self, method: Method) -> Lesson:
        """Returns a lesson with what a method needs."""
        splits = random_splits(self.geometry, _IMAGES)
        stream = make_stream(splits, self.config.augment, self.config.seed, CPU)
        lesson = lesson_of(self.config, method.needs, stream, splits, CPU)
        return dataclasses.replace(lesson, expert_outputs=_Given(lesson.expert_outputs))

    def expert(self) -> TappedNetwork:
        """Returns an expert with the weights that it begins with."""
        return untrained_expert(self.config, self.geometry, CPU)

    def step(self, method: Method, expert: TappedNetwork | None = None) -> StudentStep:
        """Returns the first step of a student that learns by a method.

        Args:
            method: The method.
            expert: The expert, for methods whose training network contains it; None for a new one.
        """
        labels = random_splits(self.geometry, _IMAGES).train.labels
        return new_step(self.config, method, self.geometry, labels, CPU, lambda: expert or self.expert())

    def epochs(self) -> list[int]:
        """Returns the epochs that are looked at: the first, the last, and one between them."""
        last = self.config.epochs - 1
        return list(dict.fromkeys((0, last // 2, last)))


def terms(step: StudentStep, lesson: Lesson) -> dict[str, Tensor]:
    """Computes the terms of a method for a lesson, without a step."""
    step.network.train()
    output = StudentOutput(*step.network(lesson.images))
    return step.method.terms(output._replace(logits=output.logits.float()), lesson)


def loss(found: dict[str, Tensor]) -> Tensor:
    """Computes the sum of terms."""
    return sum(found.values(), torch.zeros(()))
