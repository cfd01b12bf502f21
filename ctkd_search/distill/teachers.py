"""The teachers, live or recorded, behind one interface: ``lessons(epoch)``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ctkd_search.data.stream import Plan, Stream, derived_seed
from ctkd_search.distill import losses, optimizers
from ctkd_search.distill.average import Average
from ctkd_search.distill.engine import autocast, drawing
from ctkd_search.distill.expert import Ensemble, Expert, expert_batch
from ctkd_search.distill.lesson import Lesson, plain_lessons
from ctkd_search.distill.requests import LOGITS, TeacherOutput
from ctkd_search.models.network import TappedNetwork
from ctkd_search.recipe import Recipe

# Horizon of the running average of the scratch teacher's weights, in epochs.
AVERAGE_HORIZON = 1.0


class Teachers(Protocol):
    """A source of lessons: teachers that are live or recorded."""

    @property
    def steps(self) -> int:
        """Number of lessons of an epoch."""
        ...

    def lessons(self, epoch: int) -> Iterator[Lesson]:
        """Yields the lessons of an epoch (from 0), in the order of the stream."""
        ...

    def spent(self) -> dict[str, float]:
        """Returns the seconds of the last epoch that serve other trials too, by metric (`ctkd_search.metrics`)."""
        ...

    def notes(self) -> list[str]:
        """Returns notes for the user about the last epoch's lessons, a sentence each."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Returns the state that is needed to resume after this epoch."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Loads a state."""
        ...


class ScratchTeacher:
    """A teacher network while it is trained from scratch; its last weights make an expert.

    It depends on the stream, its own recipe and its own seed, and not on the student.

    Args:
        network: The network with its initial weights, on the stream's device.
        recipe: Its training recipe.
        epochs: Epochs that its learning-rate schedule spans.
        seed: Seed of the random numbers that the network draws in training, as for dropout.
        class_weights: Weight of each class in the cross-entropy, shape (classes,), on the device; None for 1.
        averaged: Whether a running average of its weights is kept, whose logits are computed too. It changes nothing
            of the training.
    """

    def __init__(
        self,
        network: TappedNetwork,
        recipe: Recipe,
        epochs: int,
        seed: int = 0,
        class_weights: Tensor | None = None,
        averaged: bool = False,
    ) -> None:
        self.network = network
        self.recipe = recipe
        self.epochs = epochs
        self.seed = seed
        self.class_weights = class_weights
        self.optimizer = optimizers.make_optimizer(network, recipe)
        self.average = Average(network, AVERAGE_HORIZON) if averaged else None

    def train(self, lessons: Iterable[Lesson], epoch: int, steps: int) -> Iterator[list[Tensor]]:
        """Trains one epoch, one step for each item that is taken.

        Args:
            lessons: Lessons of the epoch with images and labels, in batches of its recipe's size.
            epoch: The epoch from 0, for the learning rate.
            steps: Batches of the epoch.

        Yields:
            Logits of the next positions of the stream, as they were before the step that learns from them, in
            float32 and detached; then those of the running average at that step, if there is one. Both normalise a
            batch by its own statistics: those of the first steps' running averages are far from any batch's.
        """
        self.network.train()
        for number, lesson in enumerate(lessons):
            optimizers.set_lr(self.optimizer, self.recipe.lr_at(epoch, self.epochs, number, steps))
            # A seed for each step: a student that draws random numbers between two steps must not change the teacher's.
            seed = derived_seed("teacher draws", self.seed, epoch, number)
            device = lesson.images.device
            averaged = [] if self.average is None else [self._averaged_logits(self.average, lesson.images, seed)]
            with drawing(device, seed), autocast(self.recipe.precision, device):
                logits, _ = self.network(lesson.images)
            logits = logits.float()
            self.optimizer.zero_grad(set_to_none=True)
            smoothing = self.recipe.label_smoothing
            lesson = dataclasses.replace(lesson, smoothing=smoothing, class_weights=self.class_weights)
            losses.cross_entropy(logits, lesson).backward()
            optimizers.step(self.optimizer, self.recipe.clip)
            if self.average is not None:
                self.average.follow(steps)
            yield [logits.detach(), *averaged]

    @torch.no_grad()
    def _averaged_logits(self, average: Average, images: Tensor, seed: int) -> Tensor:
        """Returns the logits of the running average, which draws the same random numbers as the network itself."""
        with average.in_place(), drawing(images.device, seed), autocast(self.recipe.precision, images.device):
            logits: Tensor = self.network(images)[0].float()
            return logits

    def state_dict(self) -> dict[str, Any]:
        """Returns weights, optimizer state, and the running average of the weights if there is one."""
        state = {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}
        if self.average is not None:
            state["average"] = {"weights": self.average.weights, "count": self.average.count}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Loads a state."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load(**state["average"])


