"""The test results of a final training: the config and its baselines, each over the seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ctkd_search.analysis.intervals import Estimate, Family, estimate
from ctkd_search.analysis.standing import verdict
from ctkd_search.metrics import ALWAYS, METRICS, Metric
from ctkd_search.records.store import FINISHED, TrialRecord
from ctkd_search.space.baselines import BASELINES

CONFIG = "the config"


@dataclass(frozen=True)
class Line:
    """The config or a baseline, over the seeds.

    Attributes:
        name: The baseline's name; `CONFIG` for the config.
        trials: Its trainings, by seed.
    """

    name: str
    trials: tuple[TrialRecord, ...]

    @property
    def label(self) -> str:
        """The name for tables and pictures; that of a file with its method."""
        named = self.name == CONFIG or self.name in BASELINES
        return self.name if named else f"{self.name} ({self.trials[0].method})"

    @property
    def tested(self) -> list[TrialRecord]:
        """The trainings whose student was trained to the end and tested."""
        return [trial for trial in self.trials if trial.test is not None]

    @property
    def judge(self) -> Metric:
        """The metric that the config was chosen by."""
        return self.trials[0].metric

    @property
    def metrics(self) -> list[Metric]:
        """The measured metrics, the one that the config was chosen by first."""
        there = {*ALWAYS, *(name for trial in self.tested for name in trial.test or ())}
        known = [metric for metric in METRICS.values() if metric.name in there]
        return list(dict.fromkeys([self.judge, *known]))

    def values(self, metric: Metric) -> dict[int, float]:
        """Returns the values of the tested students on the test images, by seed."""
        return {trial.student_seed or 0: trial.test[metric.name] for trial in self.tested if trial.test}

    def estimate(self, metric: Metric) -> Estimate | None:
        """Returns the mean over the seeds; None if no student was trained to the end."""
        values = self.values(metric)
        return estimate(list(values.values()), self.resolution(metric)) if values else None

    def resolution(self, metric: Metric) -> float:
        """Returns the step that values are multiples of."""
        return metric.resolution(next((trial.test["images"] for trial in self.tested if trial.test), None))

    @property
    def lost(self) -> list[TrialRecord]:
        """The trainings that yielded no student."""
        return [trial for trial in self.trials if trial.test is None]


def lines(trials: Sequence[TrialRecord]) -> list[Line]:
    """Returns the config and then its baselines, each with its trainings."""
    names = dict.fromkeys(trial.baseline for trial in trials)
    return [
        Line(name or CONFIG, tuple(trial for trial in trials if trial.baseline == name))
        for name in sorted(names, key=lambda name: name is not None)
    ]


def ahead_of(found: Sequence[Line], line: Line, metric: Metric) -> Estimate | None:
    """Returns the paired difference between the config and a baseline; None if they have no seed in common.

    Args:
        found: The config, and every baseline that it is compared with: the intervals hold together for all of them.
        line: The baseline.
        metric: The metric that is compared.
    """
    family = Family(
        {one.name: values for one in found if (values := one.values(metric))},
        max(one.resolution(metric) for one in found),
    )
    if not {CONFIG, line.name} <= family.values.keys():
        return None
    return family.difference(CONFIG, line.name, 1, len(family.values) - 1)


def first_student(trained: Sequence[TrialRecord]) -> TrialRecord | None:
    """Returns the config's training whose student is kept: that of the first seed that was trained to the end.

    It is never chosen by its test accuracy, which would then be biased.
    """
    return next((trial for trial in trained if trial.baseline is None and trial.status == FINISHED), None)


def headline(line: Line) -> list[str]:
    """Returns two lines of the config's test results: the metric that it was chosen by, and the others."""
    images = next(trial.test["images"] for trial in line.tested if trial.test is not None)
    first, *others = (f"{metric.label} {_mean(line, metric)}" for metric in line.metrics)
    seeds = len(line.tested)
    more = f" (95 % interval, n = {seeds} seeds)" if seeds > 1 else ""
    return [f"test {first}{more} on {images:,} images", f"  {', '.join(others)}"]


def _mean(line: Line, metric: Metric) -> str:
    found = line.estimate(metric)
    assert found is not None  # a config without a student has no headline
    more = "" if math.isinf(found.half_width) else f" ± {metric.number(found.half_width)}"
    return metric.show(found.mean) + more


@dataclass(frozen=True)
class Seeds:
    """The seeds of a final training that is kept.

    Attributes:
        seeds: Number of seeds.
        new_streams: Whether every seed has its own stream and teachers.
    """

    seeds: int
    new_streams: bool

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Seeds:
        """Returns the seeds in the content of a plan."""
        return cls(content["seeds"], content["new_streams"])


class Seeding(Protocol):
    """The seeds of a plan."""

    @property
    def seeds(self) -> int:
        """Number of seeds."""
        ...

    @property
    def new_streams(self) -> bool:
        """Returns whether every seed has its own stream and teachers."""
        ...


def sentences(plan: Seeding, found: Sequence[Line]) -> list[str]:
    """Returns verdicts on the differences to the baselines, and notes about seeds and lost trainings.

    There are none of a final training that has ended before any of its trainings was recorded.
    """
    if not found:
        return []
    config, *baselines = found
    found_sentences = [
        verdict(CONFIG, line.name, ahead_of(found, line, config.judge), config.judge)
        for line in baselines
        if line.tested and config.tested
    ]
    if plan.seeds > 1:
        found_sentences.append(
            "each seed has its own stream, teachers and initial weights"
            if plan.new_streams
            else "the seeds differ only in the students' initial weights; --new-streams also varies the stream and the "
            "teachers"
        )
    for line in found:
        found_sentences += [
            f"{line.name}, seed {trial.student_seed}: {trial.status} ({trial.reason}); it is not part of the mean"
            for trial in line.lost
        ]
    return found_sentences
