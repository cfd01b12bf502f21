"""The one place where a name becomes an architecture."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ctkd_search.discovery import entries
from ctkd_search.errors import UserError

if TYPE_CHECKING:
    from ctkd_search.models.network import TappedNetwork

# The smallest images, in pixels a side, of this package's own families; larger ones may have any size.
MIN_SIZE = 8


class Geometry(NamedTuple):
    """What a data set asks of a network.

    Attributes:
        classes: How many classes there are, at least 2.
        channels: Channels of an image.
        image_size: Side of an image in pixels.
    """

    classes: int
    channels: int
    image_size: int


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
    """What is known of an architecture from its name.

    Attributes:
        name: The name, as in ``wrn-16-1``.
        taps: Each stage's feature map, first stage first.
        blocks: How its stages are cut into blocks; None where they are not.
    """

    name: str
    taps: tuple[Tap, ...]
    blocks: Blocks | None = None

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
    """

    pattern: re.Pattern[str]
    form: str
    examples: tuple[str, ...]
    taps: Callable[[re.Match[str]], tuple[Tap, ...]]
    make: Callable[[re.Match[str], Geometry], TappedNetwork]
    blocks: Callable[[re.Match[str]], Blocks] | None = None


@functools.cache
def families() -> tuple[Family, ...]:
    """Every family there is."""
    return tuple(entries("ctkd_search.models.families", "FAMILY"))


def _match(name: str) -> tuple[Family, re.Match[str]]:
    for family in families():
        match = family.pattern.fullmatch(name)
        if match:
            return family, match
    forms = "; ".join(family.form for family in families())
    raise UserError(f"unknown architecture {name!r}; there are: {forms}")


def describe(name: str) -> Architecture:
    """What is known of an architecture from its name, without building it.

    Raises:
        UserError: No such architecture; the message says which there are.
    """
    family, match = _match(name)
    try:
        return Architecture(name, family.taps(match), family.blocks(match) if family.blocks else None)
    except ValueError as error:
        raise UserError(f"no architecture {name!r}: {error}") from None


def build(name: str, geometry: Geometry, seed: int) -> TappedNetwork:
    """Builds a network with initial weights that depend on `seed` alone.

    Torch's global random state is left as it was.

    Args:
        name: The architecture.
        geometry: Classes, channels and image size it is for.
        seed: Seed of the initial weights.

    Returns:
        The network, in training mode, on the CPU.

    Raises:
        UserError: No such architecture, or images it is not made for.
    """
    import torch

    describe(name)
    if geometry.image_size < MIN_SIZE:
        raise UserError(f"images must have at least {MIN_SIZE} pixels a side, but got {geometry.image_size}")
    family, match = _match(name)
    with torch.random.fork_rng(devices=[]):
        # The CPU's generator alone: torch.manual_seed would reseed every GPU's, which is not put back.
        torch.default_generator.manual_seed(seed)
        return family.make(match, geometry)
