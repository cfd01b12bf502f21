"""Configs of trials, rebuilt from their records."""

from __future__ import annotations

import dataclasses

from ctkd_search.config import Augment, MethodConfig, TrialConfig
from ctkd_search.distill.methods.base import method_class
from ctkd_search.records.store import TrialRecord
from ctkd_search.space.definition import Space
from ctkd_search.space.parameters import AUGMENT, TRAINING, key_of


def config_of(space: Space, trial: TrialRecord) -> TrialConfig:
    """Returns the config of a trial of a search: searched or baseline, with the search's seed or with another.

    The values in its record are used, even if defaults have changed since; parameters that are not in it have no
    effect.
    """
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in trial.values.items()}
    varied = method_class(trial.method).parameters
    method = {item.name: values.get(key_of(trial.method, item.name), item.default) for item in varied}
    recipe = {item.name: values[item.name] for item in TRAINING if item.name in values}
    augment = trial.values.get(AUGMENT)
    config = space.config_with(str(values["pair"]), MethodConfig(trial.method, method), recipe, augment)
    ranking = space.strategy.ranking
    if trial.explores and ranking is not None:
        config = dataclasses.replace(config, ranking_horizon=ranking.horizon)
    return with_seed(config, trial.seed, space.seed)


def augment_of(space: Space, trial: TrialRecord) -> Augment:
    """Returns the augmentation of a trial."""
    name = trial.values.get(AUGMENT)
    return space.augment if name is None else space.augments[name]


def label_of(space: Space, trial: TrialRecord) -> str:
    """Returns a trial's short name."""
    name = f"{trial.baseline} {space.short_pair(trial.values['pair'])}" if trial.baseline else space.label(trial.values)
    if trial.student_seed is not None:
        return f"{name} seed={trial.student_seed}"
    return name if trial.repeats is None else f"{name} seed={trial.seed}"


def with_seed(config: TrialConfig, seed: int, own: int) -> TrialConfig:
    """Returns a config with another seed for all of it: stream, student, and the teachers' initial weights.

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
