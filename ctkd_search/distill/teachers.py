"""The teachers, live or recorded, behind one interface: ``lessons(epoch)``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ctkd_search.config import Recipe
from ctkd_search.data.stream import Plan, Stream, derived_seed
from ctkd_search.distill import losses
from ctkd_search.distill.engine import autocast, drawing, make_optimizer, set_lr
from ctkd_search.distill.lesson import Lesson
from ctkd_search.distill.requests import TeacherOutput
from ctkd_search.models.network import TappedNetwork

# The expert looks at this many positions of the stream at a time, whatever the student's batch size: so its maps are
# the same to the last bit for every student, live and recorded.
EXPERT_BATCH = 256
# Images larger than these are looked at fewer at a time.
_SMALL = 64


def expert_batch(size: int) -> int:
    """How many images of a size the expert looks at a time."""
    return EXPERT_BATCH if size <= _SMALL else max(1, EXPERT_BATCH * _SMALL**2 // size**2)


class Teachers(Protocol):
    """Where lessons come from, whether the teachers speak live or were recorded."""

    def lessons(self, epoch: int) -> Iterator[Lesson]:
        """The lessons of an epoch (from 0), in the order of the stream."""
        ...

    def spent(self) -> dict[str, float]:
        """Returns the seconds of the last epoch that serve other trials too, by metric (`ctkd_search.metrics`)."""
        ...

    def notes(self) -> list[str]:
        """What the user should know about the last epoch's lessons, a sentence each."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Whatever must be kept to go on after this epoch."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up a kept state."""
        ...


class ScratchTeacher:
    """A teacher network while it is trained from scratch; its last weights make an expert.

    It depends on the stream, its own recipe and its own seed, and on nothing of the student.

    Args:
        network: The network with its initial weights, on the stream's device.
        recipe: How it is trained.
        epochs: How many epochs its learning-rate schedule spans.
        seed: Seed of what the network draws while it is trained, as dropout does.
    """

    def __init__(self, network: TappedNetwork, recipe: Recipe, epochs: int, seed: int = 0) -> None:
        self.network = network
        self.recipe = recipe
        self.epochs = epochs
        self.seed = seed
        self.optimizer = make_optimizer(network, recipe)

    def train(self, batches: Iterable[tuple[Tensor, Tensor]], epoch: int) -> Iterator[Tensor]:
        """Trains one epoch, a step each time it is asked for more.

        Args:
            batches: The epoch's views, in batches of its recipe's size.
            epoch: The epoch, for the learning rate.

        Yields:
            Logits of the next positions of the stream, as they were before the step that learns from them, in
            float32 and detached.
        """
        set_lr(self.optimizer, self.recipe.lr_at(epoch, self.epochs))
        self.network.train()
        for number, (images, labels) in enumerate(batches):
            # A seed for each step: what it draws must not depend on a student that draws beside it.
            seed = derived_seed("teacher draws", self.seed, epoch, number)
            with drawing(images.device, seed), autocast(self.recipe.precision, images.device):
                logits, _ = self.network(images)
            logits = logits.float()
            self.optimizer.zero_grad(set_to_none=True)
            losses.F.cross_entropy(logits, labels).backward()
            self.optimizer.step()
            yield logits.detach()

    def state_dict(self) -> dict[str, Any]:
        """Weights and optimizer."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up weights and optimizer."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])


class Expert:
    """A frozen, pre-trained teacher.

    Args:
        network: The network with its trained weights; it is put into evaluation mode and never changed.
        precision: The precision it computes in.
    """

    def __init__(self, network: TappedNetwork, precision: str) -> None:
        self.network = network.eval().requires_grad_(False)
        self.precision = precision

    @torch.no_grad()
    def says(
        self, batches: Iterable[tuple[Tensor, Tensor]], requests: Sequence[TeacherOutput]
    ) -> Iterator[list[Tensor]]:
        """What it says along an epoch of the stream.

        Args:
            batches: The epoch's views, `expert_batch` at a time.
            requests: What it is asked for.

        Yields:
            For the positions of the next batch, what each request asks for, in float32.
        """
        for images, _ in batches:
            with autocast(self.precision, images.device):
                logits, features = self.network(images)
            yield [_answer(request, logits, features) for request in requests]


def _answer(request: TeacherOutput, logits: Tensor, features: Sequence[Tensor]) -> Tensor:
    if request.kind == "logits":
        return logits.float()
    return _OF_FEATURES[request.kind](features[request.layer - 1])


_OF_FEATURES: dict[str, Callable[[Tensor], Tensor]] = {
    "attention": losses.attention_map,
    "statistics": losses.channel_statistics,
    "features": Tensor.float,
}


class LiveTeachers:
    """Teachers that speak while they work: the scratch teacher trains beside the student, as in the paper.

    The scratch teacher goes through the stream in batches of its own recipe, the student in its own; a student's
    batch is answered as soon as the scratch teacher has come far enough.

    Args:
        stream: The stream of both.
        batch_size: The student's batch size.
        scratch: The scratch teacher, or None if its logits are not needed.
        expert: Gives the expert of an epoch (from 0), or None if nothing is asked of it.
        requests: What it is asked for.
    """

    def __init__(
        self,
        stream: Stream,
        batch_size: int,
        scratch: ScratchTeacher | None,
        expert: Callable[[int], Expert] | None,
        requests: Sequence[TeacherOutput],
    ) -> None:
        self.stream = stream
        self.batch_size = batch_size
        self.scratch = scratch
        self.expert = expert
        self.requests = tuple(requests)

    def lessons(self, epoch: int) -> Iterator[Lesson]:
        """The lessons of an epoch; going through them trains the scratch teacher."""
        stream, plan = self.stream, self.stream.plan(epoch)
        said = seen = None
        if self.scratch:
            batches = stream.batches(plan, self.scratch.recipe.batch_size)
            said = Rechunked([logits] for logits in self.scratch.train(batches, epoch))
        if self.expert:
            batches = stream.batches(plan, expert_batch(stream.size))
            seen = Rechunked(self.expert(epoch).says(batches, self.requests))
        for images, labels in stream.batches(plan, self.batch_size):
            yield Lesson(
                images,
                labels,
                scratch_logits=said.take(len(labels))[0] if said else None,
                expert_outputs=dict(zip(self.requests, seen.take(len(labels)), strict=True)) if seen else {},
            )

    def spent(self) -> dict[str, float]:
        """Nothing: no other trial profits from what is computed here."""
        return {}

    def notes(self) -> list[str]:
        """Nothing."""
        return []

    def state_dict(self) -> dict[str, Any]:
        """The scratch teacher's state; the expert never changes."""
        return {"scratch": self.scratch.state_dict()} if self.scratch else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up the scratch teacher's state."""
        if self.scratch:
            self.scratch.load_state_dict(state["scratch"])


