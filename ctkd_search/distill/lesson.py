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
    """One batch of the stream with the outputs of the teachers for it.

    Attributes:
        images: Normalised images, shape (batch, channels, height, width).
        labels: Classes, shape (batch,).
        scratch_logits: The scratch teacher's logits at this step of its training, shape (batch, classes), or None.
        expert_outputs: Outputs of the expert; see `TeacherOutput` for the shapes.
    """

    images: Tensor
    labels: Tensor
    scratch_logits: Tensor | None = None
    expert_outputs: Mapping[TeacherOutput, Tensor] = field(default_factory=dict)

    @property
    def scratch(self) -> Tensor:
        """Returns the scratch teacher's logits, which the method needs."""
        if self.scratch_logits is None:
            raise TypeError("the lesson lacks the scratch teacher's logits")
        return self.scratch_logits


class StudentOutput(NamedTuple):
    """The output of the training network for a batch.

    Attributes:
        logits: Logits of the student, in float32, shape (batch, classes); the training accuracy is computed from them.
        maps: Feature maps of the student's stages, each of shape (batch, channels, height, width).
        more: Anything else that the method's `TrainingNetwork` returns, in the precision of the forward pass.
    """

    logits: Tensor
    maps: Sequence[Tensor]
    more: Any = None
