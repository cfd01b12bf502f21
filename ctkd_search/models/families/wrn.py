"""Wide ResNets (Zagoruyko & Komodakis, arXiv 1605.07146): ``wrn-DEPTH-WIDTH``."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from ctkd_search.geometry import Geometry
from ctkd_search.models.architecture import Blocks, Family, Tap
from ctkd_search.models.naming import Naming, by_rules, counted

if TYPE_CHECKING:
    from ctkd_search.models.network import TappedNetwork

_STEM, _STRIDES = 16, (1, 2, 2)


def _numbers(match: re.Match[str]) -> tuple[int, tuple[int, int, int]]:
    depth, widening = int(match["depth"]), int(match["width"])
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"the depth must be 6n + 4 (10, 16, 22, 28, 34, 40, ...), but got {depth}")
    if widening < 1:
        raise ValueError(f"the width must be at least 1, but got {widening}")
    return (depth - 4) // 6, (16 * widening, 32 * widening, 64 * widening)


def _taps(match: re.Match[str]) -> tuple[Tap, ...]:
    _, widths = _numbers(match)
    return tuple(Tap(width, stride) for width, stride in zip(widths, (1, 2, 4), strict=True))


def _blocks(match: re.Match[str]) -> Blocks:
    blocks, _ = _numbers(match)
    return Blocks(_STEM, (blocks,) * len(_STRIDES))


def _make(match: re.Match[str], geometry: Geometry) -> TappedNetwork:
    from torch import nn

    from ctkd_search.models.network import PreActivationBlock, StagedNetwork, conv3x3, stage_of

    blocks, widths = _numbers(match)
    stages, inputs = [], _STEM
    for outputs, stride in zip(widths, _STRIDES, strict=True):
        stages.append(stage_of(PreActivationBlock, blocks, inputs, outputs, stride))
        inputs = outputs
    head = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU())
    return StagedNetwork(conv3x3(geometry.channels, _STEM), stages, head, inputs, geometry.classes)


_NAMING = Naming(
    "RepDistiller and mdistiller",
    by_rules(
        (r"stem\.", "conv1."),
        (
            r"stages\.(\d+)\.(\d+)\.(conv|norm)(\d)\.",
            lambda match: (
                f"block{counted(match[1])}.layer.{match[2]}.{'bn' if match[3] == 'norm' else 'conv'}{match[4]}."
            ),
        ),
        (
            r"stages\.(\d+)\.(\d+)\.shortcut\.",
            lambda match: f"block{counted(match[1])}.layer.{match[2]}.convShortcut.",
        ),
        (r"head\.0\.", "bn1."),
        (r"classifier\.", "fc."),
    ),
)


def _differs(match: re.Match[str], names: Collection[str], geometry: Geometry) -> str | None:
    """Recognises Wide ResNets with as many weights whose shortcuts take the input unnormalised, as torchdistill's."""
    if any(re.fullmatch(r"layer\d\.0\.shortcut\.0\.weight", name) for name in names):
        return (
            "a Wide ResNet with stages called layer1 to layer3, as in torchdistill, does not normalise the input of "
            "its shortcuts, and this one does"
        )
    return None


FAMILY = Family(
    pattern=re.compile(r"wrn-(?P<depth>[1-9][0-9]{0,2})-(?P<width>0|[1-9][0-9]?)"),
    form="wrn-D-K (Wide ResNet of depth D = 6n + 4 and width K, as in wrn-40-2)",
    examples=("wrn-16-1", "wrn-16-2", "wrn-40-1", "wrn-40-2", "wrn-28-10"),
    taps=_taps,
    make=_make,
    blocks=_blocks,
    members=tuple(f"wrn-{depth}-{width}" for depth in (10, 16, 22, 28, 34, 40) for width in (1, 2, 4, 8, 10)),
    namings=lambda match: (_NAMING,),
    differs=_differs,
)
