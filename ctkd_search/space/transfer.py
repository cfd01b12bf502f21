"""Configs of one space in another one: what is kept of them, and what must change."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from ctkd_search.config import plain
from ctkd_search.geometry import Geometry
from ctkd_search.space.defaults import default_of
from ctkd_search.space.definition import Space
from ctkd_search.space.distributions import Choice, Entry, Number
from ctkd_search.space.parameters import AUGMENT, CTKD, METHOD, PAIR

# The parameters of a recipe whose values suit one optimizer alone.
_OF_OPTIMIZER = ("lr", "momentum", "weight_decay")


class Elsewhere(NamedTuple):
    """A config of a search in another space.

    Attributes:
        values: Its values, those that have an effect.
        augment: The settings of its augmentation, as `Augment.given` returns them; None if they are not known.
        geometry: The images of that search; None if they are not known.
        epochs: Epochs of a trial that was not stopped early.
    """

    values: Mapping[str, Any]
    augment: Mapping[str, Any] | None
    geometry: Geometry | None
    epochs: int

    @property
    def method(self) -> str:
        """Returns the name of its method; CTKD if it has none, as with the first versions."""
        return str(self.values.get(METHOD.name, CTKD))


class Transferred(NamedTuple):
    """A config as a point of this space.

    Attributes:
        stored: The values of the searched parameters, as Optuna stores them.
        changed: The parameters that have another value than in the config.
    """

    stored: dict[str, Any]
    changed: list[str]


def transfer(space: Space, config: Elsewhere) -> Transferred | None:
    """Returns a config of another space as a point of this one.

    A number beyond its range becomes the nearest end of the range. An option that this space lacks, the pair too,
    becomes this space's default; among options that are numbers, the nearest one. What this space does not search
    has its value here. The weight of a mean over the positions of a feature map keeps its ratio to its default, which
    depends on the images; the warm-up keeps its share of the epochs. Where the optimizer is another one, its learning
    rate, momentum and weight decay are this space's defaults.

    Args:
        space: This space.
        config: The config.

    Returns:
        The point; None if its method is not searched here.
    """
    if config.method not in space.methods():
        return None
    given = {METHOD.name: config.method, **config.values}
    given.pop(AUGMENT, None)  # a name, which has a meaning in its own space alone
    if (name := _augment_of(space, config)) is not None:
        given[AUGMENT] = name
    first = space.nearest(_fitting(space, {key: given.get(key) for key in (PAIR.name, METHOD.name, "optimizer")}))
    wanted = _adapted(space, given, first.values[PAIR.name], config)
    if given.get("optimizer") != first.values["optimizer"]:
        wanted = {key: value for key, value in wanted.items() if key not in _OF_OPTIMIZER}
    point = space.nearest(_fitting(space, wanted))
    here = space.effective(point.values)
    names = list(dict.fromkeys([*given, *(name for name in here if name != AUGMENT)]))
    changed = [name for name in names if not _equal(given.get(name), here.get(name))]
    if name is None and config.augment is not None and plain(dict(config.augment)) != plain(_augment_at(space, here)):
        changed.append(AUGMENT)
    return Transferred(point.stored, changed)


def _augment_of(space: Space, config: Elsewhere) -> str | None:
    """Returns the name that a config's augmentation has in a space; None if it has none, or none is searched."""
    if config.augment is None:
        return None
    wanted = plain(dict(config.augment))
    return next((name for name, augment in space.augments.items() if plain(augment.given()) == wanted), None)


def _augment_at(space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of the augmentation of a trial."""
    return (space.augments[values[AUGMENT]] if AUGMENT in values else space.augment).given()


def _adapted(space: Space, given: Mapping[str, Any], pair: str, config: Elsewhere) -> dict[str, Any]:
    """Returns values with those adapted to this space that mean something else for other images, pairs or epochs.

    Args:
        space: The space.
        given: The values there.
        pair: The pair here.
        config: The config whose values they are.
    """
    adapted = dict(given)
    if isinstance(warmup := given.get("warmup"), int | float):
        adapted["warmup"] = warmup * space.budget.epochs / config.epochs
    if config.geometry is None or space.geometry is None:
        return adapted
    for name, parameter in space.parameters.items():
        if parameter.side is not None and isinstance(given.get(name), int | float) and parameter.default:
            there = default_of(parameter, str(given.get(PAIR.name, pair)), config.geometry)
            adapted[name] = given[name] * space.default(parameter, pair) / there
    return adapted


def _fitting(space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of some values to which the space has one that is like it."""
    fitted = {name: _fit(space.entries.get(name), value) for name, value in values.items()}
    return {name: value for name, value in fitted.items() if value is not None}


def _fit(entry: Entry | None, value: Any) -> Any:
    """Returns a value of another space as an entry's `nearest` takes it; None where the default is to be used."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(entry, Number):
        return value if number else None
    if not isinstance(entry, Choice):
        return value
    options = list(entry.options.values())
    if isinstance(value, list | tuple) and all(isinstance(option, tuple) for option in options):
        return tuple(value)
    if entry.encode(value) is not None:
        return value
    if number and all(isinstance(option, int | float) for option in options):
        return min(options, key=lambda option: abs(option - value))
    return None


def _equal(one: Any, two: Any) -> bool:
    if isinstance(one, float) and isinstance(two, int | float):
        return math.isclose(one, two, rel_tol=1e-9)
    return bool(plain(one) == plain(two))
