"""Parameters and baselines that have no effect for a pair, its images, so few epochs, or other parameters."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import yaml

from ctkd_search.distill.methods.base import Method, method_class
from ctkd_search.distill.methods.parameter import allows
from ctkd_search.distill.methods.setting import Setting
from ctkd_search.geometry import Geometry
from ctkd_search.models.registry import describe, maps
from ctkd_search.pairs import split_pair
from ctkd_search.space.defaults import default_of
from ctkd_search.space.distributions import Choice, Constant, Entry, Number, show
from ctkd_search.space.parameters import (
    METHOD,
    PAIR,
    chosen_methods,
    key_of,
    named_by,
    possible_methods,
    possible_values,
)


@functools.lru_cache(maxsize=1024)
def setting_of(pair: str, geometry: Geometry, epochs: int) -> Setting:
    """Returns the setting of a method for a pair.

    Raises:
        UserError: There is no such architecture, or it does not take such images.
    """
    teacher, student = split_pair(pair)
    return Setting(
        describe(teacher, geometry),
        describe(student, geometry),
        maps(teacher, geometry),
        maps(student, geometry),
        geometry.classes,
        epochs,
    )


def trial_faults(entries: Mapping[str, Entry], geometry: Geometry, epochs: int) -> dict[str, str]:
    """Returns the entries of a space without effect for its pairs, images or epochs, or that are impossible, by key.

    Args:
        entries: Entries of the parameters; every pair is possible.
        geometry: The images.
        epochs: Epochs of a trial.

    Returns:
        For each key, the reason and what to do.
    """
    pairs = possible_values(entries.get(PAIR.name), PAIR)
    settings = {pair: setting_of(pair, geometry, epochs) for pair in pairs}
    found: dict[str, str] = {}
    for name in chosen_methods(entries):
        cases = [case for pair in pairs for case in _cases(name, entries, pair, geometry, settings[pair])]
        found |= _idle_entries(name, entries, cases)
        every = (case.method.epochs_fault(epochs) or case.method.setting_fault(settings[case.pair]) for case in cases)
        if fault := next(filter(None, every), None):
            given = [key for item in method_class(name).parameters if (key := key_of(name, item.name)) in entries]
            # At the parameter that the fault begins with, if the space has it.
            at = next((key for key in given if fault.startswith(f"{key.rpartition('.')[2]} ")), METHOD.name)
            found[at] = f"{name}: {fault}"
    return found


class _Case(NamedTuple):
    """A combination of values that trials may have.

    Attributes:
        method: The method with its values.
        values: Pair, method and the method's values, by their keys in a space.
        idle: The reasons for which values change nothing, by their keys.
    """

    method: Method
    values: dict[str, Any]
    idle: dict[str, str]

    @property
    def pair(self) -> str:
        """Returns the pair."""
        return str(self.values[PAIR.name])

    def holds(self, conditions: Mapping[str, tuple[Any, ...]]) -> bool | None:
        """Returns whether conditions hold here; None if that depends on the recipe or the augmentation too."""
        known = [allows(wanted, self.values[key]) for key, wanted in conditions.items() if key in self.values]
        return None if all(known) and len(known) < len(conditions) else all(known)

    def searches(self, key: str, entry: Number | Choice) -> bool:
        """Returns whether a parameter may be searched here, and its value may have been drawn."""
        return self.holds(entry.when) is not False and entry.encode(self.values[key]) is not None


def _cases(name: str, entries: Mapping[str, Entry], pair: str, geometry: Geometry, setting: Setting) -> Iterator[_Case]:
    """Yields the combinations of values of a method and a pair in which every condition is heeded."""
    keys = {item.name: key_of(name, item.name) for item in method_class(name).parameters}
    conditional = {
        keys[item.name]: (entry, default_of(item, pair, geometry))
        for item in method_class(name).parameters
        if isinstance(entry := entries.get(keys[item.name]), Number | Choice) and entry.when
    }
    for method in possible_methods(name, entries, pair, geometry):
        values = {PAIR.name: pair, METHOD.name: name, **{keys[own]: value for own, value in method.values.items()}}
        case = _Case(method, values, {keys[own]: reason for own, reason in method.idle(setting).items()})
        if all(
            case.searches(key, entry) or (case.holds(entry.when) is not True and values[key] == default)
            for key, (entry, default) in conditional.items()
        ):
            yield case


def _idle_entries(name: str, entries: Mapping[str, Entry], cases: Sequence[_Case]) -> dict[str, str]:
    """Returns the entries of a method without effect in cases that their conditions admit, by key."""
    found = {}
    for parameter in method_class(name).parameters:
        key = key_of(name, parameter.name)
        entry = entries.get(key)
        if entry is None or not any(key in case.idle for case in cases):
            continue
        if isinstance(entry, Constant):
            # It has no condition: some of each pair's trials suffice.
            pairs = {case.pair for case in cases} - {case.pair for case in cases if key not in case.idle}
            dead = next((case for case in cases if case.pair in pairs), None)
            if dead:
                found[key] = f"has no effect with {dead.pair}: {dead.idle[key]}; leave it out"
            continue
        admitted = [case for case in cases if case.searches(key, entry)]
        dead = next((case for case in admitted if key in case.idle), None)
        if dead is None:
            continue
        needed = _needed_conditions(key, entries, admitted)
        beside = [f"{other} is {show(dead.values[other])}" for other in needed if other != PAIR.name]
        where = f" where {' and '.join(beside)}" if beside else ""
        found[key] = f"has no effect with {dead.pair}{where}: {dead.idle[key]}; {_advice(entry, needed)}"
    return found


def _needed_conditions(key: str, entries: Mapping[str, Entry], admitted: Sequence[_Case]) -> dict[str, tuple[Any, ...]]:
    """Returns the values of other parameters, of one or else of two, with which a parameter always has an effect.

    Of several conditions, it is the one that leaves most of the cases; none if there is none.

    Args:
        key: The parameter.
        entries: The entries of the space.
        admitted: The cases in which it is searched.
    """
    others = [
        other
        for other in admitted[0].values
        if other not in (key, METHOD.name)
        and isinstance(entries.get(other), Choice)
        and key not in named_by(other, entries)
    ]
    alone = [{other: _alive(key, other, admitted)} for other in others]
    for several in (alone, _of_two(key, others, admitted)):
        if possible := [needed for needed in several if all(needed.values())]:
            return max(possible, key=lambda needed: sum(case.holds(needed) is True for case in admitted))
    return {}


def _of_two(key: str, others: Sequence[str], admitted: Sequence[_Case]) -> Iterator[dict[str, tuple[Any, ...]]]:
    """Yields conditions on two parameters: some values of one, with which the same of the other are possible."""
    for first, second in itertools.permutations(others, 2):
        for value in dict.fromkeys(case.values[first] for case in admitted):
            wanted = _alive(key, second, [case for case in admitted if case.values[first] == value])
            among = [case for case in admitted if case.values[second] in wanted]
            yield {first: _alive(key, first, among), second: wanted}


def _alive(key: str, other: str, cases: Sequence[_Case]) -> tuple[Any, ...]:
    """Returns the values of another parameter with which a parameter always has an effect."""
    dead = {case.values[other] for case in cases if key in case.idle}
    return tuple(value for value in dict.fromkeys(case.values[other] for case in cases) if value not in dead)


def _advice(entry: Number | Choice, needed: Mapping[str, Sequence[Any]]) -> str:
    """Returns what to do about a parameter that needs further conditions, as they are written in a space."""
    if not needed:
        return "leave it out"
    kept = {key: wanted for key, wanted in entry.when.items() if key != METHOD.name}
    # Layers are written as text there.
    conditions = {
        key: [show(value) if isinstance(value, tuple) else value for value in wanted]
        for key, wanted in {**kept, **needed}.items()
    }
    written = yaml.safe_dump(conditions, default_flow_style=True, sort_keys=False, width=math.inf).strip()
    return f"{'replace its condition by' if kept else 'add'} when: {written}, or leave it out"


def baseline_fault(method: Method, pair: str, geometry: Geometry, epochs: int) -> str | None:
    """Returns why a baseline cannot be trained in so few epochs, or has no effect for a pair and its images, or None.

    Args:
        method: Its method.
        pair: Teacher and student.
        geometry: The images.
        epochs: Epochs of its training.
    """
    if fault := method.epochs_fault(epochs):
        return f"cannot be used with so few epochs: {fault}"
    setting = setting_of(pair, geometry, epochs)
    if fault := method.setting_fault(setting):
        return f"cannot be used with {pair}: {fault}"
    idle = method.idle(setting)
    weights = [item.name for item in method.effective_parameters() if item.term and method.values[item.name]]
    if weights and all(name in idle for name in weights):
        return f"has no effect with {pair}: {idle[weights[0]]}"
    return None
