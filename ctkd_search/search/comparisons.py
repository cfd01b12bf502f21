"""Trials that Optuna does not suggest: baselines, and the confirmation of the winner."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from ctkd_search.analysis.best_configs import without_copies
from ctkd_search.analysis.pareto import front
from ctkd_search.pairs import split_pair
from ctkd_search.records.store import BASELINE, FINISHED, TrialRecord, contenders
from ctkd_search.space.baselines import baseline_pairs, is_teacherless
from ctkd_search.space.comparisons import baseline_config
from ctkd_search.space.definition import Space
from ctkd_search.space.sections import Confirm


def missing_baselines(space: Space, records: Mapping[int, TrialRecord]) -> list[TrialRecord]:
    """Returns the runs of baselines that a search does not have yet."""
    existing = {(record.baseline, record.values["pair"]) for record in records.values() if record.repeats is None}
    numbers = itertools.count(max(records, default=0) + 1)
    missing = []
    for name, pair in baseline_pairs(space.strategy.baselines, space.pairs()):
        if (name, pair) not in existing:
            values = space.values_of(baseline_config(space, name, pair))
            missing.append(
                TrialRecord(
                    next(numbers),
                    values,
                    {},
                    space.seed,
                    kind=BASELINE,
                    baseline=name,
                    objective=space.strategy.judge.key,
                )
            )
    return missing


def missing_confirmations(
    space: Space, records: Mapping[int, TrialRecord], costs: Mapping[str, Mapping[str, float]]
) -> list[TrialRecord]:
    """Returns the repetitions with fresh seeds that a search does not have yet.

    Args:
        space: The space.
        records: Every trial by number.
        costs: The costs of each student.
    """
    confirm = space.strategy.confirm
    if confirm is None:
        return []
    chosen = chosen_to_confirm(space, list(records.values()), costs)
    pairs = {trial.values["pair"] for trial in chosen}
    students = {_student(trial) for trial in chosen}
    compared = [
        trial
        for trial in records.values()
        if trial.is_baseline_run
        and trial.status == FINISHED
        and (trial.values["pair"] in pairs or (is_teacherless(str(trial.baseline)) and _student(trial) in students))
    ]
    existing = {(record.repeats, record.seed) for record in records.values()}
    seeds = [space.seed + number for number in range(1, confirm.seeds + 1)]
    numbers = itertools.count(max(records, default=0) + 1)
    return [
        TrialRecord(
            next(numbers),
            trial.values,
            trial.stored,
            seed,
            kind=trial.kind,
            baseline=trial.baseline,
            repeats=trial.number,
            objective=trial.objective,
        )
        for seed in seeds
        for trial in (*chosen, *compared)
        if (trial.number, seed) not in existing
    ]


def chosen_to_confirm(
    space: Space, records: Sequence[TrialRecord], costs: Mapping[str, Mapping[str, float]]
) -> list[TrialRecord]:
    """Returns the trials that are confirmed: the best of all or of each method, as the space sets.

    No two of them have the same values.
    """
    confirm = space.strategy.confirm
    if confirm is None:
        return []
    if not confirm.per_method:
        return _different(to_confirm(space, records, costs))[: confirm.best]
    of_methods = ([trial for trial in records if trial.method == name] for name in space.methods())
    return [trial for own in of_methods for trial in _different(to_confirm(space, own, costs))[: confirm.best]]


def may_win(
    space: Space, records: Sequence[TrialRecord], costs: Mapping[str, Mapping[str, float]]
) -> list[TrialRecord]:
    """Returns the trials that are the winner now, or may become it, so that their students are kept.

    Args:
        space: The space.
        records: Every trial.
        costs: The costs of each student.
    """
    if len(space.strategy.objectives) > 1:
        # A trial that is far down may still be chosen if those above it leave the front.
        confirmable = to_confirm(space, records, costs)
    elif space.strategy.confirm is not None:
        confirmable = chosen_to_confirm(space, records, costs)
    else:
        # A confirmation may be added once the search has finished.
        confirmable = _different(to_confirm(space, records, costs))[: Confirm().best]
    # One that is confirmed already wins again where those that later trials added are not.
    repeated = {record.repeats for record in records}
    again = [record for record in records if record.explores and record.number in repeated]
    return [*confirmable, *again, *contenders(records)[:1]]


def to_confirm(
    space: Space, records: Sequence[TrialRecord], costs: Mapping[str, Mapping[str, float]]
) -> list[TrialRecord]:
    """Returns the finished trials, best first; with several objectives, those on the Pareto front."""
    finished = [trial for trial in contenders(records) if trial.status == FINISHED]
    if len(space.strategy.objectives) == 1:
        return finished
    return front(finished, space.strategy.objectives, costs)


def _different(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    return without_copies(trials, lambda trial: trial)


def _student(trial: TrialRecord) -> str:
    return split_pair(trial.values["pair"]).student
