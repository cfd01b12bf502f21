"""The networks of a space without their weights: how large they are, and where their feature maps stand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.models import build
from ctkd_search.models.cost import multiply_adds, parameters
from ctkd_search.models.network import TappedNetwork
from ctkd_search.text import first_line

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Facts:
    """What can be known of a network without training it.

    Attributes:
        name: Its architecture.
        parameters: How many trainable numbers it has.
        multiply_adds: Multiplications, each with its addition, for one image.
        maps: Channels, height and width of each tapped map, first layer first.
    """

    name: str
    parameters: int
    multiply_adds: int
    maps: tuple[Shape, ...]

    def shapes(self) -> str:
        """The maps in words."""
        return ", ".join("x".join(map(str, shape)) for shape in self.maps)


def facts(name: str, geometry: Geometry) -> Facts:
    """Builds a network on the meta device, where tensors have shapes and no numbers, and asks it.

    Raises:
        UserError: It does not take such images.
    """
    try:
        try:
            return _asked(name, geometry, torch.device("meta"))
        except Exception:  # of a network made elsewhere, which may look at its numbers; the CPU tells what is wrong
            return _asked(name, geometry, torch.device("cpu"))
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        reason = first_line(error)
        size, channels = geometry.image_size, geometry.channels
        raise UserError(
            f"{name} cannot take images of {size}x{size} pixels and {channels} channels ({reason})"
        ) from None


def _asked(name: str, geometry: Geometry, device: torch.device) -> Facts:
    with device:
        network = build(name, geometry, seed=0, published=False).to(device)
    return Facts(name, parameters(network), multiply_adds(network, geometry), _maps(network, geometry, device))


def _maps(network: TappedNetwork, geometry: Geometry, device: torch.device) -> tuple[Shape, ...]:
    image = torch.zeros(1, geometry.channels, geometry.image_size, geometry.image_size, device=device)
    with torch.inference_mode():
        _, maps = network.eval()(image)
    shapes = []
    for found in maps:
        _, channels, height, width = found.shape
        shapes.append((channels, height, width))
    return tuple(shapes)


def all_facts(names: Iterable[str], geometry: Geometry) -> tuple[dict[str, Facts], dict[str, str]]:
    """What is known of several networks, and of those that do not take such images, why."""
    known, faults = {}, {}
    for name in dict.fromkeys(names):
        try:
            known[name] = facts(name, geometry)
        except UserError as error:
            faults[name] = str(error)
    return known, faults
