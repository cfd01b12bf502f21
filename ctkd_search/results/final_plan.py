"""What a final training trains: a config and its baselines, each with several seeds."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Any

from ctkd_search import data
from ctkd_search.baselines import BASELINES, baseline_config
from ctkd_search.config import TrialConfig, plain
from ctkd_search.distill.methods.base import LOGITS, make_method, methods
from ctkd_search.distributions import Constant
from ctkd_search.errors import UserError
from ctkd_search.pairs import Pair
from ctkd_search.results.store import BASELINE, FINAL, TrialRecord
from ctkd_search.results.trial_configs import with_seed
from ctkd_search.space import METHOD, TRAINING, Budget, Resources, Space, Tracking, allows
from ctkd_search.space_file import pair_fault
from ctkd_search.strategy import Scheduler, Strategy

_PAPER = "ctkd-paper"
# The side of the images with which the paper weighs its attention loss.
_PAPER_SIZE = 32


@dataclass(frozen=True)
class FinalPlan:
    """What a final training trains.

    Attributes:
        name: Name of the config, and of the directory that the final training stands in.
        config: The config.
        seeds: With how many seeds it is trained.
        new_streams: Whether every seed has a stream and teachers of its own, and not only initial weights.
        baselines: What is trained beside it with the same seeds, by name.
    """

    name: str
    config: TrialConfig
    seeds: int = 1
    new_streams: bool = False
    baselines: tuple[str, ...] = ()

    def content(self) -> dict[str, Any]:
        """All that determines what comes out, as plain values."""
        return {
            "config": self.config.as_dict(),
            "seeds": self.seeds,
            "new_streams": self.new_streams,
            "baselines": list(self.baselines),
        }

    def space(self, resources: Resources, tracking: Tracking) -> Space:
        """The config as a space in which nothing is searched.

        Args:
            resources: What a training may use of the machine.
            tracking: Where MLflow keeps the runs.
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
        )

    def trials(self) -> list[TrialRecord]:
        """Every training, the seeds one after the other, so that what is compared is trained side by side."""
        numbers = itertools.count(1)
        space = self.space(Resources(), Tracking())
        first, stream = self.config.seed_of_student, self.config.seed
        return [
            TrialRecord(
                next(numbers),
                plain(values_of(_config_of(self.config, space, baseline))),
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
        """The config of a training, in the precision that the space has settled."""
        config = dataclasses.replace(self.config, train=space.train, teachers=space.teachers)
        config = with_seed(_config_of(config, space, trial.baseline), trial.seed, config.seed)
        return dataclasses.replace(config, student_seed=trial.student_seed)

    def keeps_maps(self) -> bool:
        """Whether more than one training looks at the same attention maps, so that they are worth keeping."""
        space = self.space(Resources(), Tracking())
        configs = [_config_of(self.config, space, baseline) for baseline in (None, *self.baselines)]
        looking = sum(bool(_layers(config)) for config in configs)
        return looking * (1 if self.new_streams else self.seeds) > 1


def make_plan(
    name: str, config: TrialConfig, seeds: int, new_streams: bool, baselines: str | None
) -> tuple[FinalPlan, list[str]]:
    """What a final training trains.

    Args:
        name: Name of the config.
        config: The config.
        seeds: With how many seeds.
        new_streams: Whether every seed has a stream and teachers of its own.
        baselines: What `choose_baselines` was asked for.

    Returns:
        The plan, and what the user should know about it, a line each.

    Raises:
        UserError: Something was asked for that is unknown or has no effect.
    """
    if new_streams and seeds == 1:
        raise UserError("--new-streams has no effect with one seed; add --seeds N, or leave it out")
    chosen, notes = choose_baselines(baselines, config, seeds)
    return FinalPlan(name, config, seeds, new_streams, chosen), notes


def choose_baselines(asked: str | None, config: TrialConfig, seeds: int) -> tuple[tuple[str, ...], list[str]]:
    """Which baselines are trained beside a config.

    Args:
        asked: Names with commas between them, or ``none``; None for the default: every baseline where there are
            several seeds, and none where there is one.
        config: The config.
        seeds: How many seeds there are.

    Returns:
        Their names in the order of `BASELINES`, and a line for each that the default leaves out.

    Raises:
        UserError: One that was asked for is unknown or means nothing beside this config.
    """
    if asked == "none" or (asked is None and seeds == 1):
        return (), []
    names = list(BASELINES) if asked is None else [name.strip() for name in asked.split(",")]
    known = f"there are: {', '.join(BASELINES)}, or none for no baseline"
    for number, name in enumerate(names):
        if name not in BASELINES:
            raise UserError(f"--baselines: unknown baseline {name!r}; {known}")
        if name in names[:number]:
            raise UserError(f"--baselines: {name} is there twice")
    faults = {name: fault for name in names if (fault := _fault(config, name))}
    if asked is not None:
        for name, fault in faults.items():
            raise UserError(f"--baselines: {name} {fault}; leave it out")
    chosen = tuple(name for name in BASELINES if name in names and name not in faults)
    return chosen, [f"baseline {name} is left out: it {fault}" for name, fault in faults.items()]


def values_of(config: TrialConfig) -> dict[str, Any]:
    """What of a config's pair, method and recipe has an effect, as tables and MLflow show it."""
    method = config.method
    return {
        "pair": _pair(config),
        **{
            parameter.name: method[parameter.name]
            for parameter in methods()[method["name"]].parameters
            if all(allows(allowed, method[other]) for other, allowed in parameter.only_with.items())
        },
        **{item.name: getattr(config.train, item.name) for item in TRAINING},
    }


def _pair(config: TrialConfig) -> str:
    return str(Pair(config.teacher, config.student))


def _config_of(config: TrialConfig, space: Space, baseline: str | None) -> TrialConfig:
    """A config, or one of its baselines, which has its recipe, its data and its budget.

    What a baseline takes of CTKD keeps the config's own weight; where that is 0, and for all of ``ctkd-paper``, it is
    the paper's. The attention loss is a mean over positions, so that the paper's weight grows with their number.
    """
    if baseline is None:
        return config
    weight = space.parameters["beta"].default * (data.geometry(config.dataset).image_size / _PAPER_SIZE) ** 2
    values: dict[str, Any] = {"beta": weight}
    if config.method["name"] == METHOD and baseline != _PAPER:
        own = {name: value for name, value in config.method.items() if name != "name"}
        values |= {name: value for name, value in own.items() if value or name not in ("alpha", "beta")}
    entries = {**space.entries, **{name: Constant(value) for name, value in values.items()}}
    made = baseline_config(dataclasses.replace(space, entries=entries), baseline, _pair(config))
    return dataclasses.replace(made, student_seed=config.student_seed)


def _fault(config: TrialConfig, name: str) -> str | None:
    """Why a baseline means nothing beside a config, or None."""
    made = _config_of(config, FinalPlan("x", config).space(Resources(), Tracking()), name)
    if values_of(made) == values_of(config) and made.method["name"] == config.method["name"]:
        return "is what the config itself does"
    fault = pair_fault(_pair(config), _layers(made), data.geometry(config.dataset))
    return f"does not go with the pair ({fault})" if fault else None


def _layers(config: TrialConfig) -> list[int]:
    """The layers whose attention maps a training of a config looks at."""
    return [layer for layer in make_method(config.method).expert_layers if layer != LOGITS]
