"""Descriptions of architectures without building a network: feature maps, blocks and families."""

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
    """A place in a network at which a feature map is taken.

    Attributes:
        channels: Channels of the map.
        stride: Divisor of the image's side (rounding up) that gives the map's.
    """

    channels: int
    stride: int


class Blocks(NamedTuple):
    """The blocks of the stages of a network.

    Attributes:
        stem: Input channels of the first block of the first stage.
        counts: Number of blocks of each stage, first stage first.
    """

    stem: int
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Architecture:
    """The description of an architecture, known before it is built.

    Attributes:
        name: The name, as in ``wrn-16-1``.
        taps: Each stage's feature map, first stage first.
        blocks: Blocks of its stages; None if they do not consist of blocks.
        notes: Short notes for the user.
        embedding: Width of its embedding, the vector that a linear layer makes the logits from; None if it has none.
    """

    name: str
    taps: tuple[Tap, ...]
    blocks: Blocks | None = None
    notes: tuple[str, ...] = ()
    embedding: int | None = None

    @property
    def layers(self) -> tuple[int, ...]:
        """Returns the numbers of its feature maps, from 1."""
        return tuple(range(1, len(self.taps) + 1))


@dataclass(frozen=True)
class Family:
    """Architectures that differ in their numbers only.

    Attributes:
        pattern: Pattern of their names; its match is passed to `taps` and `make`.
        form: Description of the pattern, for messages.
        examples: A few names to suggest.
        taps: Returns the feature maps of a name's network; raises ValueError if its numbers describe no network.
        make: Builds the network, with weights drawn from torch's global generator.
        blocks: Returns the blocks of a name's network; None if its stages do not consist of blocks.
        embedding: Returns the width of a name's embedding; None if it is that of the last feature map.
        strides: Returns the divisor of the image's side at each stage, by that side; None if it is that of `taps` for
            images of every size.
        revision: Text that changes when networks compute something else, or begin with other weights, than those of
            earlier versions under the same names; None if they never did.
        members: Names whose weights are recognised when they are loaded into another network.
        namings: Returns the names that other implementations give the weights of a name's network.
        differs: Returns how the network computes differently that saved weights under such names for such images; None
            if no difference is known.
    """

    pattern: re.Pattern[str]
    form: str
    examples: tuple[str, ...]
    taps: Callable[[re.Match[str]], tuple[Tap, ...]]
    make: Callable[[re.Match[str], Geometry], TappedNetwork]
    blocks: Callable[[re.Match[str]], Blocks] | None = None
    embedding: Callable[[re.Match[str]], int] | None = None
    strides: Callable[[int], tuple[int, ...]] | None = None
    revision: str | None = None
    members: tuple[str, ...] = ()
    namings: Callable[[re.Match[str]], tuple[Naming, ...]] = lambda match: ()
    differs: Callable[[re.Match[str], Collection[str], Geometry], str | None] = lambda match, names, geometry: None
