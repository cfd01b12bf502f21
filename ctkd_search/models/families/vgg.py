"""VGG for small images, with batch normalisation (Simonyan & Zisserman, arXiv 1409.1556): ``vggDEPTH``.

As the distillation papers compare on them since arXiv 1910.10699: five groups of 3x3 convolutions, max-pooling before
the second, third and fourth, and for images of 64 pixels and more before the fifth, global average pooling and one
linear layer. The first group is the stem; the maps are the other four's.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Collection
from typing import TYPE_CHECKING

from ctkd_search.geometry import Geometry
from ctkd_search.models.architecture import Blocks, Family, Tap
from ctkd_search.models.naming import Naming

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
    """Returns convolution, normalisation and ReLU, after a pooling if `pooled`.

    If `named`, the pooling has a name, so that the names of the weights do not depend on it.
    """
    from torch import nn

    # Odd sizes are rounded up, as a convolution with a stride does.
    pooling = [nn.MaxPool2d(2, ceil_mode=True)] if pooled else []
    weighed = (nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())
    if not named:
        return nn.Sequential(*pooling, *weighed)
    layers = [*(("pool", layer) for layer in pooling), *((str(number), layer) for number, layer in enumerate(weighed))]
    return nn.Sequential(OrderedDict(layers))


# A layer's name here: its group, its block there, its place in the block.
_LAYER = re.compile(r"(?:stem|stages\.(?P<stage>\d+))\.(?P<block>\d+)\.(?P<place>\d)\.(?P<rest>.*)")


def _renamed(names: Collection[str]) -> dict[str, str]:
    """Renames to ``blockGROUP.PLACE``: each convolution takes three places, with its normalisation and ReLU."""
    found = {name: match for name in names if (match := _LAYER.fullmatch(name))}
    # A pooling may come before the convolution, which is therefore the layer of the lowest place that has weights.
    first: dict[tuple[str | None, str], int] = {}
    for match in found.values():
        key, place = (match["stage"], match["block"]), int(match["place"])
        first[key] = min(place, first.get(key, place))
    renamed = {}
    for name, match in found.items():
        group = 0 if match["stage"] is None else int(match["stage"]) + 1
        place = 3 * int(match["block"]) + int(match["place"]) - first[match["stage"], match["block"]]
        renamed[name] = f"block{group}.{place}.{match['rest']}"
    return renamed | {name: name for name in names if name not in found}


_NAMING = Naming("RepDistiller and mdistiller", _renamed)


def _differs(match: re.Match[str], names: Collection[str], geometry: Geometry) -> str | None:
    if "block0.0.weight" not in names:
        return None
    if not any(name.endswith("running_mean") for name in names):
        return "it has no batch normalisation, which this network has"
    size = geometry.image_size
    if size % 8:
        return (
            f"its max-pooling rounds odd sizes down and this network's rounds them up, so that on images of {size} "
            "pixels it computes something else; take images whose side is a multiple of 8"
        )
    if size > _LARGE:
        return (
            f"on images of more than {_LARGE} pixels it pools three times and this network four times; take images of "
            f"{_LARGE} pixels or fewer"
        )
    return None


FAMILY = Family(
    pattern=re.compile(r"vgg(?P<depth>[1-9][0-9]?)"),
    form="vggD (VGG with batch normalisation of depth 8, 11, 13, 16 or 19)",
    examples=("vgg8", "vgg13"),
    taps=_taps,
    make=_make,
    blocks=_blocks,
    strides=_strides,
    revision="2: pooled four times from 64 pixels on",
    members=tuple(f"vgg{depth}" for depth in _GROUPS),
    namings=lambda match: (_NAMING,),
    differs=_differs,
)
