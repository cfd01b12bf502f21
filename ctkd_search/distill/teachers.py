"""The teachers, behind one interface: ``lessons(epoch)``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from ctkd_search.config import Recipe
from ctkd_search.data.stream import Plan, Stream
from ctkd_search.distill import losses
from ctkd_search.distill.optimizer import make_optimizer, set_lr
from ctkd_search.models.network import TappedNetwork


@dataclass(frozen=True)
class Lesson:
    """One batch of the stream with what the teachers say about it.

    Attributes:
        images: Normalised images, shape (batch, channels, height, width).
        labels: Classes, shape (batch,).
        scratch_logits: The scratch teacher's logits at this very step, shape (batch, classes), or None.
        expert_maps: The expert's attention maps by layer, each of shape (batch, height · width).
    """

    images: Tensor
    labels: Tensor
    scratch_logits: Tensor | None = None
    expert_maps: Mapping[int, Tensor] = field(default_factory=dict)


class Teachers(Protocol):
    """Where lessons come from, whether the teachers speak live or were recorded."""

    def lessons(self, epoch: int) -> Iterator[Lesson]:
        """The lessons of an epoch (from 0), in the order of the stream."""
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
    """

    def __init__(self, network: TappedNetwork, recipe: Recipe, epochs: int) -> None:
        self.network = network
        self.recipe = recipe
        self.epochs = epochs
        self.optimizer = make_optimizer(network, recipe)

    def train(self, stream: Stream, plan: Plan, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Trains one epoch, a step each time it is asked for more.

        Yields:
            Logits of the next positions of the stream, as they were before the step that learns from them, and
            the step's loss; both detached.
        """
        set_lr(self.optimizer, self.recipe.lr_at(epoch, self.epochs))
        for start, stop in stream.spans(self.recipe.batch_size):
            images, labels = stream.views(plan, start, stop)
            self.network.train()
            logits, _ = self.network(images)
            loss = losses.F.cross_entropy(logits, labels)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            yield logits.detach(), loss.detach()

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
        layers: The layers whose attention maps are asked for, from 1.
    """

    def __init__(self, network: TappedNetwork, layers: Sequence[int]) -> None:
        self.network = network.eval().requires_grad_(False)
        self.layers = tuple(layers)

    @torch.no_grad()
    def maps(self, images: Tensor) -> dict[int, Tensor]:
        """Its attention maps by layer, each of shape (batch, height · width)."""
        _, features = self.network(images)
        return {layer: losses.attention_map(features[layer - 1]) for layer in self.layers}


class LiveTeachers:
    """Teachers that speak while they work: the scratch teacher trains beside the student, as in the paper.

    The scratch teacher goes through the stream in batches of its own recipe, the student in its own; a student's
    batch is answered as soon as the scratch teacher has come far enough.

    Args:
        stream: The stream of both.
        batch_size: The student's batch size.
        scratch: The scratch teacher, or None if its logits are not needed.
        expert: The expert, or None if its maps are not needed.
    """

    def __init__(self, stream: Stream, batch_size: int, scratch: ScratchTeacher | None, expert: Expert | None) -> None:
        self.stream = stream
        self.batch_size = batch_size
        self.scratch = scratch
        self.expert = expert

    def lessons(self, epoch: int) -> Iterator[Lesson]:
        """The lessons of an epoch; going through them trains the scratch teacher."""
        plan = self.stream.plan(epoch)
        said = _Rechunked(self.scratch.train(self.stream, plan, epoch)) if self.scratch else None
        for start, stop in self.stream.spans(self.batch_size):
            images, labels = self.stream.views(plan, start, stop)
            yield Lesson(
                images,
                labels,
                scratch_logits=said.take(stop - start) if said else None,
                expert_maps=self.expert.maps(images) if self.expert else {},
            )

    def state_dict(self) -> dict[str, Any]:
        """The scratch teacher's state; the expert never changes."""
        return {"scratch": self.scratch.state_dict()} if self.scratch else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes up the scratch teacher's state."""
        if self.scratch:
            self.scratch.load_state_dict(state["scratch"])


class _Rechunked:
    """Logits that come in batches of one size, taken in batches of another."""

    def __init__(self, source: Iterator[tuple[Tensor, Tensor]]) -> None:
        self._source = source
        self._waiting: list[Tensor] = []

    def take(self, count: int) -> Tensor:
        while sum(map(len, self._waiting)) < count:
            logits, _ = next(self._source)
            self._waiting.append(logits)
        joined = torch.cat(self._waiting) if len(self._waiting) > 1 else self._waiting[0]
        self._waiting = [joined[count:]]
        return joined[:count]
