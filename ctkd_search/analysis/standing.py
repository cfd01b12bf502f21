"""The winner of a search: confirmed configs, their differences, and the verdicts on them."""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from ctkd_search.analysis.intervals import Estimate, Family, estimate
from ctkd_search.errors import UserError
from ctkd_search.metrics import ACCURACY, Metric
from ctkd_search.records.store import FINISHED, TrialRecord, best
from ctkd_search.space.definition import Space


@dataclass(frozen=True)
class Confirmed:
    """A config that was trained again with fresh seeds.

    Attributes:
        trial: The trial that it confirms. Its own value does not count, because it was chosen for it.
        values: Objective value of each finished repetition, by seed.
        resolution: Unit of which values are multiples.
        picked_from: Number of confirmed configs of which the winner was picked; 1 for all but the winner.
    """

    trial: TrialRecord
    values: Mapping[int, float]
    resolution: float = 0.0
    picked_from: int = 1

    @property
    def estimate(self) -> Estimate:
        """Returns the mean over the seeds; the winner's interval is wider, because it was picked as the best."""
        return estimate(list(self.values.values()), self.resolution, self.picked_from)


def confirmed(trials: Sequence[TrialRecord]) -> list[Confirmed]:
    """Returns the confirmed configs and baselines, best mean first."""
    found: dict[int, dict[int, float]] = {}
    images = [trial.images for trial in trials if trial.repeats is not None and trial.images]
    for trial in trials:
        if trial.repeats is not None and trial.status == FINISHED and math.isfinite(trial.score):
            found.setdefault(trial.repeats, {})[trial.seed] = trial.metric.sign * trial.score
    by_number = {trial.number: trial for trial in trials}
    configs = [
        Confirmed(by_number[number], values, by_number[number].metric.resolution(min(images, default=None)))
        for number, values in found.items()
        if number in by_number
    ]
    configs.sort(key=lambda config: (-config.trial.metric.sign * fmean(config.values.values()), config.trial.number))
    chosen = _best_confirmed(configs)
    several = sum(config.trial.explores for config in configs)
    return [dataclasses.replace(config, picked_from=several) if config is chosen else config for config in configs]


def _best_confirmed(configs: Sequence[Confirmed]) -> Confirmed | None:
    """Returns the searched config with the best mean, of configs that are sorted by it."""
    searched = [config for config in configs if config.trial.explores]
    # A config some of whose repetitions failed is not judged by the others, which may be the better ones.
    most = max((len(config.values) for config in searched), default=0)
    return next((config for config in searched if len(config.values) == most), None)


def winner(trials: Sequence[TrialRecord]) -> TrialRecord | None:
    """Returns the searched config with the best confirmed mean; before any is confirmed, the best trial."""
    chosen = _best_confirmed(confirmed(trials))
    return chosen.trial if chosen else best(trials)


def not_confirmed(space: Space, trials: Sequence[TrialRecord], again: str) -> str | None:
    """Returns a line on a search whose time budget has ended before any config was confirmed; None if one was.

    Args:
        space: Its space; None is returned where it has no confirmation.
        trials: Its trials; None is returned where none has a result.
        again: Command that goes on with it.
    """
    repeated = any(trial.repeats is not None and trial.baseline is None and trial.ended for trial in trials)
    if space.strategy.confirm is None or repeated or winner(trials) is None:
        return None
    return (
        "the winner is not confirmed, because the time budget ended before that; raise it, or go on with as much "
        f"again: {again}"
    )


@dataclass(frozen=True)
class Standing:
    """The state of a search when a trial finished.

    Attributes:
        at: The time, in milliseconds since 1970.
        trials: Number of explored trials that had finished.
        epochs: Epochs that all explored trials had trained.
        value: Best objective value of those that had finished.
    """

    at: int
    trials: int
    epochs: int
    value: float


def best_so_far(trials: Sequence[TrialRecord]) -> list[Standing]:
    """Returns the best value so far whenever an explored trial finished, in the order in which they did."""
    explored = [trial for trial in trials if trial.explores and trial.epochs]
    trained = sorted(epoch["at"] for trial in explored for epoch in trial.epochs)
    finished = [trial for trial in explored if trial.status == FINISHED and math.isfinite(trial.score)]
    standings: list[Standing] = []
    best_score = -math.inf
    for count, trial in enumerate(sorted(finished, key=lambda trial: (trial.epochs[-1]["at"], trial.number)), start=1):
        best_score = max(best_score, trial.score)
        at = trial.epochs[-1]["at"]
        standings.append(Standing(at, count, bisect.bisect_right(trained, at), trial.metric.sign * best_score))
    return standings


