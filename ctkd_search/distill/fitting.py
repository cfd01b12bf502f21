"""Finding a network's weights in a state dict that another program may have named and wrapped."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ctkd_search.geometry import Geometry
from ctkd_search.models import build, describe
from ctkd_search.models.naming import Naming
from ctkd_search.models.registry import auxiliary, difference, families, namings
from ctkd_search.models.wrapped import WRAPPED

# Parts that wrappers add to names, at any place.
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
# Counters of batch normalisations, which older files lack and evaluation does not use.
_COUNTER = "num_batches_tracked"
_SHOWN = 3
# In a block of any family, at most.
_MOST_CONVOLUTIONS = 5
Shape = tuple[int, ...]


class Differing(NamedTuple):
    """A weight of another shape.

    Attributes:
        name: Its name in the network.
        key: Its name in the file.
        there: Its shape in the file.
        here: Its shape in the network.
    """

    name: str
    key: str
    there: Shape
    here: Shape

    def __str__(self) -> str:
        """The key, and both shapes."""
        return f"{self.key} has shape {self.there} instead of {self.here}"


@dataclass(frozen=True)
class Match:
    """A state dict whose names are those of a network.

    Attributes:
        keys: The file's name of each of the network's weights that it has.
        source: Library or paper that the names are from; None for the network's own.
        prefix: Common prefix of the file's names.
        left_out: Other names in the file.
        differing: Weights of another shape.
    """

    keys: Mapping[str, str]
    source: str | None
    prefix: str
    left_out: tuple[str, ...]
    differing: tuple[Differing, ...]


@dataclass(frozen=True)
class Target:
    """A network whose weights are searched for in a file.

    Attributes:
        name: Its architecture; empty if it is not known.
        shapes: Shapes of its weights.
        geometry: Images that it takes; None if they are not known.
    """

    name: str
    shapes: Mapping[str, Shape]
    geometry: Geometry | None = None

    @classmethod
    def of(cls, network: torch.nn.Module, name: str = "", geometry: Geometry | None = None) -> Target:
        """Returns the target of a network."""
        return cls(name, {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}, geometry)

    def namings(self) -> Iterator[tuple[str | None, dict[str, str]]]:
        """Yields sources of names for the weights, None for the network's own, with the names."""
        yield None, {name: name for name in self.shapes}
        if all(name.startswith(f"{WRAPPED}.") for name in self.shapes):
            # As the library or the user's own code saves the network that it made.
            yield None, {name: name.removeprefix(f"{WRAPPED}.") for name in self.shapes}
        known: tuple[Naming, ...] = namings(self.name) if self.name else ()
        for naming in known:
            yield naming.source, naming.rename(self.shapes)


def matches(target: Target, shapes: Mapping[str, Shape]) -> list[Match]:
    """Returns the ways in which a state dict contains all weights of a network by their names, and no others.

    A common prefix of all names is dropped. If a file contains more than the network, the names with each first part
    are tried alone.

    Args:
        target: The network.
        shapes: Shapes in the file.

    Returns:
        One match, or several if the file contains several such networks, or none. If some have the right shapes, only
        those.
    """
    whole = _match(target, {key: key for key in shapes}, shapes)
    found = [whole] if whole else list(_parts(target, shapes))
    return [match for match in found if not match.differing] or found


def _parts(target: Target, shapes: Mapping[str, Shape]) -> Iterator[Match]:
    _, names = _stripped({key: _unwrapped(key) for key in shapes}, len(shapes))
    first: dict[str, list[str]] = {}
    for key, name in names.items():
        first.setdefault(name.partition(".")[0], []).append(key)
    for keys in first.values() if len(first) > 1 else ():
        match = _match(target, {key: key for key in keys}, shapes)
        # Without a prefix it would be a part of a network and not a network.
        if match and match.prefix:
            others = tuple(key for key in shapes if key not in keys)
            yield Match(match.keys, match.source, match.prefix, (*match.left_out, *others), match.differing)


