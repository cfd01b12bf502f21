"""Defaults that depend on the pair and on the images: which feature maps, and the weights of means over positions."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from ctkd_search.distill.methods.parameter import Parameter
from ctkd_search.errors import UserError
from ctkd_search.models.names import elsewhere
from ctkd_search.models.registry import MIN_SIZE, Geometry, describe, maps
from ctkd_search.pairs import split_pair


class Circumstances(NamedTuple):
    """What defaults depend on.

    Attributes:
        layers: The feature maps that teacher and student both have, from 1.
        growth: Positions of their first map, compared at the smaller one's size, over those that it has for images of
            the side that a default is for.
    """

    layers: tuple[int, ...]
    growth: float


def depends_on_pair(parameter: Parameter) -> bool:
    """Whether a parameter's default is another one for other networks or images."""
    return parameter.all_layers or parameter.side is not None


def default_of(parameter: Parameter, pair: str, geometry: Geometry | None) -> Any:
    """The value that a parameter has where nothing is said of it.

    Args:
        parameter: The parameter.
        pair: Teacher and student.
        geometry: The images; None where they are not known, as of a record whose images are gone: then weights are
            those for images of the side that they are declared for.

    Raises:
        UserError: The default depends on the pair, and there is no such architecture.
    """
    if parameter.all_layers:
        return _circumstances(pair, geometry, None).layers
    if parameter.side is None or geometry is None:
        return parameter.default
    return parameter.default * _circumstances(pair, geometry, parameter.side).growth


@functools.lru_cache(maxsize=1024)
def _circumstances(pair: str, geometry: Geometry | None, side: int | None) -> Circumstances:
    names = split_pair(pair)
    teacher, student = (describe(name, geometry) for name in names)
    layers = tuple(layer for layer in teacher.layers if layer in student.layers)
    if geometry is None or side is None:
        return Circumstances(layers, 1.0)
    return Circumstances(layers, _growth(names, geometry, side))


def _growth(names: tuple[str, ...], geometry: Geometry, side: int) -> float:
    """Positions of the first map of a pair over those that it has for images of `side` pixels.

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
