"""Several objectives: the trials that no other one dominates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ctkd_search.metrics import METRIC_OBJECTIVES
from ctkd_search.pairs import split_pair
from ctkd_search.records.store import TrialRecord


def objective_values(
    trial: TrialRecord, objectives: Sequence[str], costs: Mapping[str, Mapping[str, float]]
) -> list[float]:
    """Returns a trial's values in the order of the objectives.

    Args:
        trial: The trial, which has trained an epoch at least; to its end, if an objective is measured there alone.
        objectives: Names of the objectives.
        costs: Costs of each student.
    """
    student = split_pair(trial.values["pair"]).student
    return [trial.epochs[-1][name] if name in METRIC_OBJECTIVES else costs[student][name] for name in objectives]


def front(
    trials: Sequence[TrialRecord], objectives: Sequence[str], costs: Mapping[str, Mapping[str, float]]
) -> list[TrialRecord]:
    """Returns the trials of which no other is at least as good in every objective and better in one.

    They are sorted by the first objective, best first. Of trials that are equal in every objective, only the one that
    began first is returned.
    """
    # Lower is better, as for costs.
    signs = [-METRIC_OBJECTIVES[name].sign if name in METRIC_OBJECTIVES else 1.0 for name in objectives]
    points = [
        tuple(sign * value for sign, value in zip(signs, objective_values(trial, objectives, costs), strict=True))
        for trial in trials
    ]
    # In this order a point can be beaten only by an earlier one.
    order = sorted(range(len(trials)), key=lambda index: (points[index], trials[index].number))
    kept: list[int] = []
    for index in order:
        if not any(all(a <= b for a, b in zip(points[other], points[index], strict=True)) for other in kept):
            kept.append(index)
    return sorted((trials[index] for index in kept), key=lambda trial: (-trial.score, trial.number))