def _match(target: Target, keys: Mapping[str, str], shapes: Mapping[str, Shape]) -> Match | None:
    """Returns the network's weights among these keys of a file: all of them, and nothing else."""
    aside = auxiliary(target.name) if target.name else ()
    for depth in range(max((key.count(".") for key in keys), default=0) + 1):
        prefix, names = _stripped({key: _unwrapped(key) for key in keys}, depth)
        if prefix.count(".") < depth:
            return None  # they share no longer one
        there = {name: key for key, name in names.items()}
        left_out = tuple(key for key, name in names.items() if aside and name.startswith(tuple(aside)))
        needed_there = _needed(name for name, key in there.items() if key not in left_out)
        for source, renamed in target.namings():
            if _needed(renamed.values()) == needed_there:
                found = {own: there[name] for own, name in renamed.items() if name in there}
                differing = tuple(
                    Differing(own, key, shapes[key], target.shapes[own])
                    for own, key in found.items()
                    if shapes[key] != target.shapes[own]
                )
                return Match(found, source, _prefix_of(found.values(), there), left_out, differing)
    return None


def _needed(names: Iterator[str] | Collection[str]) -> set[str]:
    return {name for name in names if name.rpartition(".")[2] != _COUNTER}


def _unwrapped(key: str) -> str:
    return ".".join(part for part in key.split(".") if part not in _WRAPPERS)


def _stripped(names: Mapping[str, str], depth: int) -> tuple[str, dict[str, str]]:
    """Returns the common prefix of names, of up to `depth` parts, and the names without it."""
    names, prefix = dict(names), ""
    for _ in range(depth):
        first = {name.partition(".")[0] for name in names.values()}
        if len(first) > 1 or not all("." in name for name in names.values()):
            break
        prefix += f"{first.pop()}."
        names = {key: name.partition(".")[2] for key, name in names.items()}
    return prefix, names


def _prefix_of(keys: Collection[str], names: Mapping[str, str]) -> str:
    """Returns the prefix of the names that were found; the wrappers in them if it is not the same for all."""
    by_key = {key: name for name, key in names.items()}
    before = {key.removesuffix(by_key[key]) for key in keys}
    if len(before) == 1:
        return before.pop()
    return " and ".join(f"{name}." for name in _WRAPPERS if any(name in key.split(".") for key in keys))


def computes_differently(target: Target, match: Match) -> str | None:
    """Returns how the network that saved weights under a match's names computes differently; None if it does not."""
    if match.source is None or not target.name or not target.geometry:
        return None
    names = {_unwrapped(key).removeprefix(_unwrapped(match.prefix)) for key in match.keys.values()}
    return difference(target.name, names, target.geometry)


def misfit(target: Target, shapes: Mapping[str, Shape]) -> str:
    """Returns why a state dict does not fit a network, by the likeliest reason.

    Args:
        target: The network.
        shapes: Shapes in the file.
    """
    _, names = _stripped({key: _unwrapped(key) for key in shapes}, len(shapes))
    found = next(iter(matches(target, shapes)), None)
    if target.name and target.geometry:
        reason = difference(target.name, set(names.values()), target.geometry)
        if reason:
            return reason
        if found and (reason := _of_other_images(found.differing, target.geometry)):
            return reason
        if (other := _recognised(target, shapes)) and other != target.name:
            return f"these are weights of {other} and not of {target.name} ({_differences(target, found, names)})"
    return _differences(target, found, names)


def _of_other_images(differing: Collection[Differing], geometry: Geometry) -> str | None:
    """Returns the reason if only classes or channels differ."""
    classes = [one for one in differing if _is_classes(one, geometry)]
    channels = [one for one in differing if _is_channels(one, geometry)]
    if not differing or len(classes) + len(channels) < len(differing):
        return None
    reasons = []
    if classes:
        reasons.append(f"its classifier has {classes[0].there[0]} classes, the data set has {geometry.classes}")
    if channels:
        reasons.append(f"its first layer takes {channels[0].there[1]} channels, the images have {geometry.channels}")
    return f"{' and '.join(reasons)} ({'; '.join(map(str, differing))})"