def find_trial(trials: Sequence[TrialRecord], wanted: str | None) -> TrialRecord:
    """Returns the trial of that number, or the winner.

    Raises:
        UserError: There is none.
    """
    chosen = winner(trials) if wanted is None else next((t for t in trials if wanted == str(t.number)), None)
    if chosen is None:
        what = "no trial has finished an epoch yet" if wanted is None else f"there is no trial {wanted}"
        raise UserError(f"{what}; ctkd-search show lists the trials")
    return chosen


def over_methods(configs: Sequence[Confirmed]) -> bool:
    """Returns whether configs of several methods were confirmed, so that tables name each trial's method."""
    return len({config.trial.method for config in configs if config.trial.explores}) > 1


def verdicts(trials: Sequence[TrialRecord]) -> list[str]:
    """Returns verdicts of the confirmation: on the winner and the next config, and on the winner and a baseline."""
    configs = confirmed(trials)
    chosen = winner(trials)
    first = next((config for config in configs if config.trial is chosen), None)
    if first is None:
        return []
    others = [config for config in configs if config is not first]
    second = next((config for config in others if config.trial.explores), None)
    baseline = next((config for config in others if not config.trial.explores), None)
    return [
        verdict(
            _called(first.trial), _called(other.trial), gap_to(trials, other.trial, first.trial), first.trial.metric
        )
        for other in (second, baseline)
        if other is not None
    ]


def verdict(one: str, two: str, gap: Estimate | None, metric: Metric = ACCURACY) -> str:
    """Returns in a sentence whether two things can be told apart.

    Args:
        one: Name of the first.
        two: Name of the second.
        gap: Difference of the first from the second, from seeds that both have; None if there are none.
        metric: Metric that they are judged by.
    """
    if gap is None:
        return f"{one} and {two} have no seed in common, so they cannot be compared"
    apart = f"{metric.signed(gap.mean)} {metric.difference_unit}"
    if metric is not ACCURACY:
        apart = f"{metric.label} {apart}"
    if gap.n == 1:
        return f"{one} and {two} cannot be told apart by one seed alone ({apart})"
    if math.isinf(gap.half_width):
        return f"{one} and {two} cannot be told apart ({apart} with every one of {gap.n} seeds: no spread was seen)"
    apart += f", 95 % interval ±{metric.number(gap.half_width)}, n = {gap.n} seeds"
    if not gap.excludes(0.0):
        return f"{one} and {two} cannot be told apart ({apart})"
    return f"{one} is {'better' if metric.sign * gap.mean > 0 else 'worse'} than {two} ({apart})"


def _called(trial: TrialRecord) -> str:
    return f"trial {trial.number}" if trial.explores else f"the baseline {trial.baseline} (trial {trial.number})"


def gap_to(trials: Sequence[TrialRecord], leader: TrialRecord, other: TrialRecord) -> Estimate | None:
    """Returns the difference of a trial's value from the leader's, below 0 if it is lower.

    It is estimated from the seeds with which both were confirmed; if there are none, from their own values.
    """
    configs = confirmed(trials)
    there = {config.trial.number for config in configs}
    if {other.number, leader.number} <= there:
        return _between(configs, other.number, leader.number)
    if other.value is None or leader.value is None:
        return None
    return estimate([other.value - leader.value])


def _between(configs: Sequence[Confirmed], one: int, two: int) -> Estimate | None:
    """Returns the difference of two confirmed configs, with an interval that holds together with all that are shown."""
    family = Family({config.trial.number: config.values for config in configs}, configs[0].resolution)
    chosen = _best_confirmed(configs)
    searched = sum(config.trial.explores for config in configs)
    if chosen is not None and chosen.trial.number in (one, two):
        return family.difference(one, two, searched, len(configs) - searched)
    # Of two that may have been picked for any reason, by all pairs.
    return family.difference(one, two, len(configs), 0)
