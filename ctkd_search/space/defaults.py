"""Defaults that depend on the pair and on the images: which feature maps, and the weights of means over positions."""

from __future__ import annotations

import functools
from typing import Any

from ctkd_search.distill.methods.parameter import Parameter
from ctkd_search.errors import UserError
from ctkd_search.geometry import MIN_SIZE, Geometry
from ctkd_search.models.names import elsewhere
from ctkd_search.models.registry import describe, maps
from ctkd_search.pairs import split_pair


def depends_on_pair(parameter: Parameter) -> bool:
    """Returns whether a parameter's default depends on the networks or the images."""
    return bool(parameter.layers_of_pair) or parameter.side is not None


def default_of(parameter: Parameter, pair: str, geometry: Geometry | None) -> Any:
    """Returns the default of a parameter.

    Args:
        parameter: The parameter.
        pair: Teacher and student.
        geometry: The images; None where they are not known, as of a record whose images are gone: then weights are
            those for images of the side that they are declared for.

    Raises:
        UserError: The default depends on the pair, and there is no such architecture.
    """
    if parameter.layers_of_pair:
        layers = _layers(pair, geometry, parameter.least_positions)
        return layers if parameter.all_layers else layers[-1:]
    if parameter.side is None or geometry is None:
        return parameter.default
    return parameter.default * _growth(split_pair(pair), geometry, parameter.side)


@functools.lru_cache(maxsize=1024)
def _layers(pair: str, geometry: Geometry | None, least_positions: int) -> tuple[int, ...]:
    """Returns the feature maps that both networks have; of them those that are large enough, if any is."""
    names = split_pair(pair)
    teacher, student = (describe(name, geometry) for name in names)
    layers = tuple(layer for layer in teacher.layers if layer in student.layers)
    if geometry is None or least_positions == 1:
        return layers
    shapes = [maps(name, geometry) for name in names]
    large = tuple(layer for layer in layers if min(own[layer - 1].side for own in shapes) ** 2 >= least_positions)
    return large or layers


@functools.lru_cache(maxsize=1024)
def _growth(names: tuple[str, ...], geometry: Geometry, side: int) -> float:
    """Returns the ratio of the positions of a pair's smaller first map to those for images of `side` pixels.

    Where a network is made elsewhere and takes no such images, and of the user's own code, which may be made for just
    these images, they are those of the images themselves.
    """
    by_image = (geometry.image_size / side) ** 2
    foreign = [named for name in names if (named := elsewhere(name))]
    if geometry.image_size < MIN_SIZE or any(named.source == "own" for named in foreign):
        return by_image
    try:
        usual = min(maps(name, geometry._replace(image_size=side))[0].side for name in names)
    except UserError:
        return by_image
    return float((min(maps(name, geometry)[0].side for name in names) / usual) ** 2)
