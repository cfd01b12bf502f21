"""Declarations of the teacher outputs that methods need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class TeacherOutput(NamedTuple):
    """An output of the expert at every position of the stream.

    Attributes:
        kind: ``logits``, shape (batch, classes); ``attention``, the attention map of a layer, shape
            (batch, height · width); ``statistics``, mean and variance of each channel of a layer's feature map over its
            positions, shape (batch, 2, channels); ``embedding``, the vector that the classifier makes the logits from,
            shape (batch, width); or ``features``, a layer's feature map itself, shape (batch, channels, height, width).
            All but features are recorded and replayed; features are too large, and the expert computes them in the
            trials.
        layer: Number of the feature map, from 1; 0 for the logits and the embedding.
    """

    kind: str
    layer: int = 0


ATTENTION = "attention"
LOGITS = TeacherOutput("logits")
EMBEDDING = TeacherOutput("embedding")
# Every kind of output, with whether it is that of a layer.
KINDS = {"logits": False, ATTENTION: True, "statistics": True, "embedding": False, "features": True}
# Kinds of outputs that are too large to be recorded.
COMPUTED = ("features",)


@dataclass(frozen=True)
class Needs:
    """The needs of a method: the teacher outputs and networks that its trials use.

    Attributes:
        scratch: Whether lessons must contain the scratch teacher's logits.
        expert: Outputs of the expert that lessons must contain.
        network: Whether the expert's network must be part of the training network.
        anchors: Shares of its training, in (0, 1], at which the expert's weights are taken instead of those at its end:
            each set is the expert for an equal stretch of the student's epochs, in this order. Empty for its end alone.
        average: Whether lessons must contain the logits of the running average of the scratch teacher's weights.
    """

    scratch: bool = False
    expert: tuple[TeacherOutput, ...] = ()
    network: bool = False
    anchors: tuple[float, ...] = ()
    average: bool = False

    @property
    def any_scratch(self) -> bool:
        """Returns whether a scratch teacher is needed at all."""
        return self.scratch or self.average

    @property
    def any_logits(self) -> bool:
        """Returns whether recorded logits of a teacher are needed."""
        return self.any_scratch or LOGITS in self.expert

    @property
    def any_expert(self) -> bool:
        """Returns whether an expert is needed at all."""
        return bool(self.expert) or self.network

    @property
    def attention(self) -> tuple[int, ...]:
        """Returns the layers whose attention maps are needed."""
        return tuple(output.layer for output in self.expert if output.kind == ATTENTION)

    def __or__(self, other: Needs) -> Needs:
        """Returns the union of two needs."""
        return Needs(
            self.scratch or other.scratch,
            tuple(dict.fromkeys((*self.expert, *other.expert))),
            self.network or other.network,
            tuple(sorted({*self.anchors, *other.anchors})),
            self.average or other.average,
        )
