"""Lookup of architectures by name: descriptions, feature maps and networks."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from ctkd_search.discovery import entries
from ctkd_search.errors import UserError
from ctkd_search.geometry import MIN_SIZE, Geometry
from ctkd_search.models.architecture import Architecture, Family, MapShape, Tap
from ctkd_search.models.names import ELSEWHERE, elsewhere
from ctkd_search.models.naming import Naming

if TYPE_CHECKING:
    from ctkd_search.models.network import TappedNetwork


@functools.cache
def families() -> tuple[Family, ...]:
    """Returns every family."""
    return tuple(entries("ctkd_search.models.families", "FAMILY"))


def forms() -> tuple[str, ...]:
    """Returns a description of every form that a name may have."""
    return (*(family.form for family in families()), *ELSEWHERE.values())


def _match(name: str) -> tuple[Family, re.Match[str]]:
    for family in families():
        match = family.pattern.fullmatch(name)
        if match:
            return family, match
    raise UserError(f"unknown architecture {name!r}; there are: {'; '.join(forms())}")


def describe(name: str, geometry: Geometry | None = None) -> Architecture:
    """Returns the description of an architecture without building it.

    For this package's own families, the name determines everything. For the others, the library or the user's code
    makes a network without weights, whose modules are observed during a forward pass.

    Args:
        name: The architecture.
        geometry: Images that it is for; if left out, images of the size that its library usually has.

    Raises:
        UserError: No such architecture; the message lists the known ones.
    """
    if named := elsewhere(name):
        from ctkd_search.models import foreign

        return foreign.described(named, geometry or foreign.usual(named))
    family, match = _match(name)
    try:
        taps = family.taps(match)
        if family.strides and geometry:
            strides = family.strides(geometry.image_size)
            taps = tuple(Tap(tap.channels, stride) for tap, stride in zip(taps, strides, strict=True))
        blocks = family.blocks(match) if family.blocks else None
        width = family.embedding(match) if family.embedding else taps[-1].channels
        return Architecture(name, taps, blocks, embedding=width)
    except ValueError as error:
        raise UserError(f"no architecture {name!r}: {error}") from None


def maps(name: str, geometry: Geometry) -> tuple[MapShape, ...]:
    """Returns the shapes of an architecture's feature maps for such images, first stage first.

    Raises:
        UserError: No such architecture, or it does not take such images.
    """
    if named := elsewhere(name):
        from ctkd_search.models import foreign

        return foreign.shapes(named, geometry)
    taps = describe(name, geometry).taps
    if geometry.image_size < MIN_SIZE:
        raise UserError(f"images must have at least {MIN_SIZE} pixels a side, but got {geometry.image_size}")
    return tuple(MapShape(tap.channels, -(-geometry.image_size // tap.stride)) for tap in taps)


def namings(name: str) -> tuple[Naming, ...]:
    """Returns how other implementations name the weights of an architecture; nothing for foreign ones.

    Raises:
        UserError: No such architecture.
    """
    if elsewhere(name):
        return ()
    family, match = _match(name)
    return family.namings(match)


def auxiliary(name: str) -> tuple[str, ...]:
    """Returns the prefixes of weights that an architecture's library saves and this package leaves out."""
    named = elsewhere(name)
    if named is None or named.source != "torchvision":
        return ()
    from ctkd_search.models import libraries

    return libraries.AUXILIARY.get(named.base, ())


def difference(name: str, names: Collection[str], geometry: Geometry) -> str | None:
    """Returns how the network that saved weights under these names is known to compute differently.

    Args:
        name: The architecture that they are meant for.
        names: Names of the weights in the file.
        geometry: The images.

    Returns:
        The difference as a text; None if none is known.

    Raises:
        UserError: No such architecture.
    """
    if elsewhere(name):
        return None
    family, match = _match(name)
    return family.differs(match, names, geometry)


def code_of(name: str) -> str | None:
    """Identifies the code of an architecture: the version of its library, or a hash of the user's own code.

    Returns:
        A text that changes with the code; None for this package's own families that never changed.

    Raises:
        UserError: No such architecture.
    """
    if named := elsewhere(name):
        from ctkd_search.models import libraries

        libraries.check_known(named)
        return libraries.identity(named)
    return _match(name)[0].revision


def build(name: str, geometry: Geometry, seed: int, published: bool = True) -> TappedNetwork:
    """Builds a network with initial weights that depend on `seed` alone.

    Torch's global random state is left as it was.

    Args:
        name: The architecture.
        geometry: Classes, channels and image size it is for.
        seed: Seed of the initial weights.
        published: Whether an architecture with +pretrained gets its published weights; false if others are loaded
            afterwards.

    Returns:
        The network, in training mode, on the CPU.

    Raises:
        UserError: No such architecture, or images it is not made for.
    """
    import torch

    if named := elsewhere(name):
        from ctkd_search.models import foreign

        return foreign.build(named, geometry, seed, published)
    maps(name, geometry)  # refuses what does not fit
    family, match = _match(name)
    with torch.random.fork_rng(devices=[]):
        # The CPU's generator alone: torch.manual_seed would reseed every GPU's, which is not restored.
        torch.default_generator.manual_seed(seed)
        return family.make(match, geometry)
