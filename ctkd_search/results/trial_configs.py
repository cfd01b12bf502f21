"""From a trial's record back to the config that it trains."""

from __future__ import annotations

import dataclasses

from ctkd_search.baselines import baseline_config
from ctkd_search.config import TrialConfig
from ctkd_search.results.store import TrialRecord
from ctkd_search.space import Space


def config_of(space: Space, trial: TrialRecord) -> TrialConfig:
    """The config of a trial of a search: searched or baseline, with the search's seed or with another."""
    if trial.baseline is not None:
        config = baseline_config(space, trial.baseline, trial.values["pair"])
    else:
        config = space.config(space.decode(trial.stored))
    return with_seed(config, trial.seed, space.seed)


def label_of(space: Space, trial: TrialRecord) -> str:
    """A trial's short name."""
    name = f"{trial.baseline} {space.short_pair(trial.values['pair'])}" if trial.baseline else space.label(trial.values)
    if trial.student_seed is not None:
        return f"{name} seed={trial.student_seed}"
    return name if trial.repeats is None else f"{name} seed={trial.seed}"


def with_seed(config: TrialConfig, seed: int, own: int) -> TrialConfig:
    """A config with another seed, all the way down: stream, student, and the teachers' initial weights.

    Args:
        config: The config.
        seed: The seed wanted.
        own: The seed that its space has.
    """
    if seed == own:
        return config
    expert = config.teachers.expert
    if expert.seed is not None:
        expert = dataclasses.replace(expert, seed=expert.seed + seed - own)
    teachers = dataclasses.replace(config.teachers, seed=config.teachers.seed + seed - own, expert=expert)
    return dataclasses.replace(config, seed=seed, teachers=teachers)
