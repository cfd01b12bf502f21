"""The networks of a space without their weights: their sizes and the shapes of their feature maps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.models import build
from ctkd_search.models.cost import multiply_adds, parameters
from ctkd_search.models.graph import NoGraph, graph_of
from ctkd_search.models.network import TappedNetwork
from ctkd_search.text import first_line

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Facts:
    """The facts of a network that are known without training it.

    Attributes:
        name: Its architecture.
        parameters: Number of trainable parameters.
        multiply_adds: Multiplications, each with its addition, for one image.
        maps: Channels, height and width of each tapped map, first layer first.
        embedding: Width of its embedding; None if it has none.
    """

    name: str
    parameters: int
    multiply_adds: int
    maps: tuple[Shape, ...]
    embedding: int | None

    @property
    def costs(self) -> dict[str, int]:
        """Returns its costs, by the names under which a space limits them."""
        return {"params": self.parameters, "multiply_adds": self.multiply_adds}

    def shapes(self) -> str:
        """Returns the shapes of the maps as text."""
        return ", ".join("x".join(map(str, shape)) for shape in self.maps)


def facts(name: str, geometry: Geometry) -> Facts:
    """Returns the facts of a network, built on the meta device, where tensors have shapes and no numbers.

    Raises:
        UserError: The network does not take such images.
    """
    try:
        try:
            return _facts_on(name, geometry, torch.device("meta"))
        except Exception:  # a network made elsewhere may read its numbers; on the CPU its real error appears
            return _facts_on(name, geometry, torch.device("cpu"))
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        reason = first_line(error)
        size, channels = geometry.image_size, geometry.channels
        raise UserError(
            f"{name} cannot take images of {size}x{size} pixels and {channels} channels ({reason})"
        ) from None


def _facts_on(name: str, geometry: Geometry, device: torch.device) -> Facts:
    with device:
        network = build(name, geometry, seed=0, published=False).to(device)
    layer = network.output_layer
    return Facts(
        name,
        parameters(network),
        multiply_adds(network, geometry),
        _maps(network, geometry, device),
        None if layer is None else layer.in_features,
    )


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
    """Returns the facts of several networks, and the faults of those that do not take such images."""
    known, faults = {}, {}
    for name in dict.fromkeys(names):
        try:
            known[name] = facts(name, geometry)
        except UserError as error:
            faults[name] = str(error)
    return known, faults


def graph_fault(name: str, geometry: Geometry) -> str | None:
    """Returns why a network, untrained, cannot be exported as a graph, as students are in the end; None if it can."""
    network = build(name, geometry, seed=0, published=False).eval()
    try:
        graph_of(network, name, torch.zeros(2, geometry.channels, geometry.image_size, geometry.image_size))
    except NoGraph as error:
        return str(error)
    return None