def _is_classes(one: Differing, geometry: Geometry) -> bool:
    return bool(one.here) and one.here[0] == geometry.classes and one.there[1:] == one.here[1:]


def _is_channels(one: Differing, geometry: Geometry) -> bool:
    here, there = one.here, one.there
    return (
        len(here) == len(there) == 4
        and here[1] == geometry.channels
        and (here[0], *here[2:])
        == (
            there[0],
            *there[2:],
        )
    )


def _recognised(target: Target, shapes: Mapping[str, Shape]) -> str | None:
    """Returns the architecture that these weights belong to, whatever the classes and channels."""
    assert target.geometry
    # The target's own family is the likeliest.
    for family in sorted(families(), key=lambda family: not family.pattern.fullmatch(target.name)):
        for name in filter(lambda name: _possible(name, shapes), family.members):
            for match in matches(_outline(name, target.geometry), shapes):
                others = (
                    one
                    for one in match.differing
                    if not (_is_classes(one, target.geometry) or _is_channels(one, target.geometry))
                )
                if next(others, None) is None and not difference(name, set(shapes), target.geometry):
                    return name
    return None


def _possible(name: str, shapes: Mapping[str, Shape]) -> bool:
    """Returns whether a file may contain the weights of an architecture, as far as is known without building it."""
    known = describe(name)
    dimensions = {size for shape in shapes.values() for size in shape}
    convolutions = sum(len(shape) == 4 for shape in shapes.values())
    blocks = sum(known.blocks.counts) if known.blocks else convolutions
    fits = blocks <= convolutions <= _MOST_CONVOLUTIONS * (blocks + 1)
    return fits and all(tap.channels in dimensions for tap in known.taps)


@functools.lru_cache(maxsize=128)
def _outline(name: str, geometry: Geometry) -> Target:
    with torch.device("meta"):
        network = build(name, geometry, seed=0, published=False)
    return Target.of(network, name, geometry)


def _differences(target: Target, match: Match | None, names: Mapping[str, str]) -> str:
    """Returns a few of the differences, by the names that are nearest to the file's."""
    if match:
        wrong = [str(one) for one in match.differing]
    else:
        there = set(names.values())
        _, renamed = max(target.namings(), key=lambda naming: len(there & set(naming[1].values())))
        needed = set(renamed.values())
        wrong = [f"{name} is missing" for name in renamed.values() if name not in there and name in _needed([name])]
        wrong += [f"{name} is unknown" for name in names.values() if name not in needed]
    more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return f"{'; '.join(wrong[:_SHOWN])}{more}"


def loaded(
    match: Match, tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], set[str]]:
    """Returns the weights of a match as the network takes them.

    Args:
        match: The match.
        tensors: The file's tensors.
        own: The network's own weights, which are used for counters that the file lacks.

    Returns:
        All weights by the network's names, and the types from which some were converted.

    Raises:
        ValueError: Some cannot be used: they are not plain numbers, or not finite.
    """
    weights, converted = dict(own), set()
    for name, key in match.keys.items():
        tensor = tensors[key]
        if fault := _fault(tensor, own[name]):
            raise ValueError(f"{key} {fault}")
        if tensor.dtype != own[name].dtype:
            converted.add(str(tensor.dtype).removeprefix("torch."))
        weights[name] = tensor.detach().to(own[name].dtype)
    return weights, converted


def _fault(tensor: Tensor, own: Tensor) -> str | None:
    """Returns why a tensor cannot be a weight, or None."""
    if tensor.is_quantized:
        return "is quantised; save the weights from before their quantisation"
    if tensor.layout is not torch.strided:
        return "is sparse; save it after .to_dense()"
    if tensor.is_meta:
        return "is on the meta device, without values; save the network after its weights are loaded"
    if tensor.is_floating_point() != own.is_floating_point():
        kind = str(tensor.dtype).removeprefix("torch.")
        return f"is of type {kind} instead of {str(own.dtype).removeprefix('torch.')}"
    if tensor.is_floating_point():
        count = int((~tensor.float().isfinite()).sum())
        if count:
            return f"has {count:,} of {tensor.numel():,} values that are not finite: its training diverged"
    return None
