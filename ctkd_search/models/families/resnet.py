"""CIFAR ResNets (He et al., arXiv 1512.03385): ``resnetDEPTH``, and ``resnetDEPTHx4`` with wider stages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ctkd_search.models.registry import Family, Geometry, Tap

if TYPE_CHECKING:
    from ctkd_search.models.network import TappedNetwork

_STRIDES = (1, 2, 2)
_DEPTHS = (8, 14, 20, 32, 44, 56, 110)


def _numbers(match: re.Match[str]) -> tuple[int, int, tuple[int, int, int]]:
    """Blocks a stage, channels of the stem, and channels of the three stages."""
    depth = int(match["depth"])
    if depth not in _DEPTHS:
        allowed = ", ".join(map(str, _DEPTHS))
        raise ValueError(f"the depth must be one of {allowed}, but got {depth}")
    if match["wide"]:
        return (depth - 2) // 6, 32, (64, 128, 256)
    return (depth - 2) // 6, 16, (16, 32, 64)


def _taps(match: re.Match[str]) -> tuple[Tap, ...]:
    _, _, widths = _numbers(match)
    return tuple(Tap(width, stride) for width, stride in zip(widths, (1, 2, 4), strict=True))


def _make(match: re.Match[str], geometry: Geometry) -> TappedNetwork:
    from torch import nn

    from ctkd_search.models.network import PostActivationBlock, TappedNetwork, conv3x3, stage_of

    blocks, inputs, widths = _numbers(match)
    stem = nn.Sequential(conv3x3(geometry.channels, inputs), nn.BatchNorm2d(inputs), nn.ReLU())
    stages = []
    for outputs, stride in zip(widths, _STRIDES, strict=True):
        stages.append(stage_of(PostActivationBlock, blocks, inputs, outputs, stride))
        inputs = outputs
    return TappedNetwork(stem, stages, nn.Identity(), inputs, geometry.classes)


FAMILY = Family(
    pattern=re.compile(r"resnet(?P<depth>[1-9][0-9]{0,2})(?P<wide>x4)?"),
    form="resnetD (CIFAR ResNet of depth 8, 14, 20, 32, 44, 56 or 110) and resnetDx4 (its wide form, as in resnet8x4)",
    examples=("resnet8", "resnet20", "resnet56", "resnet110", "resnet8x4", "resnet32x4"),
    taps=_taps,
    make=_make,
)
