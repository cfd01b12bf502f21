"""Baselines of a search: trainings of the same students for as many epochs by fixed settings of methods."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ctkd_search.config import MethodConfig
from ctkd_search.distill.methods.base import Baseline, Method, Parameter, methods
from ctkd_search.pairs import split_pair

# The baseline that figures show together with the taught student.
STUDENT_ALONE = "student-alone"
_DECLARED: dict[str, tuple[type[Method], Baseline]] = {
    baseline.name: (method, baseline) for method in methods().values() for baseline in method.baselines
}
# The summary of each baseline that a method declares, in the order in which they are run.
BASELINES = {name: baseline.summary for name, (_, baseline) in _DECLARED.items()}
# Those that final trainings are compared with by default.
USUAL = tuple(name for name, (_, baseline) in _DECLARED.items() if baseline.usual)


def method_of(name: str) -> str:
    """Returns the name of the method that a baseline is a setting of."""
    return _DECLARED[name][0].name


def baseline_pairs(baselines: Iterable[str], pairs: Iterable[str]) -> list[tuple[str, str]]:
    """Returns the baselines to run for each pair; one that does not use the teacher is run once for each student.

    Returns:
        Name and pair of each.
    """
    pairs = list(pairs)
    first_of = {student: pair for pair in reversed(pairs) for student in [split_pair(pair).student]}
    chosen = {name: list(first_of.values()) if is_teacherless(name) else pairs for name in baselines}
    return [(name, pair) for pair in pairs for name in chosen if pair in chosen[name]]


def is_teacherless(name: str) -> bool:
    """Returns whether a baseline does not use the pair's teacher."""
    return _DECLARED[name][0].teacherless


def baseline_method(name: str, own: Callable[[Parameter], Any], default: Callable[[Parameter], Any]) -> MethodConfig:
    """Returns the method of a baseline with the values of its parameters.

    Args:
        name: The baseline.
        own: Returns the value of a parameter in the config or the space that it is compared with, or None. The default
            takes the place of a weight of 0, because the baseline is about that term, and of every value where the
            baseline is the paper's.
        default: Returns the default of a parameter, for the pair and the images.
    """
    method, baseline = _DECLARED[name]

    def value(item: Parameter) -> Any:
        if item.name in baseline.values:
            return baseline.values[item.name]
        return (None if baseline.papers else own(item)) or default(item)

    return MethodConfig(method.name, {item.name: value(item) for item in method.parameters})
