"""What a search is compared with: trainings of the same students, for as many epochs, by other means."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from ctkd_search.config import TrialConfig
from ctkd_search.distill.methods.base import Baseline, Method, Parameter, make_method, methods
from ctkd_search.pairs import split_pair

if TYPE_CHECKING:
    pass

# The one that pictures show beside the student that is taught.
STUDENT_ALONE = "student-alone"
_DECLARED: dict[str, tuple[type[Method], Baseline]] = {
    baseline.name: (method, baseline) for method in methods().values() for baseline in method.baselines
}
# Each baseline that a method declares, in the order in which they are run, and what it is.
BASELINES = {name: baseline.summary for name, (_, baseline) in _DECLARED.items()}
# Those that final trainings are compared with unless they are told otherwise.
USUAL = tuple(name for name, (_, baseline) in _DECLARED.items() if baseline.usual)


def is_papers(name: str) -> bool:
    """Returns whether a baseline has the default settings, whatever the config has that it is compared with."""
    return _DECLARED[name][1].papers


def method_of(name: str) -> str:
    """Returns the name of the method that a baseline is a setting of."""
    return _DECLARED[name][0].name


def baseline_pairs(baselines: Iterable[str], pairs: Iterable[str]) -> list[tuple[str, str]]:
    """Which baselines are run for which pairs: one in which the teacher has no part, once for each student.

    Returns:
        Name and pair of each.
    """
    pairs = list(pairs)
    first_of = {student: pair for pair in reversed(pairs) for student in [split_pair(pair).student]}
    chosen = {name: list(first_of.values()) if is_teacherless(name) else pairs for name in baselines}
    return [(name, pair) for pair in pairs for name in chosen if pair in chosen[name]]


def is_teacherless(name: str) -> bool:
    """Whether the pair's teacher has no part in a baseline."""
    return _DECLARED[name][0].teacherless


def baseline_method(name: str, own: Callable[[Parameter], Any], default: Callable[[Parameter], Any]) -> dict[str, Any]:
    """The method of a baseline, with the values that it is about.

    Args:
        name: The baseline.
        own: Gives the value that a parameter has in what it is compared with, or None. A weight of 0 there is what that
            does without; a baseline that is about it does not.
        default: Gives the value of a parameter of which nothing is said, for the pair and the images.
    """
    method, baseline = _DECLARED[name]
    values = {
        item.name: baseline.values[item.name] if item.name in baseline.values else own(item) or default(item)
        for item in method.parameters
    }
    return {"name": method.name, **values}


def anchors_fault(config: TrialConfig) -> str | None:
    """Why a config's method cannot have the expert's weights from along its training, or None."""
    if make_method(config.method).needs.anchors and config.teachers.expert.checkpoint_of(config.teacher):
        return "it needs weights from along the expert's training, which a checkpoint of your own does not have"
    return None
