"""What methods ask of the teachers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class TeacherOutput(NamedTuple):
    """Something that the expert is asked for, at every position of the stream.

    Attributes:
        kind: ``logits``, shape (batch, classes); ``attention``, the attention map of a layer, shape
            (batch, height · width); ``statistics``, mean and variance of each channel of a layer's feature map over its
            positions, shape (batch, 2, channels); or ``features``, that map itself, shape
            (batch, channels, height, width). All are recorded and replayed but features, which are too large: the
            expert computes them in the trials.
        layer: Which feature map, from 1; 0 for the logits.
    """

    kind: str
    layer: int = 0


LOGITS = TeacherOutput("logits")
# Kinds of requests that are too large to be recorded.
COMPUTED = ("features",)


@dataclass(frozen=True)
class Needs:
    """What a method needs of the teachers.

    Attributes:
        scratch: Whether lessons must bring the scratch teacher's logits.
        expert: What lessons must bring of the expert.
        network: Whether the expert's network itself must stand in the training network.
        anchors: Shares of its training, in (0, 1], at which the expert's weights are taken instead of those at its end:
            each set is the expert for an equal stretch of the student's epochs, in this order. Empty for its end alone.
    """

    scratch: bool = False
    expert: tuple[TeacherOutput, ...] = ()
    network: bool = False
    anchors: tuple[float, ...] = ()

    @property
    def any_expert(self) -> bool:
        """Whether an expert is needed at all."""
        return bool(self.expert) or self.network

    @property
    def attention(self) -> tuple[int, ...]:
        """The layers whose attention maps are asked for."""
        return tuple(request.layer for request in self.expert if request.kind == "attention")

    def __or__(self, other: Needs) -> Needs:
        """What either of two needs."""
        return Needs(
            self.scratch or other.scratch,
            tuple(dict.fromkeys((*self.expert, *other.expert))),
            self.network or other.network,
            tuple(sorted({*self.anchors, *other.anchors})),
        )
