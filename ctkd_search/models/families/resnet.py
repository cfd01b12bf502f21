"""ResNets for small images (He et al., arXiv 1512.03385).

``resnet8`` to ``resnet110`` are the paper's CIFAR networks of three stages, ``resnet8x4`` their wide form as papers on
distillation have it, and ``resnet8x0.25`` a narrow one, for devices with little memory; ``resnet18`` to ``resnet152``
are its ImageNet networks of four stages, with a stem for small images: one 3x3 convolution and no pooling.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

from ctkd_search.geometry import Geometry
from ctkd_search.models.architecture import Blocks, Family, Tap
from ctkd_search.models.naming import IN_LAYERS, Naming, by_rules, counted

if TYPE_CHECKING:
    from ctkd_search.models.network import TappedNetwork

_THREE_STAGES = (8, 14, 20, 32, 44, 56, 110)
_FOUR_STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
# Channels of the stem of the networks of three stages, and the fewest that a narrow one has.
_STEM, _NARROWEST = 16, 2
# From this depth on, the networks of four stages have bottlenecks.
_BOTTLENECKS_FROM = 50


class _Plan(NamedTuple):
    """The numbers of a network: channels of the stem, blocks and channels of each stage, and the kind of block."""

    stem: int
    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    bottleneck: bool = False


def _plan(match: re.Match[str]) -> _Plan:
    depth, width = int(match["depth"]), match["width"]
    if depth in _FOUR_STAGES and width is None:
        bottleneck = depth >= _BOTTLENECKS_FROM
        widths = tuple(width * (4 if bottleneck else 1) for width in (64, 128, 256, 512))
        return _Plan(64, _FOUR_STAGES[depth], widths, bottleneck)
    if depth not in _THREE_STAGES:
        allowed = ", ".join(map(str, _THREE_STAGES if width else sorted((*_THREE_STAGES, *_FOUR_STAGES))))
        raise ValueError(f"the depth must be one of {allowed}, but got {depth}")
    blocks = ((depth - 2) // 6,) * 3
    if width == "4":
        return _Plan(32, blocks, (64, 128, 256))  # not four times the stem, as in RepDistiller
    stem = _STEM * float(width or 1)
    if stem < _NARROWEST or not stem.is_integer():
        raise ValueError(
            f"the width must be 4, or a multiple of 1/{_STEM} from {_NARROWEST / _STEM:g} to below 1, but got {width}"
        )
    return _Plan(int(stem), blocks, tuple(int(stem) * 2**stage for stage in range(3)))


def _taps(match: re.Match[str]) -> tuple[Tap, ...]:
    return tuple(Tap(width, 2**number) for number, width in enumerate(_plan(match).widths))


def _blocks(match: re.Match[str]) -> Blocks:
    plan = _plan(match)
    return Blocks(plan.stem, plan.blocks)


def _make(match: re.Match[str], geometry: Geometry) -> TappedNetwork:
    from torch import nn

    from ctkd_search.models.network import BottleneckBlock, PostActivationBlock, StagedNetwork, conv3x3, stage_of

    plan = _plan(match)
    inputs = plan.stem
    stem = nn.Sequential(conv3x3(geometry.channels, inputs), nn.BatchNorm2d(inputs), nn.ReLU())
    stages = []
    for number, (blocks, outputs) in enumerate(zip(plan.blocks, plan.widths, strict=True)):
        block = BottleneckBlock if plan.bottleneck else PostActivationBlock
        stages.append(stage_of(block, blocks, inputs, outputs, stride=2 if number else 1))
        inputs = outputs
    return StagedNetwork(stem, stages, nn.Identity(), inputs, geometry.classes)


def _naming(source: str, shortcut: str, classifier: str) -> Naming:
    """Names that differ in those of the shortcuts and of the classifier alone."""
    return Naming(
        source,
        by_rules(
            (r"stem\.0\.", "conv1."),
            (r"stem\.1\.", "bn1."),
            IN_LAYERS,
            (
                r"stages\.(\d+)\.(\d+)\.shortcut\.(\d)\.",
                lambda match: f"layer{counted(match[1])}.{match[2]}.{shortcut}.{match[3]}.",
            ),
            (r"classifier\.", f"{classifier}."),
        ),
    )


_THREE_STAGE_NAMINGS = (
    _naming("RepDistiller and mdistiller", "downsample", "fc"),
    _naming("pytorch_resnet_cifar10 with shortcuts of option B", "shortcut", "linear"),
)
_FOUR_STAGE_NAMINGS = (
    _naming("RepDistiller, mdistiller and kuangliu/pytorch-cifar", "shortcut", "linear"),
    Naming(
        "weiaicunzai/pytorch-cifar100",
        by_rules(
            (r"stem\.", "conv1."),
            # A sequence of a convolution, its normalisation and a ReLU, as often as there are convolutions.
            (
                r"stages\.(\d+)\.(\d+)\.(conv|norm)(\d)\.",
                lambda match: (
                    f"conv{int(match[1]) + 2}_x.{match[2]}.residual_function."
                    f"{3 * int(match[4]) - 3 + (match[3] == 'norm')}."
                ),
            ),
            (
                r"stages\.(\d+)\.(\d+)\.shortcut\.",
                lambda match: f"conv{int(match[1]) + 2}_x.{match[2]}.shortcut.",
            ),
            (r"classifier\.", "fc."),
        ),
    ),
)


def _namings(match: re.Match[str]) -> tuple[Naming, ...]:
    return _FOUR_STAGE_NAMINGS if len(_plan(match).widths) == 4 else _THREE_STAGE_NAMINGS


def _differs(match: re.Match[str], names: Collection[str], geometry: Geometry) -> str | None:
    if "layer2.0.conv1.weight" not in names:
        return None
    if not any(name.startswith(("layer2.0.downsample.", "layer2.0.shortcut.")) for name in names):
        return (
            "its shortcuts have no weights, so that they pad with zeros (option A), and this network has a convolution "
            "there (option B)"
        )
    if len(_plan(match).widths) == 4 and "layer2.0.downsample.0.weight" in names:
        return (
            "its names are torchvision's, whose ResNets have a max-pooling in the stem that this one has not; take "
            f"torchvision/{match[0]} as the teacher"
        )
    return None


FAMILY = Family(
    pattern=re.compile(r"resnet(?P<depth>[1-9][0-9]{0,2})(?:x(?P<width>4|0\.[0-9]{1,4}))?"),
    form=(
        "resnetD (ResNet for small images: depth 8, 14, 20, 32, 44, 56 or 110 with three stages; 18, 34, 50, 101 or "
        "152 with four, from 64 channels on), resnetDx4 (three stages, four times as wide, as in resnet8x4) and "
        "resnetDxW (three stages, W times as wide with W below 1, as in resnet8x0.25)"
    ),
    examples=(
        "resnet8",
        "resnet20",
        "resnet56",
        "resnet110",
        "resnet8x4",
        "resnet32x4",
        "resnet8x0.25",
        "resnet18",
        "resnet50",
    ),
    taps=_taps,
    make=_make,
    blocks=_blocks,
    members=(
        *(f"resnet{depth}{width}" for width in ("", "x4", "x0.25") for depth in _THREE_STAGES),
        *(f"resnet{depth}" for depth in _FOUR_STAGES),
    ),
    namings=_namings,
    differs=_differs,
)
