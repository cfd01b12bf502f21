"""The best configs of a search, from which another one may begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from ctkd_search.analysis.standing import confirmed, winner
from ctkd_search.config import plain
from ctkd_search.records.store import FINISHED, TrialRecord, ranked

# Number of configs of an earlier search that are tried first.
CONFIGS = 3


@dataclass(frozen=True)
class BestConfig:
    """A config that is among the best of a search.

    Attributes:
        trial: The trial that had it.
        value: Its objective value: the mean over fresh seeds if it was confirmed, else that of the trial.
        seeds: Number of fresh seeds; 0 if it was not confirmed.
    """

    trial: TrialRecord
    value: float
    seeds: int


def best_configs(trials: Sequence[TrialRecord], count: int) -> list[BestConfig]:
    """Returns the best configs of a search, no two of the same values.

    Those that were confirmed come first, the winner before the others, by their means; then the other trials that
    finished, by their own values.

    Args:
        trials: The trials of the search.
        count: Maximum number of configs.
    """
    again = [config for config in confirmed(trials) if config.trial.explores]
    chosen = winner(trials)
    again.sort(key=lambda config: config.trial is not chosen)  # stable: the others stay in the order of their means
    found = [BestConfig(one.trial, fmean(one.values.values()), len(one.values)) for one in again]
    finished = ranked([trial for trial in trials if trial.explores and trial.status == FINISHED and trial.epochs])
    known = {one.trial.number for one in found}
    found += [BestConfig(one, one.value, 0) for one in finished if one.number not in known and one.value is not None]
    different: list[BestConfig] = []
    for one in found:
        if all(plain(one.trial.values) != plain(other.trial.values) for other in different):
            different.append(one)
    return different[:count]
