"""The plan of a final training: a config and its baselines, each with several seeds."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from dataclasses import dataclass
from typing import Any

from ctkd_search import data
from ctkd_search.config import TrialConfig, plain
from ctkd_search.distill.methods.base import Method, Parameter, make_method, method_class, same_meaning
from ctkd_search.distill.requests import COMPUTED, Needs
from ctkd_search.errors import UserError
from ctkd_search.pairs import Pair
from ctkd_search.records.store import BASELINE, FINAL, TrialRecord
from ctkd_search.records.trial_configs import with_seed
from ctkd_search.space.baselines import BASELINES, USUAL, baseline_method, is_papers
from ctkd_search.space.defaults import default_of
from ctkd_search.space.definition import Space, shown_values
from ctkd_search.space.distributions import Constant
from ctkd_search.space.effects import baseline_fault
from ctkd_search.space.ensembles import expert_fault
from ctkd_search.space.search_reader import pair_fault
from ctkd_search.space.sections import Budget, Resources, Scheduler, Tracking
from ctkd_search.space.strategy import Strategy
from ctkd_search.space.teacher_mode import Trajectories, whole_logits_fault


@dataclass(frozen=True)
class FinalPlan:
    """The plan of a final training.

    Attributes:
        name: Name of the config, and of the directory that contains the final training.
        config: The config.
        seeds: Number of seeds that it is trained with.
        new_streams: Whether every seed has a stream and teachers of its own, and not only initial weights.
        baselines: Names of the baselines that are trained with the same seeds.
    """

    name: str
    config: TrialConfig
    seeds: int = 1
    new_streams: bool = False
    baselines: tuple[str, ...] = ()

    def content(self) -> dict[str, Any]:
        """Returns everything that determines the result, as plain values."""
        config = self.config.as_dict()
        if self.config.teachers.mode != "auto":
            del config["teachers"]["trajectory_limit"]
        return {
            "config": config,
            "seeds": self.seeds,
            "new_streams": self.new_streams,
            "baselines": list(self.baselines),
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
                baselines=self.baselines,
                objectives=(config.objective,),
                metrics=config.metrics,
            ),
            entries={"pair": Constant(_pair(config))},
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
                plain(shown_values(_config_of(self.config, baseline))),
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
        """Returns the config of a training, with the precision of the space."""
        config = dataclasses.replace(self.config, train=space.train, teachers=space.teachers)
        config = with_seed(_config_of(config, trial.baseline), trial.seed, config.seed)
        return dataclasses.replace(config, student_seed=trial.student_seed)

    @functools.cached_property
    def _needs(self) -> list[Needs]:
        """The needs of the config, and of each baseline."""
        configs = [_config_of(self.config, baseline) for baseline in (None, *self.baselines)]
        return [make_method(config.method).needs for config in configs]

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
        recorded = any(each.any_scratch for each in self._needs)
        storage = self.config.teachers.storage
        streams, average = self.streams if recorded else 0, any(each.average for each in self._needs)
        return Trajectories(self.config.epochs, images, classes, storage, streams, average=average)

    def keeps_maps(self) -> bool:
        """Returns whether several trainings request outputs of an expert along one stream, which are then recorded.

        They need not request the same outputs: all of them are recorded in one pass.
        """
        asking = sum(any(request.kind not in COMPUTED for request in each.expert) for each in self._needs)
        return asking * (1 if self.new_streams else self.seeds) > 1


def make_plan(
    name: str, config: TrialConfig, seeds: int, new_streams: bool, baselines: str | None
) -> tuple[FinalPlan, list[str]]:
    """Makes the plan of a final training.

    Args:
        name: Name of the config.
        config: The config.
        seeds: Number of seeds.
        new_streams: Whether every seed has a stream and teachers of its own.
        baselines: The baselines as named by the user; see `choose_baselines`.

    Returns:
        The plan, and notes for the user, a line each.

    Raises:
        UserError: An option is unknown or has no effect.
    """
    if new_streams and seeds == 1:
        raise UserError("--new-streams has no effect with one seed; add --seeds N, or leave it out")
    chosen, notes = choose_baselines(baselines, config, seeds)
    return FinalPlan(name, config, seeds, new_streams, chosen), notes


def choose_baselines(asked: str | None, config: TrialConfig, seeds: int) -> tuple[tuple[str, ...], list[str]]:
    """Chooses the baselines that are trained beside a config.

    Args:
        asked: Names with commas between them, or ``none``; None for the default: the usual ones where there are
            several seeds, and none where there is one.
        config: The config.
        seeds: Number of seeds.

    Returns:
        Their names in the order of `BASELINES`, and a line for each that the default leaves out.

    Raises:
        UserError: A named baseline is unknown or makes no sense for this config.
    """
    if asked == "none" or (asked is None and seeds == 1):
        return (), []
    names = list(USUAL) if asked is None else [name.strip() for name in asked.split(",")]
    known = f"there are: {', '.join(BASELINES)}, or none for no baseline"
    for number, name in enumerate(names):
        if name not in BASELINES:
            raise UserError(f"--baselines: unknown baseline {name!r}; {known}")
        if name in names[:number]:
            raise UserError(f"--baselines: {name} is duplicated; name it once")
    own = make_method(config.method)
    faults = {name: fault for name in names if (fault := _fault(config, own, name))}
    if asked is not None:
        for name, fault in faults.items():
            raise UserError(f"--baselines: {name} {fault}; leave it out")
    chosen = tuple(name for name in BASELINES if name in names and name not in faults)
    return chosen, [f"baseline {name} is left out: it {fault}" for name, fault in faults.items()]


def _pair(config: TrialConfig) -> str:
    return str(Pair(config.teacher, config.student))


def _config_of(config: TrialConfig, baseline: str | None) -> TrialConfig:
    """Returns a config, or one of its baselines with the same recipe, data and budget.

    Parameters that a baseline shares with the config's method have the config's values; where such a value is 0, and in
    baselines with the default settings, they have the defaults for the pair and the images.
    """
    if baseline is None:
        return config
    pair, geometry = _pair(config), data.geometry(config.dataset)

    def own(parameter: Parameter) -> Any:
        if not is_papers(baseline):
            for other in method_class(config.method.name).parameters:
                if same_meaning(parameter, other) and config.method.values.get(other.name):
                    return config.method.values[other.name]
        return None

    method = baseline_method(baseline, own, lambda parameter: default_of(parameter, pair, geometry))
    return dataclasses.replace(config, method=method)


def _fault(config: TrialConfig, own: Method, name: str) -> str | None:
    """Returns the reason why a baseline makes no sense for a config and its method, or None."""
    baseline = _config_of(config, name)
    made = make_method(baseline.method)
    if made.canonical() == own.canonical():
        return "is the same as the config itself"
    pair, geometry = _pair(config), data.geometry(config.dataset)
    if fault := expert_fault(baseline.teachers, baseline.teacher, made.needs, geometry):
        return f"cannot be used with the expert ({fault})"
    if fault := pair_fault(pair, [made], geometry):
        return f"cannot be used with the pair ({fault})"
    if fault := whole_logits_fault(config.teachers.storage, [made]):
        return f"cannot be used with teachers.storage, which {fault}"
    return baseline_fault(made, pair, geometry, baseline.epochs)
