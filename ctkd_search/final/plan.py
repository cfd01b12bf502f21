"""The plan of a final training: a config and its baselines, each with several seeds."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ctkd_search import data
from ctkd_search.config import TrialConfig, plain
from ctkd_search.distill.asked import AugmentedTeacher, augmented_teacher
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.requests import COMPUTED, Needs
from ctkd_search.errors import UserError
from ctkd_search.final.baselines import choose_baselines, named_baseline, pair_of
from ctkd_search.records.store import BASELINE, FINAL, TrialRecord
from ctkd_search.records.trial_configs import with_seed
from ctkd_search.space.definition import Space, shown_values
from ctkd_search.space.distributions import Constant
from ctkd_search.space.sections import Budget, Resources, Scheduler, Tracking
from ctkd_search.space.strategy import Strategy
from ctkd_search.space.teacher_mode import Trajectories


@dataclass(frozen=True)
class FinalPlan:
    """The plan of a final training.

    Attributes:
        name: Name of the config, and of the directory that contains the final training.
        config: The config.
        seeds: Number of seeds that it is trained with.
        new_streams: Whether every seed has a stream and teachers of its own, and not only initial weights.
        baselines: Names of the baselines that are trained with the same seeds.
        files: The configs of those baselines that were given as files, by their names.
    """

    name: str
    config: TrialConfig
    seeds: int = 1
    new_streams: bool = False
    baselines: tuple[str, ...] = ()
    files: Mapping[str, TrialConfig] = field(default_factory=dict)

    def config_for(self, baseline: str | None) -> TrialConfig:
        """Returns the config, or that of a baseline."""
        if baseline is None:
            return self.config
        return self.files.get(baseline) or named_baseline(self.config, baseline)

    @functools.cached_property
    def configs(self) -> list[TrialConfig]:
        """The config, and those of the baselines."""
        return [self.config_for(baseline) for baseline in (None, *self.baselines)]

    @property
    def own_configs(self) -> list[TrialConfig]:
        """The configs with a method and a recipe of their own: the config, and those of files."""
        return [self.config, *self.files.values()]

    def content(self) -> dict[str, Any]:
        """Returns everything that determines the result, as plain values."""
        return {
            "config": _plain(self.config),
            "seeds": self.seeds,
            "new_streams": self.new_streams,
            "baselines": list(self.baselines),
            **({"files": {name: _plain(config) for name, config in self.files.items()}} if self.files else {}),
        }

    def space(self, resources: Resources, tracking: Tracking) -> Space:
        """Returns the config as a space in which nothing is searched.

        Args:
            resources: The resources that a training may use.
            tracking: The settings of MLflow.
        """
        config = self.config
        return Space(
            name=self.name,
            dataset=config.dataset,
            augment=config.augment,
            budget=Budget(trials=1, epochs=config.epochs),
            teachers=config.teachers,
            train=config.train,
            strategy=Strategy(
                scheduler=Scheduler("none"),
                baselines=tuple(name for name in self.baselines if name not in self.files),
                objectives=(config.objective,),
                metrics=config.metrics,
            ),
            entries={"pair": Constant(pair_of(config))},
            resources=resources,
            tracking=tracking,
            seed=config.seed,
            raw=self.content(),
            geometry=data.geometry(config.dataset),
        )

    def trials(self) -> list[TrialRecord]:
        """Returns every training, ordered by seed, so that the trainings that are compared run at the same time."""
        numbers = itertools.count(1)
        first, stream = self.config.seed_of_student, self.config.seed
        return [
            TrialRecord(
                next(numbers),
                plain(shown_values(self.config_for(baseline))),
                {},
                stream + number if self.new_streams else stream,
                kind=FINAL if baseline is None else BASELINE,
                baseline=baseline,
                student_seed=first + number,
                objective=self.config.objective,
            )
            for number in range(self.seeds)
            for baseline in (None, *self.baselines)
        ]

    def config_of(self, space: Space, trial: TrialRecord) -> TrialConfig:
        """Returns the config of a training, with the precision and the mode of the teachers of the space."""
        config = self.config_for(trial.baseline)
        train = replace(config.train, precision=space.train.precision)
        config = with_seed(replace(config, train=train, teachers=space.teachers), trial.seed, config.seed)
        return replace(config, student_seed=trial.student_seed)

    @functools.cached_property
    def _needs(self) -> list[Needs]:
        """The needs of the config, and of each baseline."""
        return [make_method(config.method).needs for config in self.configs]

    def _of_teacher(self) -> dict[AugmentedTeacher, list[Needs]]:
        """Returns the needs that each teacher serves along one stream."""
        found: dict[AugmentedTeacher, list[Needs]] = {}
        for config, needs in zip(self.configs, self._needs, strict=True):
            found.setdefault(augmented_teacher(config), []).append(needs)
        return found

    @property
    def streams(self) -> int:
        """The number of streams, each with its own teachers."""
        return self.seeds if self.new_streams else 1

    def trajectories(self, images: int, classes: int) -> Trajectories:
        """Returns the recordings of the teachers' logits that the plan needs.

        Args:
            images: Number of training images.
            classes: Number of classes.
        """
        scratch = [any(needs.any_scratch for needs in served) for served in self._of_teacher().values()]
        storage, average = self.config.teachers.storage, any(needs.average for needs in self._needs)
        teachers = self.streams * sum(scratch)
        return Trajectories(self.config.epochs, images, classes, storage, teachers, average=average)

    def keeps_maps(self) -> bool:
        """Returns whether several trainings request outputs of an expert along one stream, which are then recorded.

        They need not request the same outputs: all of them are recorded in one pass.
        """
        each = 1 if self.new_streams else self.seeds
        return any(
            each * sum(any(request.kind not in COMPUTED for request in needs.expert) for needs in served) > 1
            for served in self._of_teacher().values()
        )


def make_plan(
    name: str,
    config: TrialConfig,
    seeds: int,
    new_streams: bool,
    baselines: Sequence[str | Path] | None,
    epochs: int | None = None,
) -> tuple[FinalPlan, tuple[str, ...]]:
    """Makes the plan of a final training.

    Args:
        name: Name of the config.
        config: The config.
        seeds: Number of seeds.
        new_streams: Whether every seed has a stream and teachers of its own.
        baselines: The baselines as named by the user; see `choose_baselines`.
        epochs: Number of epochs that the user asked for, which `config` has already.

    Returns:
        The plan, and notes for the user, a line each.

    Raises:
        UserError: An option is unknown or has no effect.
    """
    if new_streams and seeds == 1:
        raise UserError("--new-streams has no effect with one seed; add --seeds N, or leave it out")
    chosen = choose_baselines(baselines, config, seeds, epochs)
    return FinalPlan(name, config, seeds, new_streams, chosen.names, chosen.files), chosen.notes


def _plain(config: TrialConfig) -> dict[str, Any]:
    """Returns a config as plain values, without the limit by which a mode is chosen where it has one of its own."""
    content = config.as_dict()
    if config.teachers.mode != "auto":
        del content["teachers"]["trajectory_limit"]
    return content
