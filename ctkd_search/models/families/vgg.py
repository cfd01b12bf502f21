"""VGG for small images, with batch normalisation (Simonyan & Zisserman, arXiv 1409.1556): ``vggDEPTH``.

As the distillation papers compare on them since arXiv 1910.10699: five groups of 3x3 convolutions, max-pooling before
the second, third and fourth, and for images of 64 pixels and more before the fifth, global average pooling and one
linear layer. The first group is the stem; the maps are the other four's.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import TYPE_CHECKING

from ctkd_search.models.registry import Blocks, Family, Geometry, Tap

if TYPE_CHECKING:
    from torch import nn

    from ctkd_search.models.network import TappedNetwork

# Convolutions in each of the five groups.
_GROUPS = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_WIDTHS = (64, 128, 256, 512, 512)
# From this side on, images are pooled once more.
_LARGE = 64


def _strides(size: int) -> tuple[int, ...]:
    """Of the four groups behind the stem."""
    return (2, 4, 8, 16 if size >= _LARGE else 8)


def _groups(match: re.Match[str]) -> tuple[int, ...]:
    depth = int(match["depth"])
    if depth not in _GROUPS:
        raise ValueError(f"the depth must be one of {', '.join(map(str, _GROUPS))}, but got {depth}")
    return _GROUPS[depth]


def _taps(match: re.Match[str]) -> tuple[Tap, ...]:
    _groups(match)
    return tuple(Tap(width, stride) for width, stride in zip(_WIDTHS[1:], _strides(0), strict=True))


def _blocks(match: re.Match[str]) -> Blocks:
    return Blocks(_WIDTHS[0], _groups(match)[1:])


def _make(match: re.Match[str], geometry: Geometry) -> TappedNetwork:
    from torch import nn

    from ctkd_search.models.network import StagedNetwork

    groups = []
    inputs = geometry.channels
    for number, (count, outputs) in enumerate(zip(_groups(match), _WIDTHS, strict=True)):
        pooled = number in (1, 2, 3) or (number == 4 and geometry.image_size >= _LARGE)
        first = _block(inputs, outputs, pooled, named=number == 4)
        groups.append(nn.Sequential(first, *(_block(outputs, outputs, False) for _ in range(count - 1))))
        inputs = outputs
    return StagedNetwork(groups[0], groups[1:], nn.Identity(), inputs, geometry.classes)


def _block(inputs: int, outputs: int, pooled: bool, named: bool = False) -> nn.Module:
    """Convolution, normalisation and ReLU, behind a pooling if it is asked for.

    With a name of its own, the pooling leaves the names of the weights as they are without it.
    """
    from torch import nn

    # Odd sizes are rounded up, as a convolution with a stride does.
    pooling = [nn.MaxPool2d(2, ceil_mode=True)] if pooled else []
    weighed = (nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())
    if not named:
        return nn.Sequential(*pooling, *weighed)
    layers = [*(("pool", layer) for layer in pooling), *((str(number), layer) for number, layer in enumerate(weighed))]
    return nn.Sequential(OrderedDict(layers))


FAMILY = Family(
    pattern=re.compile(r"vgg(?P<depth>[1-9][0-9]?)"),
    form="vggD (VGG with batch normalisation of depth 8, 11, 13, 16 or 19)",
    examples=("vgg8", "vgg13"),
    taps=_taps,
    make=_make,
    blocks=_blocks,
    strides=_strides,
    revision="2: pooled four times from 64 pixels on",
)
