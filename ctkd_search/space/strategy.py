"""The strategy of a search: sampler, scheduler, baselines, confirmation, objectives and limits."""

from __future__ import annotations

from dataclasses import dataclass, field

from ctkd_search.metrics import ACCURACY as _ACCURACY
from ctkd_search.metrics import AT_END, ECE, LOSS, METRIC_OBJECTIVES, OBJECTIVES, Metric, averaged
from ctkd_search.space.sections import COSTS, INT8_COSTS, Confirm, Limits, Sampler, Scheduler

ACCURACY = _ACCURACY.key


@dataclass(frozen=True)
class Ranking:
    """The number that trials are compared by at the rungs.

    Attributes:
        metric: The metric of the validation images.
        horizon: Horizon of the running average of the weights that it is measured with, in epochs; 0 for the weights
            that a student is judged by.
    """

    metric: Metric
    horizon: float

    @property
    def key(self) -> str:
        """Returns its name among the metrics of an epoch."""
        return averaged(self.metric.key) if self.horizon else self.metric.key

    @property
    def label(self) -> str:
        """Returns its name in messages."""
        weights = f" of weights averaged over {self.horizon:g} epoch{'s' * (self.horizon != 1)}"
        return f"validation {self.metric.label}{weights if self.horizon else ''}"


@dataclass(frozen=True)
class Strategy:
    """The strategy of a search.

    Attributes:
        sampler: Sampler that suggests the trials.
        scheduler: Scheduler that stops trials early.
        baselines: Baselines that the winner is compared with: trainings of the same students, none stopped early.
        confirm: Confirmation of the winner; left out, there is none.
        objectives: Objectives: first a metric of the validation images, by which trials are judged and chosen; then
            further metrics, the accuracy in int8, and costs of the student.
        limits: Limits on a student's costs; pairs whose student costs more are left out before anything is trained.
        metrics: Further metrics of every student besides accuracy and loss, on the validation images, and in a final
            training on the test images; objectives are measured anyway.
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
        """Returns the metric that trials are judged by: the first objective."""
        return OBJECTIVES[self.objectives[0]]

    @property
    def ranking(self) -> Ranking | None:
        """Returns the number that trials are compared by at the rungs; None where no trial is stopped early."""
        if self.scheduler.name == "none":
            return None
        signal = self.scheduler.signal or ("objective" if self.judge is ECE else "loss")
        return Ranking(self.judge if signal == "objective" else LOSS, self.scheduler.averaged_over)

    @property
    def directions(self) -> list[str]:
        """Returns Optuna's direction of each objective."""
        return ["maximize" if _is_high(name) else "minimize" for name in self.objectives]

    @property
    def costs(self) -> list[str]:
        """Returns the costs of students that are objectives or limited."""
        limited = self.limits.given()
        return [cost for cost in COSTS if cost in self.objectives or cost in limited]

    @property
    def groups_students(self) -> bool:
        """Returns whether trials are compared with those of the same student alone: a small one would always lose."""
        return any(cost in self.objectives for cost in COSTS)

    @property
    def quantises_trials(self) -> bool:
        """Returns whether every student that is trained to its end is measured in int8."""
        return any(name in AT_END for name in self.objectives)

    @property
    def quantises(self) -> bool:
        """Returns whether students are measured in int8 at all."""
        return self.quantises_trials or any(cost in INT8_COSTS for cost in self.costs)


def _is_high(objective: str) -> bool:
    return objective in METRIC_OBJECTIVES and METRIC_OBJECTIVES[objective].goal == "max"
