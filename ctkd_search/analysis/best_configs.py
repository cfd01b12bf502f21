"""The best configs of a search, from which another one may begin."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, TypeVar

from ctkd_search.analysis.standing import confirmed, winner
from ctkd_search.records.store import FINISHED, TrialRecord, ranked
from ctkd_search.space.parameters import METHOD

# Number of configs of an earlier search that are tried first, beside the best one of each method that has none of them.
CONFIGS = 3
Found = TypeVar("Found")


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
    """Returns the best configs of a search, no two of the same values, and the best one of each method among them.

    Those that were confirmed come first, the winner before the others, by their means; then the other trials that
    finished, by their own values.

    Args:
        trials: The trials of the search.
        count: Maximum number of configs of whatever method; the best ones of other methods follow them.
    """
    again = [config for config in confirmed(trials) if config.trial.explores]
    chosen = winner(trials)
    again.sort(key=lambda config: config.trial is not chosen)  # stable: the others stay in the order of their means
    found = [BestConfig(one.trial, fmean(one.values.values()), len(one.values)) for one in again]
    finished = ranked([trial for trial in trials if trial.explores and trial.status == FINISHED and trial.epochs])
    known = {one.trial.number for one in found}
    found += [BestConfig(one, one.value, 0) for one in finished if one.number not in known and one.value is not None]
    different = without_copies(found, lambda one: one.trial)
    # A search that compares methods begins on equal terms.
    best, others = different[:count], different[count:]
    for one in others:
        if all(_method(one) != _method(other) for other in best):
            best.append(one)
    return best


def without_copies(found: Iterable[Found], trial_of: Callable[[Found], TrialRecord]) -> list[Found]:
    """Returns the first of those whose trials have equal values: a small space is drawn from several times.

    Args:
        found: What is looked through, in its order.
        trial_of: Returns the trial of one.
    """
    different: dict[Hashable, Found] = {}
    for one in found:
        different.setdefault(_frozen(trial_of(one).values), one)
    return list(different.values())


def _frozen(value: Any) -> Hashable:
    """Returns what is equal for equal plain values, to look them up: this is asked at the end of every trial."""
    if isinstance(value, Mapping):
        return frozenset((key, _frozen(inner)) for key, inner in value.items())
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _method(config: BestConfig) -> Any:
    return config.trial.values.get(METHOD.name)