class Recording(Protocol):
    """What recorded teachers read from: see `ctkd_search.distill.recording`."""

    def logits(self, epoch: int) -> Tensor | None:
        """The scratch teacher's logits at every position of an epoch, or None if they are not needed."""
        ...

    def expert_outputs(self, epoch: int, plan: Plan) -> Mapping[TeacherOutput, Tensor] | Iterator[list[Tensor]]:
        """The expert's words by request at every position, or, where they are not kept, a few positions at a time."""
        ...

    def spent(self) -> dict[str, float]:
        """Returns what was spent since the last call that served other trials too, by metric."""
        ...

    def notes(self) -> list[str]:
        """What the user should know."""
        ...


class RecordedTeachers:
    """Teachers whose words are replayed: what `LiveTeachers` would say, without computing it.

    Args:
        stream: The stream.
        batch_size: The student's batch size. Lessons are addressed by position, so that it may be any.
        recording: What was recorded along the stream.
        requests: What the expert is asked for.
    """

    def __init__(
        self, stream: Stream, batch_size: int, recording: Recording, requests: Sequence[TeacherOutput]
    ) -> None:
        self.stream = stream
        self.batch_size = batch_size
        self.recording = recording
        self.requests = tuple(requests)

    def lessons(self, epoch: int) -> Iterator[Lesson]:
        """The lessons of an epoch."""
        plan = self.stream.plan(epoch)
        logits = self.recording.logits(epoch)
        kept = self.recording.expert_outputs(epoch, plan) if self.requests else {}
        computed = None if isinstance(kept, Mapping) else Rechunked(kept)
        spans = self.stream.spans(self.batch_size)
        for (start, stop), (images, labels) in zip(spans, self.stream.batches(plan, self.batch_size), strict=True):
            if computed:
                said = dict(zip(self.requests, computed.take(stop - start), strict=True))
            else:
                said = {request: kept[request][start:stop].float() for request in self.requests}  # type: ignore[index]
            yield Lesson(images, labels, None if logits is None else logits[start:stop].float(), said)

    def spent(self) -> dict[str, float]:
        """Returns what it took to record, or to wait for another process that records."""
        return self.recording.spent()

    def notes(self) -> list[str]:
        """What the recording has to say."""
        return self.recording.notes()

    def state_dict(self) -> dict[str, Any]:
        """Nothing: what was recorded does not change."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to take up."""


class Rechunked:
    """Tensors that come in pieces of one length, taken in pieces of another.

    Args:
        source: Gives lists of tensors, all of the same first dimension.
    """

    def __init__(self, source: Iterable[list[Tensor]]) -> None:
        self._source = iter(source)
        self._waiting: list[list[Tensor]] = []

    def take(self, count: int) -> list[Tensor]:
        """The next `count` rows of each tensor."""
        while sum(len(piece[0]) for piece in self._waiting) < count:
            self._waiting.append(next(self._source))
        joined = [torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*self._waiting, strict=True)]
        self._waiting = [[tensor[count:] for tensor in joined]]
        return [tensor[:count] for tensor in joined]
