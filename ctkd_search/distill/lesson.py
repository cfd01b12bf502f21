"""A batch with what the teachers return for it, and what the student returns for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ctkd_search.distill.requests import TeacherOutput

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Lesson:
    """One batch of the stream with what the teachers say about it.

    Attributes:
        images: Normalised images, shape (batch, channels, height, width).
        labels: Classes, shape (batch,).
        scratch_logits: The scratch teacher's logits at this very step, shape (batch, classes), or None.
        expert_outputs: What the expert says, by what it was asked for; see `TeacherOutput` for the shapes.
    """

    images: Tensor
    labels: Tensor
    scratch_logits: Tensor | None = None
    expert_outputs: Mapping[TeacherOutput, Tensor] = field(default_factory=dict)

    @property
    def scratch(self) -> Tensor:
        """The scratch teacher's logits, which the method has asked for."""
        if self.scratch_logits is None:
            raise TypeError("the lesson lacks the scratch teacher's logits")
        return self.scratch_logits


class StudentOutput(NamedTuple):
    """What the network that is trained says of a batch.

    Attributes:
        logits: Logits of the student, in float32, shape (batch, classes); what the training accuracy is measured on.
        maps: Feature maps of the student's stages, each of shape (batch, channels, height, width).
        more: Whatever else the method's own `Around` returns beside them, in the precision of the forward pass.
    """

    logits: Tensor
    maps: Sequence[Tensor]
    more: Any = None
