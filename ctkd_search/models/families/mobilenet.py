"""MobileNetV2 for small images (Sandler et al., arXiv 1801.04381): ``mobilenetv2-WIDTH``.

As the distillation papers compare on it since arXiv 1910.10699, which run ``mobilenetv2-0.5``: the paper's network with
one stride less, ReLU without its ceiling, and maps after the second, third, fifth and last group of blocks.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from ctkd_search.geometry import Geometry
from ctkd_search.models.architecture import Blocks, Family, Tap
from ctkd_search.models.naming import Naming, by_rules

if TYPE_CHECKING:
    from torch import nn

    from ctkd_search.models.network import TappedNetwork


class _Group(NamedTuple):
    """A group of blocks: how much each widens inside, its channels at width 1, how many, and the first one's stride."""

    expansion: int
    channels: int
    blocks: int
    stride: int


# By stage; a stage's output is tapped.
_STAGES = (
    (_Group(1, 16, 1, 1), _Group(6, 24, 2, 1)),
    (_Group(6, 32, 3, 2),),
    (_Group(6, 64, 4, 2), _Group(6, 96, 3, 1)),
    (_Group(6, 160, 3, 2), _Group(6, 320, 1, 1)),
)
_STEM, _LAST = 32, 1280


def _width(match: re.Match[str]) -> float:
    width = float(match["width"])
    if not 0.1 <= width <= 4:
        raise ValueError(f"the width must be from 0.1 to 4, but got {match['width']}")
    return width


def _taps(match: re.Match[str]) -> tuple[Tap, ...]:
    width = _width(match)
    return tuple(Tap(int(stage[-1].channels * width), 2 ** (number + 1)) for number, stage in enumerate(_STAGES))


def _blocks(match: re.Match[str]) -> Blocks:
    return Blocks(int(_STEM * _width(match)), tuple(sum(group.blocks for group in stage) for stage in _STAGES))


def _last(match: re.Match[str]) -> int:
    """Returns the channels after the last convolution, which are no fewer at smaller widths."""
    return int(_LAST * max(1.0, _width(match)))


def _make(match: re.Match[str], geometry: Geometry) -> TappedNetwork:
    from torch import nn

    from ctkd_search.models.network import StagedNetwork, conv1x1, conv3x3

    width = _width(match)
    inputs, last = int(_STEM * width), _last(match)
    stem = nn.Sequential(conv3x3(geometry.channels, inputs, stride=2), nn.BatchNorm2d(inputs), nn.ReLU())
    stages = []
    for groups in _STAGES:
        blocks = []
        for group in groups:
            outputs = int(group.channels * width)
            for number in range(group.blocks):
                blocks.append(_block(inputs, outputs, group.expansion, 1 if number else group.stride))
                inputs = outputs
        stages.append(nn.Sequential(*blocks))
    head = nn.Sequential(conv1x1(inputs, last), nn.BatchNorm2d(last), nn.ReLU())
    return StagedNetwork(stem, stages, head, last, geometry.classes)


def _block(inputs: int, outputs: int, expansion: int, stride: int) -> nn.Module:
    """An inverted residual: widen, depthwise convolution, narrow without a ReLU."""
    from torch import nn

    from ctkd_search.models.network import Residual, conv1x1

    inner = inputs * expansion
    body = nn.Sequential(
        conv1x1(inputs, inner),
        nn.BatchNorm2d(inner),
        nn.ReLU(),
        nn.Conv2d(inner, inner, 3, stride=stride, padding=1, groups=inner, bias=False),
        nn.BatchNorm2d(inner),
        nn.ReLU(),
        conv1x1(inner, outputs),
        nn.BatchNorm2d(outputs),
    )
    return Residual(body) if stride == 1 and inputs == outputs else body


# Group and place in it of each block of each stage: elsewhere, the groups are counted through.
_PLACES = [
    [
        (sum(map(len, _STAGES[:stage])) + number, place)
        for number, group in enumerate(groups)
        for place in range(group.blocks)
    ]
    for stage, groups in enumerate(_STAGES)
]


def _block_there(match: re.Match[str]) -> str:
    group, place = _PLACES[int(match["stage"])][int(match["block"])]
    return f"blocks.{group}.{place}.conv.{match['part']}."


_NAMING = Naming(
    "RepDistiller and mdistiller",
    by_rules(
        (r"stem\.", "conv1."),
        (r"stages\.(?P<stage>\d+)\.(?P<block>\d+)\.(?:body\.)?(?P<part>\d)\.", _block_there),
        (r"head\.", "conv2."),
        (r"classifier\.", "classifier.0."),
    ),
)

FAMILY = Family(
    pattern=re.compile(r"mobilenetv2-(?P<width>[0-9](?:\.[0-9]{1,2})?)"),
    form="mobilenetv2-W (MobileNetV2 for small images of width W, as in mobilenetv2-0.5)",
    examples=("mobilenetv2-0.5",),
    taps=_taps,
    make=_make,
    blocks=_blocks,
    embedding=_last,
    revision="2: depthwise convolutions begin with the variance of all channels",
    members=tuple(f"mobilenetv2-{width}" for width in ("0.5", "0.75", "1", "1.4")),
    namings=lambda match: (_NAMING,),
)
