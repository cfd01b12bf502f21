"""ShuffleNet for small images (Zhang et al., arXiv 1707.01083), with three groups: ``shufflenetv1``.

As the distillation papers compare on it since arXiv 1910.10699: a 1x1 stem that keeps the size, and no pooling before
the first stage.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ctkd_search.geometry import Geometry
from ctkd_search.models.architecture import Blocks, Family, Tap
from ctkd_search.models.naming import IN_LAYERS, Naming, by_rules

if TYPE_CHECKING:
    from ctkd_search.models.network import TappedNetwork

_STEM, _GROUPS = 24, 3
# Channels and blocks of the stages.
_STAGES = ((240, 4), (480, 8), (960, 4))


def _taps(match: re.Match[str]) -> tuple[Tap, ...]:
    return tuple(Tap(width, 2 ** (number + 1)) for number, (width, _) in enumerate(_STAGES))


def _blocks(match: re.Match[str]) -> Blocks:
    return Blocks(_STEM, tuple(count for _, count in _STAGES))


def _make(match: re.Match[str], geometry: Geometry) -> TappedNetwork:
    from torch import nn

    from ctkd_search.models.network import StagedNetwork, conv1x1
    from ctkd_search.models.shuffle import GroupedBlock

    stem = nn.Sequential(conv1x1(geometry.channels, _STEM), nn.BatchNorm2d(_STEM), nn.ReLU())
    stages, inputs = [], _STEM
    for outputs, count in _STAGES:
        # The first convolution of all has too few channels to be cut into groups.
        first = GroupedBlock(inputs, outputs, 2, _GROUPS, 1 if inputs == _STEM else _GROUPS)
        others = (GroupedBlock(outputs, outputs, 1, _GROUPS, _GROUPS) for _ in range(count - 1))
        stages.append(nn.Sequential(first, *others))
        inputs = outputs
    return StagedNetwork(stem, stages, nn.Identity(), inputs, geometry.classes, redrawn=False)


_NAMING = Naming(
    "RepDistiller and mdistiller",
    by_rules((r"stem\.0\.", "conv1."), (r"stem\.1\.", "bn1."), IN_LAYERS, (r"classifier\.", "linear.")),
)

FAMILY = Family(
    pattern=re.compile(r"shufflenetv1"),
    form="shufflenetv1 (ShuffleNet for small images, three groups)",
    examples=("shufflenetv1",),
    taps=_taps,
    make=_make,
    blocks=_blocks,
    revision="2: convolutions begin as torch draws them",
    members=("shufflenetv1",),
    namings=lambda match: (_NAMING,),
)