class LiveTeachers:
    """Teachers that are computed while the student trains: the scratch teacher is trained with it, as in the paper.

    Scratch teacher and student each go through the stream in batches of their own size; a lesson is yielded as soon as
    the scratch teacher has trained on all of its positions.

    Args:
        stream: Stream of both.
        batch_size: The student's batch size.
        scratch: The scratch teacher, or None if its logits are not needed.
        expert: Returns the expert of an epoch (from 0); None if no outputs of it are needed.
        outputs: Outputs of the expert that are needed.
    """

    def __init__(
        self,
        stream: Stream,
        batch_size: int,
        scratch: ScratchTeacher | None,
        expert: Callable[[int], Expert | Ensemble] | None,
        outputs: Sequence[TeacherOutput],
    ) -> None:
        self.stream = stream
        self.batch_size = batch_size
        self.scratch = scratch
        self.expert = expert
        self.outputs = tuple(outputs)

    @property
    def steps(self) -> int:
        """Number of lessons of an epoch."""
        return self.stream.steps(self.batch_size)

    def lessons(self, epoch: int) -> Iterator[Lesson]:
        """Yields the lessons of an epoch; taking them trains the scratch teacher."""
        stream, plan = self.stream, self.stream.plan(epoch)
        scratch = expert = None
        if self.scratch:
            size = self.scratch.recipe.batch_size
            scratch = Rechunked(self.scratch.train(plain_lessons(stream, plan, size), epoch, stream.steps(size)))
        if self.expert:
            batches = stream.batches(plan, expert_batch(stream.size))
            expert = Rechunked(self.expert(epoch).outputs(batches, self.outputs))
        for lesson in plain_lessons(stream, plan, self.batch_size):
            count = len(lesson.labels)
            logits, averaged, *_ = [*(scratch.take(count) if scratch else []), None, None]
            yield dataclasses.replace(
                lesson,
                scratch_logits=logits,
                average_logits=averaged,
                expert_outputs=dict(zip(self.outputs, expert.take(count), strict=True)) if expert else {},
            )

    def spent(self) -> dict[str, float]:
        """Returns nothing: live teachers serve no other trial."""
        return {}

    def notes(self) -> list[str]:
        """Returns no notes."""
        return []

    def state_dict(self) -> dict[str, Any]:
        """Returns the scratch teacher's state; the expert never changes."""
        return {"scratch": self.scratch.state_dict()} if self.scratch else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Loads the scratch teacher's state."""
        if self.scratch:
            self.scratch.load_state_dict(state["scratch"])


class Recording(Protocol):
    """A source of recorded outputs; see `ctkd_search.distill.recorded`."""

    def logits(self, epoch: int) -> Tensor | None:
        """Returns the scratch teacher's logits at every position of an epoch, or None if they are not needed."""
        ...

    def average(self, epoch: int) -> Tensor | None:
        """Returns those of the running average of its weights, or None if they are not needed."""
        ...

    def expert_outputs(self, epoch: int, plan: Plan) -> Mapping[TeacherOutput, Tensor] | Iterator[list[Tensor]]:
        """Returns the expert's outputs at every position, or, if they are not recorded, a few positions at a time."""
        ...

    def numbers(self, output: TeacherOutput, rows: Tensor) -> Any:
        """Returns a teacher's outputs at some positions in float32, from rows as they are recorded."""
        ...

    def spent(self) -> dict[str, float]:
        """Returns the time spent since the last call that serves other trials too, by metric."""
        ...

    def notes(self) -> list[str]:
        """Returns notes for the user."""
        ...


class RecordedTeachers:
    """Teachers whose outputs are replayed: the lessons of `LiveTeachers`, without computing them.

    Args:
        stream: The stream.
        batch_size: The student's batch size; any, because recordings are addressed by position.
        recording: Outputs recorded along the stream.
        outputs: Outputs of the expert that are needed.
    """

    def __init__(self, stream: Stream, batch_size: int, recording: Recording, outputs: Sequence[TeacherOutput]) -> None:
        self.stream = stream
        self.batch_size = batch_size
        self.recording = recording
        self.outputs = tuple(outputs)

    @property
    def steps(self) -> int:
        """Number of lessons of an epoch."""
        return self.stream.steps(self.batch_size)

    def lessons(self, epoch: int) -> Iterator[Lesson]:
        """Yields the lessons of an epoch."""
        plan = self.stream.plan(epoch)
        recorded = self.recording.logits(epoch), self.recording.average(epoch)
        kept = self.recording.expert_outputs(epoch, plan) if self.outputs else {}
        computed = Rechunked(() if isinstance(kept, Mapping) else kept)
        spans = self.stream.spans(self.batch_size)
        for (start, stop), lesson in zip(spans, plain_lessons(self.stream, plan, self.batch_size), strict=True):
            if isinstance(kept, Mapping):
                rows = [kept[output][start:stop] for output in self.outputs]
            else:
                rows = computed.take(stop - start)
            expert = {
                output: self.recording.numbers(output, row) for output, row in zip(self.outputs, rows, strict=True)
            }
            scratch, average = (
                None if logits is None else self.recording.numbers(LOGITS, logits[start:stop]) for logits in recorded
            )
            yield dataclasses.replace(lesson, scratch_logits=scratch, average_logits=average, expert_outputs=expert)

    def spent(self) -> dict[str, float]:
        """Returns the seconds of recording, and of waiting for another process that records."""
        return self.recording.spent()

    def notes(self) -> list[str]:
        """Returns the recording's notes."""
        return self.recording.notes()

    def state_dict(self) -> dict[str, Any]:
        """Returns nothing: recordings do not change."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Does nothing: there is no state."""


class Rechunked:
    """Regroups tensors that arrive in pieces of one length into pieces of another.

    Args:
        source: Lists of tensors, all of the same first dimension.
    """

    def __init__(self, source: Iterable[list[Tensor]]) -> None:
        self._source = iter(source)
        self._waiting: list[list[Tensor]] = []

    def take(self, count: int) -> list[Tensor]:
        """Returns the next `count` rows of each tensor."""
        while sum(len(piece[0]) for piece in self._waiting) < count:
            self._waiting.append(next(self._source))
        joined = [torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*self._waiting, strict=True)]
        self._waiting = [[tensor[count:] for tensor in joined]]
        return [tensor[:count] for tensor in joined]
