"""Parameters and baselines that have no effect for a pair, its images or so few epochs."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping

from ctkd_search.distill.methods.base import Method, method_class
from ctkd_search.distill.methods.setting import Setting
from ctkd_search.geometry import Geometry
from ctkd_search.models.registry import describe, maps
from ctkd_search.pairs import split_pair
from ctkd_search.space.distributions import Entry
from ctkd_search.space.parameters import METHOD, PAIR, chosen_methods, key_of, possible_methods, possible_values


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
        made = {pair: list(possible_methods(name, entries, pair, geometry)) for pair in pairs}
        found |= _idle_entries(name, entries, made, settings)
        every = (
            method.epochs_fault(epochs) or method.setting_fault(settings[pair])
            for pair, several in made.items()
            for method in several
        )
        if fault := next(filter(None, every), None):
            given = [key for item in method_class(name).parameters if (key := key_of(name, item.name)) in entries]
            # At the parameter that the fault begins with, if the space has it.
            at = next((key for key in given if fault.startswith(f"{key.rpartition('.')[2]} ")), METHOD.name)
            found[at] = f"{name}: {fault}"
    return found


def _idle_entries(
    name: str, entries: Mapping[str, Entry], made: Mapping[str, list[Method]], settings: Mapping[str, Setting]
) -> dict[str, str]:
    idle: dict[str, dict[str, str]] = {
        pair: functools.reduce(operator.or_, (method.idle(settings[pair]) for method in several), {})
        for pair, several in made.items()
    }
    found = {}
    for parameter in method_class(name).parameters:
        key = key_of(name, parameter.name)
        # A condition may exclude the pairs for which it has no effect.
        wanted = getattr(entries.get(key), "when", {}).get(PAIR.name, tuple(idle))
        dead = {pair: idle[pair][parameter.name] for pair in wanted if parameter.name in idle[pair]}
        if key in entries and dead:
            pair, reason = next(iter(dead.items()))
            alive = [other for other in wanted if other not in dead]
            advice = f"add when: {{pair: [{', '.join(alive)}]}}, or leave it out" if alive else "leave it out"
            found[key] = f"has no effect with {pair}: {reason}; {advice}"
    return found


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
