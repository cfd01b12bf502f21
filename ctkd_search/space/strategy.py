"""How a search explores, what it stops early, what it compares with, and how it chooses its winner."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ctkd_search.metrics import ACCURACY as _ACCURACY
from ctkd_search.metrics import OBJECTIVES, Metric
from ctkd_search.space.sections import COSTS, Confirm, Limits, Sampler, Scheduler

if TYPE_CHECKING:
    pass

ACCURACY = _ACCURACY.key


@dataclass(frozen=True)
class Strategy:
    """How a search goes about it.

    Attributes:
        sampler: Who suggests the trials.
        scheduler: What stops trials early.
        baselines: What the winner is compared with: trainings of the same students, of which none is stopped early.
        confirm: How the winner is confirmed; left out, nothing is.
        objectives: What is to be good: something measured on the validation images first, by which trials are judged,
            stopped early and chosen; then what else is, and what the student costs.
        limits: What a student may cost; pairs whose student costs more are left out before anything is trained.
        metrics: What is measured of every student beside accuracy and loss, on the validation images, and in a final
            training on the test images; what is an objective is measured anyway.
    """

    sampler: Sampler = field(default_factory=Sampler)
    scheduler: Scheduler = field(default_factory=Scheduler)
    baselines: tuple[str, ...] = ()
    confirm: Confirm | None = None
    objectives: tuple[str, ...] = (ACCURACY,)
    limits: Limits = field(default_factory=Limits)
    metrics: tuple[str, ...] = ()

    @property
    def judge(self) -> Metric:
        """What trials are judged by: the first objective."""
        return OBJECTIVES[self.objectives[0]]

    @property
    def directions(self) -> list[str]:
        """Of each objective whether it is to be high or low, in Optuna's words."""
        return ["maximize" if _is_high(name) else "minimize" for name in self.objectives]

    @property
    def costs(self) -> list[str]:
        """What must be known of the students: what is an objective or limited."""
        limited = self.limits.given()
        return [cost for cost in COSTS if cost in self.objectives or cost in limited]


def _is_high(objective: str) -> bool:
    return objective in OBJECTIVES and OBJECTIVES[objective].goal == "max"
