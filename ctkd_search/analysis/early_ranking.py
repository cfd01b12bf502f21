"""Agreement of the ranking of trials in the middle of their training with the ranking at its end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ctkd_search.records.store import FINISHED, TrialRecord
from ctkd_search.space.strategy import Ranking

# Fewest trials of which a correlation is told.
_FEWEST = 3


@dataclass(frozen=True)
class Agreement:
    """Agreement of the ranking after some epoch with the ranking at the end.

    Attributes:
        correlation: Spearman's rank correlation, from -1 to 1, of what trials are compared by and the objective at
            their end: the mean over the methods, each weighted by its trials.
        trials: Number of trials that it is computed from: those that finished, of methods with three or more.
    """

    correlation: float
    trials: int


def agreement(trials: Sequence[TrialRecord], epoch: int, ranking: Ranking) -> Agreement | None:
    """Returns how well the ranking after an epoch agreed with the end; None if too few trials have finished.

    Trials that were stopped have no end, so that the agreement is that among the better ones alone.

    Args:
        trials: The explored trials.
        epoch: The epoch, from 1.
        ranking: What they are compared by.
    """
    from scipy.stats import spearmanr

    by_method: dict[str, list[tuple[float, float]]] = {}
    for trial in trials:
        early = trial.epochs[epoch - 1].get(ranking.key) if len(trial.epochs) >= epoch else None
        if trial.status == FINISHED and early is not None and math.isfinite(early) and math.isfinite(trial.score):
            by_method.setdefault(trial.method, []).append((ranking.metric.sign * early, trial.score))
    total, count = 0.0, 0
    for pairs in by_method.values():
        if len(pairs) < _FEWEST or any(len(set(values)) == 1 for values in zip(*pairs, strict=True)):
            continue  # equal values have no ranking
        early_values, ends = zip(*pairs, strict=True)
        total += len(pairs) * float(spearmanr(early_values, ends).statistic)
        count += len(pairs)
    return Agreement(total / count, count) if count else None
