"""What a search is compared with: trainings of the same students, for as many epochs, by other means."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ctkd_search.config import TrialConfig
from ctkd_search.distill.methods.base import methods
from ctkd_search.pairs import split_pair

if TYPE_CHECKING:
    from ctkd_search.space import Space

STUDENT_ALONE = "student-alone"
# Each baseline, in the order in which they are run, and what it is.
BASELINES = {
    STUDENT_ALONE: "the student without any teacher",
    "kd": "the expert's predictions (Hinton et al., arXiv 1503.02531)",
    "at": "the expert's attention alone (Zagoruyko and Komodakis, arXiv 1612.03928)",
    "scratch-only": "the scratch teacher's logits alone",
    "ctkd-paper": "CTKD with the paper's settings, or the nearest that the space has",
}
# What of CTKD is switched off.
_WITHOUT = {STUDENT_ALONE: ("alpha", "beta"), "at": ("alpha",), "scratch-only": ("beta",), "ctkd-paper": ()}


def baseline_pairs(baselines: Iterable[str], pairs: Iterable[str]) -> list[tuple[str, str]]:
    """Which baselines are run for which pairs: what has no teacher, once for each student.

    Returns:
        Name and pair of each.
    """
    pairs = list(pairs)
    first_of = {student: pair for pair in reversed(pairs) for student in [split_pair(pair).student]}
    chosen = {name: list(first_of.values()) if name == STUDENT_ALONE else pairs for name in baselines}
    return [(name, pair) for pair in pairs for name in chosen if pair in chosen[name]]


def baseline_values(space: Space, name: str, pair: str) -> dict[str, Any]:
    """The value of every parameter in a baseline: the paper's, or the nearest that the space has."""
    values = {**space.decode(space.paper_point()), "pair": pair}
    for weight in ("alpha", "beta"):
        if not values[weight]:
            # The search does without it; a baseline that is about it does not.
            values[weight] = space.parameters[weight].default
    return values | dict.fromkeys(_WITHOUT.get(name, ()), 0.0)


def effective_values(space: Space, name: str, pair: str) -> dict[str, Any]:
    """What of a baseline's values has an effect, as tables and MLflow show it."""
    values = space.effective(baseline_values(space, name, pair))
    if name != "kd":
        return values
    of_ctkd = {parameter.name for parameter in methods()["ctkd"].parameters}
    return {key: value for key, value in values.items() if key not in of_ctkd} | _kd()


def _kd() -> dict[str, Any]:
    return {parameter.name: parameter.default for parameter in methods()["kd"].parameters}


def baseline_config(space: Space, name: str, pair: str) -> TrialConfig:
    """The config of a baseline.

    Args:
        space: The space whose student's recipe, data and budget it shares.
        name: Which one.
        pair: Teacher and student.
    """
    config = space.config(baseline_values(space, name, pair))
    if name != "kd":
        return config
    return dataclasses.replace(config, method={"name": "kd", **_kd()})
