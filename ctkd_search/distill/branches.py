"""Branches on a network's feature maps, which learn with it: what TESKD trains (Li et al., arXiv 2110.00329)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctkd_search.distill.training_network import TrainingNetwork
from ctkd_search.models.architecture import MapShape
from ctkd_search.models.network import TappedNetwork, conv1x1


class Branched(NamedTuple):
    """The outputs of the branches for a batch, in the precision of the forward pass.

    Attributes:
        logits: Logits of each branch, each of shape (batch, classes).
        features: Input of each branch's classifier, each of shape (batch, width); as wide as the backbone's.
        backbone: The backbone's pooled features, shape (batch, width).
    """

    logits: list[Tensor]
    features: list[Tensor]
    backbone: Tensor


class Branches(TrainingNetwork):
    """A backbone with a top-down path over its feature maps, and a classifier on every map of that path but the first.

    With s_k the map of stage k of K, and laterals, ups and fuses 1x1 convolutions, each with BN and ReLU:

        t_K = lateral_K(s_K);  u = up(t_{k+1}), upsampled to the size of s_k;  t_k = fuse([u + lateral_k(s_k), u])

    for k = K - 1, ..., 1. The head on t_k is a convolution that brings it to the size of s_K, a 1x1 convolution (both
    with a bias, BN and ReLU), global average pooling and a linear layer. All of it is for training alone.

    Args:
        student: The backbone.
        shapes: Its feature maps, first stage first; at least two.
        classes: Number of classes.
        width: Channels of the path and of the heads.
    """

    def __init__(self, student: TappedNetwork, shapes: Sequence[MapShape], classes: int, width: int) -> None:
        super().__init__(student)
        classifier = getattr(student, "classifier", None)
        pooled = shapes[-1].channels if classifier is None else classifier.in_features
        self.laterals = nn.ModuleList(_pointwise(shape.channels, width) for shape in shapes)
        self.ups = nn.ModuleList(_pointwise(width, width) for _ in shapes[1:])
        self.fuses = nn.ModuleList(_pointwise(2 * width, width) for _ in shapes[1:])
        self.heads = nn.ModuleList(_head(width, pooled, max(1, shape.side // shapes[-1].side)) for shape in shapes[:-1])
        self.classifiers = nn.ModuleList(nn.Linear(pooled, classes) for _ in shapes[1:])

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor], Branched]:
        """Classifies a batch by the backbone and by every branch, the deepest first."""
        logits, maps, backbone = self._backbone(images)
        branch_logits: list[Tensor] = []
        features: list[Tensor] = []
        top = self.laterals[-1](maps[-1])
        for stage in reversed(range(len(maps) - 1)):
            size = maps[stage].shape[-2:]
            up = self.ups[stage](F.interpolate(top, size=size, mode="bilinear", align_corners=True))
            top = self.fuses[stage](torch.cat([up + self.laterals[stage](maps[stage]), up], dim=1))
            features.append(self.heads[stage](top).mean(dim=(2, 3)))
            branch_logits.append(self.classifiers[stage](features[-1]))
        return logits, maps, Branched(branch_logits, features, backbone)

    def _backbone(self, images: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Returns logits, maps, and the pooled features."""
        if getattr(self.student, "classifier", None) is None:
            # A network of a library or of the user's, whose pooling has no state.
            logits, maps = self.student(images)
            return logits, maps, self.student.embed(maps[-1])
        return self.student.with_embedding(images)


def _pointwise(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(conv1x1(inputs, outputs), nn.BatchNorm2d(outputs), nn.ReLU())


def _head(width: int, outputs: int, step: int) -> nn.Sequential:
    """Returns layers from a map to the last one's size, `step` times smaller, from one width to another."""
    return nn.Sequential(
        nn.Conv2d(width, width, step, stride=step),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, outputs, 1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )
