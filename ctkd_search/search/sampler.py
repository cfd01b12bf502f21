"""Optuna's samplers, made repeatable: suggestions depend only on the seed and on the study."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, cast

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from ctkd_search.data.stream import derived_seed
from ctkd_search.space.distributions import Constant, Entry
from ctkd_search.space.sections import Sampler

# Returns the trials of a study as a sampler is told of them.
Told = Callable[[Sequence[FrozenTrial]], list[FrozenTrial]]
# Optuna's samplers accept seeds of 32 bits.
_SEEDS = 2**32
# Random trials before a model is made.
_STARTUP = 10
# Finished trials that a Gaussian process needs.
_FEWEST = 2


class StudyView:
    """A study whose trials are shown to a sampler otherwise than they are stored.

    Args:
        study: The study.
        told: Returns its trials as the sampler is told of them.
    """

    def __init__(self, study: Study, told: Told) -> None:
        self._study = study
        self._tell = told

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        """Returns the trials in some states, all if none are given, as the sampler is told of them."""
        trials = self._tell(self._study._get_trials(deepcopy=deepcopy, use_cache=use_cache))
        return [trial for trial in trials if states is None or trial.state in states]

    # Optuna's samplers call this one, which may return trials that it has in memory.
    _get_trials = get_trials


class Repeatable(BaseSampler):
    """A sampler that is made again, with its own seed, for every trial and every value that is drawn independently.

    A suggestion is therefore a function of the seed, the trial's number and the study: a search that goes on after an
    interruption, even in the middle of a suggestion, continues with the same suggestions.

    Args:
        make: Makes a sampler from a seed.
        seed: Seed of the search.
        told: Returns the trials of a study as the sampler is told of them.
        together: The parameters that may be drawn together; None for all.
    """

    def __init__(
        self, make: Callable[[int], BaseSampler], seed: int, told: Told, together: Container[str] | None = None
    ) -> None:
        self._make = make
        self._seed = seed
        self._told = told
        self._together = together
        self._current = self._fresh("unused")

    def _fresh(self, *parts: object) -> BaseSampler:
        with warnings.catch_warnings():
            for category in (optuna.exceptions.ExperimentalWarning, FutureWarning):
                warnings.simplefilter("ignore", category)
            return self._make(derived_seed("sampler", self._seed, *parts) % _SEEDS)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Called by Optuna at the beginning of a trial."""
        self._current = self._fresh(trial.number)
        found = self._current.infer_relative_search_space(self._view(study), trial)
        return {name: item for name, item in found.items() if self._together is None or name in self._together}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Called by Optuna after that, for the values that are drawn together."""
        return self._current.sample_relative(self._view(study), trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Called by Optuna for each value that is drawn alone."""
        sampler = self._fresh(trial.number, param_name)
        return sampler.sample_independent(self._view(study), trial, param_name, param_distribution)

    def _view(self, study: Study) -> Study:
        return cast(Study, StudyView(study, self._told))

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Called by Optuna before a trial."""
        self._fresh(trial.number).before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Called by Optuna after a trial."""
        self._fresh(trial.number, "after").after_trial(study, trial, state, values)


class BegunSampler(GPSampler):
    """A Gaussian process that begins when enough trials are known, finished or not; it models those that finished.

    Args:
        seed: Its seed.
        startup: Number of trials that are drawn at random before, stopped and paused ones among them.
    """

    def __init__(self, seed: int, startup: int) -> None:
        # Of trials that rungs stop, most never finish: if it counted the finished ones alone, it would hardly begin.
        super().__init__(seed=seed, n_startup_trials=min(startup, _FEWEST), warn_independent_sampling=False)
        self._startup = startup

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Called by Optuna for the values that are drawn together."""
        if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))) < self._startup:
            return {}
        return super().sample_relative(study, trial, search_space)


class OnePointSampler(QMCSampler):
    """A quasi-random sequence of which each trial keeps the point that it has taken.

    Optuna notes the last point with the study alone: a trial whose suggestion was interrupted would take another one.
    It also takes the parameters from the trials so far, and complains where conditions make these differ.

    Args:
        drawn: The parameters that the sequence has values of: those that every trial has.
        sequence: Name of the sequence.
        scramble: Whether the seed scrambles it.
        seed: Its seed.
        other: The sampler of all other parameters.
    """

    def __init__(
        self, drawn: Mapping[str, BaseDistribution], sequence: str, scramble: bool, seed: int, other: BaseSampler
    ) -> None:
        super().__init__(
            qmc_type=sequence, scramble=scramble, seed=seed, independent_sampler=other, warn_independent_sampling=False
        )
        self._drawn = dict(drawn)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Called by Optuna at the beginning of a trial."""
        return dict(self._drawn)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Called by Optuna for the values that are drawn together."""
        # Those that were drawn before an interruption, or set when the trial was enqueued, need no point.
        if search_space.keys() <= {*trial.params, *trial.system_attrs.get("fixed_params", ())}:
            return {}
        self._counted = _PointCounter(study, trial)
        return super().sample_relative(study, trial, search_space)

    def _find_sample_id(self, study: Study, search_space: dict[str, BaseDistribution]) -> int:
        """Called by Optuna for the number of the point."""
        return super()._find_sample_id(cast(Study, self._counted), search_space)


class _PointCounter:
    """The study of which `QMCSampler` asks for the last point, and its storage: points are noted with the trials too.

    Args:
        study: The study.
        trial: The trial that takes a point.
    """

    def __init__(self, study: Study, trial: FrozenTrial) -> None:
        self._study_id = study._study_id
        self._storage = self
        self._study = study
        self._trial = trial

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Returns the last point of each sequence: the one before the trial's own, if it has one."""
        last: dict[str, Any] = dict(self._study._storage.get_study_system_attrs(study_id))
        for trial in self._study._get_trials(deepcopy=False):
            for key, point in _points(trial).items():
                last[key] = max(last.get(key, -1), point)
        return last | {key: point - 1 for key, point in _points(self._trial).items()}

    def set_study_system_attr(self, study_id: int, key: str, value: int) -> None:
        """Notes the point with the trial first: what the study lacks after an interruption is found there."""
        self._study._storage.set_trial_system_attr(self._trial._trial_id, key, value)
        self._study._storage.set_study_system_attr(study_id, key, value)


def _points(trial: FrozenTrial) -> dict[str, int]:
    """Returns the points of sequences that a trial has taken."""
    return {key: value for key, value in trial.system_attrs.items() if key.startswith("qmc:")}


def make_sampler(
    chosen: Sampler, seed: int, entries: Mapping[str, Entry], told: Told = list[FrozenTrial]
) -> BaseSampler:
    """Returns the sampler that a space sets.

    Args:
        chosen: The name and options of the sampler.
        seed: Seed of the search.
        entries: The searched parameters.
        told: Returns the trials of a study as the sampler is told of them.
    """
    options = chosen.options()
    startup = options.get("startup_trials", _STARTUP)
    # A sampler whose dimensions must not change: a parameter that some trials lack is drawn independently.
    always = {
        name: entry.distribution()
        for name, entry in entries.items()
        if not isinstance(entry, Constant) and not entry.when
    }
    if chosen.name == "tpe":
        given = {"n_ei_candidates": options["candidates"]} if "candidates" in options else {}
        # Each by itself, unless they are asked for together: then the few trials that finish first, the default
        # settings before all, tie the next ones to their combination. Together, they are grouped, because conditional
        # parameters make groups of their own.
        together = options.get("multivariate", False)
        given |= {"multivariate": together, "group": together}
        # The constant liar takes running trials for bad ones, so that trials at once do not all try the same.
        return Repeatable(
            lambda own: TPESampler(constant_liar=True, n_startup_trials=startup, seed=own, **given), seed, told
        )
    if chosen.name == "gp":
        return Repeatable(lambda own: BegunSampler(own, startup), seed, told)
    if chosen.name == "cmaes":
        renamed = {"sigma": "sigma0", "population": "popsize"}
        given = {renamed[name]: value for name, value in options.items()}
        return Repeatable(
            lambda own: CmaEsSampler(seed=own, consider_pruned_trials=True, warn_independent_sampling=False, **given),
            seed,
            told,
            always,
        )
    if chosen.name == "qmc":
        # One sequence for the whole search: its seed must not depend on the trial.
        own = derived_seed("sampler", seed) % _SEEDS
        sequence, scramble = options.get("sequence", "sobol"), options.get("scramble", True)
        return Repeatable(
            lambda other: OnePointSampler(always, sequence, scramble, own, RandomSampler(seed=other)),
            seed,
            told,
            always,
        )
    return Repeatable(lambda own: RandomSampler(seed=own), seed, told)
