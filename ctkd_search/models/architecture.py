"""Architectures as they are known before a network is built: their feature maps, blocks and families."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ctkd_search.geometry import Geometry
from ctkd_search.models.naming import Naming

if TYPE_CHECKING:
    from ctkd_search.models.network import TappedNetwork


class MapShape(NamedTuple):
    """A feature map of one image.

    Attributes:
        channels: Its channels.
        side: Its side in positions.
    """

    channels: int
    side: int


class Tap(NamedTuple):
    """Where a feature map stands in a network.

    Attributes:
        channels: Channels of the map.
        stride: What the image's side is divided by (rounding up) to give the map's.
    """

    channels: int
    stride: int


class Blocks(NamedTuple):
    """How the stages of a network are cut into blocks.

    Attributes:
        stem: Channels that come into the first block of the first stage.
        counts: How many blocks each stage has, first stage first.
    """

    stem: int
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Architecture:
    """What is known of an architecture before it is built.

    Attributes:
        name: The name, as in ``wrn-16-1``.
        taps: Each stage's feature map, first stage first.
        blocks: How its stages are cut into blocks; None where they are not.
        notes: What else the user should know of it, a few words each.
    """

    name: str
    taps: tuple[Tap, ...]
    blocks: Blocks | None = None
    notes: tuple[str, ...] = ()

    @property
    def layers(self) -> tuple[int, ...]:
        """The numbers by which its feature maps are called, from 1."""
        return tuple(range(1, len(self.taps) + 1))


@dataclass(frozen=True)
class Family:
    """Architectures that differ in their numbers only.

    Attributes:
        pattern: What their names look like; its groups are handed to `taps` and `make`.
        form: The pattern in words, for messages.
        examples: A few names worth suggesting.
        taps: The feature maps of a name's network; raises ValueError where its numbers make no network.
        make: Makes the network itself, with weights drawn from torch's global generator.
        blocks: How a name's network is cut into blocks; None where its stages are no sequences of such.
        strides: What the image's side is divided by at each stage, by that side; None where it is that of `taps` for
            images of every size.
        revision: Tells networks that compute something else, or begin with other weights, than those that earlier
            versions made by the same names; None where there were no such.
        members: Names whose weights are recognised where they were meant for another network.
        namings: How other implementations name the weights of a name's network.
        differs: Says in which way the network computes differently that saved weights under such names for such
            images; None where no such difference is known.
    """

    pattern: re.Pattern[str]
    form: str
    examples: tuple[str, ...]
    taps: Callable[[re.Match[str]], tuple[Tap, ...]]
    make: Callable[[re.Match[str], Geometry], TappedNetwork]
    blocks: Callable[[re.Match[str]], Blocks] | None = None
    strides: Callable[[int], tuple[int, ...]] | None = None
    revision: str | None = None
    members: tuple[str, ...] = ()
    namings: Callable[[re.Match[str]], tuple[Naming, ...]] = lambda match: ()
    differs: Callable[[re.Match[str], Collection[str], Geometry], str | None] = lambda match, names, geometry: None
