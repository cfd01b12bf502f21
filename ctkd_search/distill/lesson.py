"""A batch with what the teachers return for it, and what the student returns for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ctkd_search.distill.requests import TeacherOutput

if TYPE_CHECKING:
    from torch import Tensor

    from ctkd_search.data.stream import Plan, Stream


@dataclass(frozen=True)
class Lesson:
    """One batch of the stream with the outputs of the teachers for it.

    Where only the largest logits of the teachers are recorded, a `ctkd_search.distill.top_logits.KeptLogits` stands in
    the place of each tensor of logits.

    Attributes:
        images: Normalised images, shape (batch, channels, height, width).
        labels: Classes, shape (batch,); of mixed images, those of the images themselves.
        scratch_logits: The scratch teacher's logits at this step of its training, shape (batch, classes), or None.
        average_logits: Those of the running average of its weights at this step, same shape, or None.
        expert_outputs: Outputs of the expert; see `TeacherOutput` for the shapes.
        partners: Classes of the images that are mixed in, shape (batch,); None if images are not mixed.
        shares: Share of the image's own class in its label, float32, shape (batch,); the rest is the partner's.
        smoothing: Share of each label that is spread evenly over all classes, in [0, 1).
        class_weights: Weight of each class in the cross-entropy, float32, shape (classes,); None for 1.
        indices: Number of each image among the training images, from 0, int64, shape (batch,); None if not known.
    """

    images: Tensor
    labels: Tensor
    scratch_logits: Tensor | None = None
    expert_outputs: Mapping[TeacherOutput, Tensor] = field(default_factory=dict)
    partners: Tensor | None = None
    shares: Tensor | None = None
    smoothing: float | Tensor = 0.0
    class_weights: Tensor | None = None
    average_logits: Tensor | None = None
    indices: Tensor | None = None

    @property
    def scratch(self) -> Tensor:
        """Returns the scratch teacher's logits, which the method needs."""
        if self.scratch_logits is None:
            raise TypeError("the lesson lacks the scratch teacher's logits")
        return self.scratch_logits

    @property
    def scratch_average(self) -> Tensor:
        """Returns the logits of the scratch teacher's running average, which the method needs."""
        if self.average_logits is None:
            raise TypeError("the lesson lacks the logits of the scratch teacher's running average")
        return self.average_logits


def plain_lessons(stream: Stream, plan: Plan, batch_size: int) -> Iterator[Lesson]:
    """Returns the lessons of an epoch without any teacher.

    Args:
        stream: The stream.
        plan: Plan of the epoch.
        batch_size: Images in a lesson.
    """
    batches = stream.batches(plan, batch_size)  # before one is taken: readers of one plan share what is decoded

    def lessons() -> Iterator[Lesson]:
        for (start, stop), (images, labels) in zip(stream.spans(batch_size), batches, strict=True):
            partners, shares = stream.mixture(plan, start, stop) or (None, None)
            indices = plan.order[start:stop].to(stream.device, non_blocking=True)
            yield Lesson(images, labels, partners=partners, shares=shares, indices=indices)

    return lessons()


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
