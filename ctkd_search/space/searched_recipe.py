"""The student's recipe where it is searched: the values that its settings may have, alone and together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ctkd_search.distill.methods.parameter import Parameter
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.recipe import CONSTANT, Recipe
from ctkd_search.space.defaults import default_of, depends_on_pair
from ctkd_search.space.distributions import Entry, Number
from ctkd_search.space.parameters import (
    PAIR,
    TRAINING,
    active,
    chosen_methods,
    named_by,
    ordered,
    parameters,
    possible_values,
)
from ctkd_search.space.recipes import Course

_SCHEDULE, _COURSE = "schedule", ("warmup", "cooldown")


def possible_settings(train: Recipe, entries: Mapping[str, Entry]) -> dict[str, tuple[Any, ...]]:
    """Returns for each setting that is searched its possible values, or the ends of its range.

    Args:
        train: The recipe, as far as it is not searched.
        entries: Entries of the parameters.
    """
    known = parameters(train)
    return {item.name: _extremes(entries[item.name], known[item.name]) for item in TRAINING if item.name in entries}


def _extremes(entry: Entry, parameter: Parameter) -> tuple[Any, ...]:
    """Returns the possible values of a parameter; of a range, its ends, and the default if it has a condition."""
    if isinstance(entry, Number):
        return (entry.low, entry.high, *([parameter.default] if entry.when else []))
    return possible_values(entry, parameter)


def constant_courses(
    train: Recipe,
    entries: Mapping[str, Entry],
    faulty: Collection[str],
    augments: Collection[str],
    geometry: Geometry | None,
) -> list[Course]:
    """Returns the warm-ups and cooldowns that trials with a constant schedule may have, as their conditions admit them.

    Args:
        train: The recipe, as far as it is not searched.
        entries: Entries of the parameters.
        faulty: Parameters whose entry cannot be read.
        augments: Names of the alternatives of a searched augmentation.
        geometry: The images, if they are known.

    Returns:
        Each combination once, of a range its upper end; none where a parameter that decides on them is faulty.
    """
    known = parameters(train, chosen_methods(entries), tuple(augments))
    order = ordered(entries, known)
    if order is None:
        return []  # circular conditions are refused as such
    decisive = {_SCHEDULE, *_COURSE}.union(*(named_by(name, entries) for name in (_SCHEDULE, *_COURSE)))
    if not decisive.isdisjoint(faulty) or not decisive <= known.keys():
        return []
    if any(depends_on_pair(known[name]) for name in decisive):
        decisive.add(PAIR.name)
    trials: list[dict[str, Any]] = [{}]
    try:
        for name, parameter in order:
            if name in decisive:
                trials = [
                    {**values, name: value}
                    for values in trials
                    for value in _values(entries.get(name), parameter, values, geometry)
                ]
    except UserError:
        return []  # a pair that cannot be is refused as such
    found = [Course(*(values[name] for name in _COURSE)) for values in trials if values[_SCHEDULE] == CONSTANT]
    return list(dict.fromkeys(found))


def _values(
    entry: Entry | None, parameter: Parameter, settled: Mapping[str, Any], geometry: Geometry | None
) -> tuple[Any, ...]:
    """Returns the values of a parameter beside those that its condition names; of a range, its upper end."""
    if entry is None or not active(entry, settled):
        return (default_of(parameter, settled.get(PAIR.name, PAIR.default), geometry),)
    return (entry.high,) if isinstance(entry, Number) else entry.values()
