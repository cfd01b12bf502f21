"""ShuffleNetV2 for small images (Ma et al., arXiv 1807.11164), of width 1: ``shufflenetv2``.

As the distillation papers compare on it since arXiv 1910.10699: a 1x1 stem that keeps the size, and no pooling before
the first stage.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ctkd_search.geometry import Geometry
from ctkd_search.models.architecture import Blocks, Family, Tap
from ctkd_search.models.naming import Naming, by_rules, counted

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


# Convolutions and normalisations of a branch, by their places here and by their names there.
_LEFT = {"0": "conv1", "1": "bn1", "2": "conv2", "3": "bn2"}
_RIGHT = {"0": "conv3", "1": "bn3", "3": "conv4", "4": "bn4", "5": "conv5", "6": "bn5"}
_BRANCH = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "5": "conv3", "6": "bn3"}
_PARTS = {"left": _LEFT, "right": _RIGHT, "branch": _BRANCH}
_NAMING = Naming(
    "RepDistiller and mdistiller",
    by_rules(
        (r"stem\.0\.", "conv1."),
        (r"stem\.1\.", "bn1."),
        (
            r"stages\.(\d+)\.(\d+)\.(left|right|branch)\.(\d)\.",
            lambda match: f"layer{counted(match[1])}.{match[2]}.{_PARTS[match[3]][match[4]]}.",
        ),
        (r"head\.0\.", "conv2."),
        (r"head\.1\.", "bn2."),
        (r"classifier\.", "linear."),
    ),
)

FAMILY = Family(
    pattern=re.compile(r"shufflenetv2"),
    form="shufflenetv2 (ShuffleNetV2 for small images, width 1)",
    examples=("shufflenetv2",),
    taps=_taps,
    make=_make,
    blocks=_blocks,
    embedding=lambda match: _LAST,
    revision="2: convolutions begin as torch draws them",
    members=("shufflenetv2",),
    namings=lambda match: (_NAMING,),
)
