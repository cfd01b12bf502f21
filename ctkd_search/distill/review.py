"""Review of a student's feature maps from the deepest to the first, and the distance of its results to the expert's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctkd_search.distill.training_network import Context, TrainingNetwork
from ctkd_search.models.network import TappedNetwork, conv1x1, conv3x3
from ctkd_search.models.registry import maps

# Most channels of what is passed on from level to level, as in the code of arXiv 2104.09044.
_MOST = 512
# Sides to which maps are averaged down.
_POOLED = (4, 2, 1)


class Level(NamedTuple):
    """A feature map that is reviewed, or the embedding as a map of one position.

    Attributes:
        own: Channels of the student's map.
        channels: Channels of the expert's.
        side: Side of the expert's.
    """

    own: int
    channels: int
    side: int


class Fusion(nn.Module):
    """Attention-based fusion: joins a level of the student with what the deeper levels passed on.

    Args:
        level: The level.
        width: Channels of what is passed on.
        deepest: Whether there is no deeper level.
    """

    def __init__(self, level: Level, width: int, deepest: bool) -> None:
        super().__init__()
        self.side = level.side
        convolutions = conv1x1(level.own, width), conv3x3(width, level.channels)
        for convolution in convolutions:
            nn.init.kaiming_uniform_(convolution.weight, a=1)
        self.enter = nn.Sequential(convolutions[0], nn.BatchNorm2d(width))
        self.leave = nn.Sequential(convolutions[1], nn.BatchNorm2d(level.channels))
        self.attention = None if deepest else nn.Conv2d(2 * width, 2, 1)

    def forward(self, features: Tensor, passed: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns the level in the shape of the expert's map, and what is passed on to the level before it."""
        joined: Tensor = self.enter(features)
        if self.attention is not None and passed is not None:
            passed = F.interpolate(passed, joined.shape[2:], mode="nearest")
            shares = self.attention(torch.cat([joined, passed], dim=1)).sigmoid()
            joined = joined * shares[:, :1] + passed * shares[:, 1:]
        if joined.shape[-1] != self.side:
            joined = F.interpolate(joined, (self.side, self.side), mode="nearest")
        return self.leave(joined), joined


class Reviewed(TrainingNetwork):
    """The student with a review of its maps; ``more`` of its `StudentOutput` is the list of reviewed levels.

    Each has the shape of the expert's: those of `layers`, and of the embedding behind them, as a map of one position.

    Args:
        student: The student.
        context: Both architectures, the images, and the seed of the initial weights.
        layers: Numbers of the maps that are reviewed, from 1, in ascending order.
        embedding: Whether the embedding is the deepest level.
    """

    def __init__(self, student: TappedNetwork, context: Context, layers: Sequence[int], embedding: bool) -> None:
        super().__init__(student)
        self.layers = tuple(layers)
        self.embedding = embedding
        shapes = maps(context.teacher.name, context.geometry)
        taps = [context.student.taps[layer - 1].channels for layer in self.layers]
        levels = [Level(own, *shapes[layer - 1]) for own, layer in zip(taps, self.layers, strict=True)]
        if embedding:
            if context.student.embedding is None or context.teacher.embedding is None:
                raise TypeError("a review of the embedding needs networks that have one")
            levels.append(Level(context.student.embedding, context.teacher.embedding, 1))
        width = min(_MOST, levels[-1].own)
        with context.seeded("review"):
            self.fusions = nn.ModuleList(Fusion(level, width, level is levels[-1]) for level in levels)

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Returns the student's logits and maps, and the reviewed levels."""
        if self.embedding:
            logits, features, embedding = self.student.with_embedding(images)
            behind = [embedding[:, :, None, None]]
        else:
            (logits, features), behind = self.student(images), []
        levels = [*(features[layer - 1] for layer in self.layers), *behind]
        found: list[Tensor] = []
        passed: Tensor | None = None
        for fusion, level in zip(reversed(self.fusions), reversed(levels), strict=True):
            reviewed, passed = fusion(level, passed)
            found.insert(0, reviewed)
        return logits, features, found


def context_distance(reviewed: Tensor, expert: Tensor) -> Tensor:
    """Hierarchical context loss of one level (arXiv 2104.09044, section 3.3, with the weights of its code).

    Args:
        reviewed: The student's reviewed level, shape (batch, channels, height, width), in any precision.
        expert: The expert's map, same shape; no gradient flows to it.

    Returns:
        The weighted mean of the mean squared differences of the maps as they are (weight 1), and averaged down to 4x4,
        2x2 and 1x1 positions (weights 1/2, 1/4, 1/8, of those that are smaller than the map); a scalar.
    """
    own, given = reviewed.float(), expert.detach()
    weight = total = 1.0
    distance = F.mse_loss(own, given)
    for side in _POOLED:
        if side < own.shape[2]:
            weight /= 2
            total += weight
            ours, theirs = (F.adaptive_avg_pool2d(each, (side, side)) for each in (own, given))
            distance = distance + weight * F.mse_loss(ours, theirs)
    return distance / total
