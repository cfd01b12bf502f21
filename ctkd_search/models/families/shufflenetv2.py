"""ShuffleNetV2 for small images (Ma et al., arXiv 1807.11164), of width 1: ``shufflenetv2``.

As the distillation papers compare on it since arXiv 1910.10699: a 1x1 stem that keeps the size, and no pooling before
the first stage.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ctkd_search.models.registry import Blocks, Family, Geometry, Tap

if TYPE_CHECKING:
    from ctkd_search.models.network import TappedNetwork

_STEM, _LAST = 24, 1024
# Channels and blocks of the stages.
_STAGES = ((116, 4), (232, 8), (464, 4))


def _taps(match: re.Match[str]) -> tuple[Tap, ...]:
    return tuple(Tap(width, 2 ** (number + 1)) for number, (width, _) in enumerate(_STAGES))


def _blocks(match: re.Match[str]) -> Blocks:
    return Blocks(_STEM, tuple(count for _, count in _STAGES))


def _make(match: re.Match[str], geometry: Geometry) -> TappedNetwork:
    from torch import nn

    from ctkd_search.models.network import StagedNetwork, conv1x1
    from ctkd_search.models.shuffle import ShrinkingBlock, SplitBlock

    stem = nn.Sequential(conv1x1(geometry.channels, _STEM), nn.BatchNorm2d(_STEM), nn.ReLU())
    stages, inputs = [], _STEM
    for outputs, count in _STAGES:
        others = (SplitBlock(outputs) for _ in range(count - 1))
        stages.append(nn.Sequential(ShrinkingBlock(inputs, outputs), *others))
        inputs = outputs
    head = nn.Sequential(conv1x1(inputs, _LAST), nn.BatchNorm2d(_LAST), nn.ReLU())
    return StagedNetwork(stem, stages, head, _LAST, geometry.classes, redrawn=False)


FAMILY = Family(
    pattern=re.compile(r"shufflenetv2"),
    form="shufflenetv2 (ShuffleNetV2 for small images, width 1)",
    examples=("shufflenetv2",),
    taps=_taps,
    make=_make,
    blocks=_blocks,
    revision="2: convolutions begin as torch draws them",
)
