"""Comparison of the methods of a search: the best trial of each, its gap to the winner, and the epochs spent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ctkd_search.analysis.intervals import Estimate
from ctkd_search.analysis.standing import Confirmed, confirmed, gap_to, winner
from ctkd_search.records.store import FINISHED, TrialRecord


@dataclass(frozen=True)
class MethodStanding:
    """A method in a search.

    Attributes:
        method: Its name.
        best: Its best trial: by the confirmed mean, or by its own value if none was confirmed; None if none has
            finished an epoch.
        mean: The fresh seeds of the best one, if it was confirmed.
        gap: Difference of the best one from the winner of the search; None for the winner itself, and if it is not
            known.
        trials: Number of its trials.
        epochs: Epochs of them all.
    """

    method: str
    best: TrialRecord | None
    mean: Confirmed | None
    gap: Estimate | None
    trials: int
    epochs: int

    @property
    def score(self) -> tuple[bool, float]:
        """Returns the key that methods are sorted by, higher is better: a confirmed mean comes before a single seed."""
        if self.best is None:
            return False, -math.inf
        if self.mean is not None:
            return True, self.best.metric.sign * self.mean.estimate.mean
        return False, self.best.score


def by_method(trials: Sequence[TrialRecord]) -> list[MethodStanding]:
    """The methods of a search, the best first; none where there is but one."""
    explored = [trial for trial in trials if trial.explores]
    names = dict.fromkeys(trial.method for trial in explored)
    if len(names) < 2:
        return []
    leader = winner(trials)
    found = [_standing(name, trials, leader) for name in names]
    return sorted(found, key=lambda standing: (standing.best is leader, standing.score), reverse=True)


def _standing(name: str, trials: Sequence[TrialRecord], leader: TrialRecord | None) -> MethodStanding:
    own = [trial for trial in trials if trial.method == name and not trial.baseline]
    explored = [trial for trial in own if trial.explores]
    best = winner(own)
    comparable = best is not None and leader is not None and best is not leader and best.status == FINISHED
    return MethodStanding(
        method=name,
        best=best,
        mean=next((config for config in confirmed(trials) if config.trial is best), None),
        gap=gap_to(trials, leader, best) if comparable and leader and best else None,
        trials=len(explored),
        epochs=sum(len(trial.epochs) for trial in explored),
    )
