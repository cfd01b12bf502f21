"""Searches of other tools in a simulation, by their own code, as their documentation sets them up.

Ray, Optuna, Syne Tune and SMAC3 are called as their own loops call them. Optuna and SMAC3 are given the space with its
conditions, Ray and Syne Tune without; a parameter that has no effect in a config is left out of it.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.trial import TrialState
from simulation import Decision, Searcher, Trial, best_finished, best_last

from ctkd_search.space.definition import Space
from ctkd_search.space.distributions import Choice, Constant, Number

_METRIC, _TIME = "accuracy", "training_iteration"


def searched(space: Space) -> dict[str, Number | Choice]:
    """The searched parameters."""
    return {name: entry for name, entry in space.entries.items() if not isinstance(entry, Constant)}


def with_effect(space: Space, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values without those of parameters that have no effect beside the others."""
    entries = searched(space)
    return {
        name: value
        for name, value in values.items()
        if all(values[other] in map(str, allowed) for other, allowed in entries[name].when.items())
    }


class OptunaSearch(Searcher):
    """Optuna's TPE with one of its pruners.

    Args:
        space: The space.
        seed: Seed of the search.
        pruner: Makes the pruner.
        first: The configs that it tries first.
    """

    def __init__(
        self,
        space: Space,
        seed: int,
        pruner: Callable[[], optuna.pruners.BasePruner],
        first: Sequence[dict[str, Any]] = (),
    ) -> None:
        self._space = space
        self._study = optuna.create_study(
            study_name=f"simulated-{seed}",
            direction="maximize",
            sampler=optuna.samplers.TPESampler(seed=seed),
            pruner=pruner(),
        )
        self._trials: dict[int, optuna.Trial] = {}
        for point in first:
            self._study.enqueue_trial(point)

    def ask(self, number: int) -> dict[str, Any]:
        """A new trial."""
        self._trials[number] = trial = self._study.ask()
        self._space.suggest(trial)
        return dict(trial.params)

    def reported(self, trial: Trial) -> Decision:
        """Stops it where the pruner says so."""
        asked = self._trials[trial.number]
        asked.report(trial.last(), trial.epochs)
        if not asked.should_prune():
            return Decision.CONTINUE
        self._study.tell(asked, state=TrialState.PRUNED)
        return Decision.STOP

    def ended(self, trial: Trial) -> None:
        """Tells of its end."""
        asked = self._trials[trial.number]
        if trial.diverged:
            self._study.tell(asked, state=TrialState.FAIL)
        else:
            asked.report(trial.last(), trial.epochs)
            self._study.tell(asked, trial.last())

    def chosen(self, trials: Mapping[int, Trial]) -> Trial | None:
        """The study's best trial is one that was not pruned."""
        return best_finished(trials)


class RaySearch(Searcher):
    """Ray Tune's `ASHAScheduler` with its `OptunaSearch`.

    Args:
        space: The space.
        seed: Seed of the search.
        epochs: Epochs of a whole training.
        first: The configs that it tries first.
        options: Options of the scheduler.
    """

    def __init__(
        self, space: Space, seed: int, epochs: int, first: Sequence[dict[str, Any]] = (), **options: Any
    ) -> None:
        from ray.tune.schedulers import ASHAScheduler
        from ray.tune.search.optuna import OptunaSearch as RaysOptunaSearch

        logging.getLogger("ray").setLevel(logging.ERROR)
        self._space = space
        distributions = {name: entry.distribution() for name, entry in searched(space).items()}
        # Ray wants a value of every parameter, those too that have no effect in a config.
        points = [{**space.paper_point(), **point} for point in first]
        self._search = RaysOptunaSearch(
            space=distributions, points_to_evaluate=points or None, metric=_METRIC, mode="max", seed=seed
        )
        self._scheduler = ASHAScheduler(time_attr=_TIME, metric=_METRIC, mode="max", max_t=epochs, **options)
        self._stubs: dict[int, Any] = {}

    def ask(self, number: int) -> dict[str, Any]:
        """A new trial."""
        self._stubs[number] = SimpleNamespace(trial_id=str(number))
        values = self._search.suggest(str(number))
        self._scheduler.on_trial_add(None, self._stubs[number])
        return with_effect(self._space, values)

    def reported(self, trial: Trial) -> Decision:
        """Stops it where ASHA says so; Ray tells the searcher of a stopped trial that it is complete."""
        result = _result(trial)
        decision = self._scheduler.on_trial_result(None, self._stubs[trial.number], result)
        if decision == self._scheduler.CONTINUE:
            self._search.on_trial_result(str(trial.number), result)
            return Decision.CONTINUE
        self._search.on_trial_complete(str(trial.number), result)
        return Decision.STOP

    def ended(self, trial: Trial) -> None:
        """Tells both of its end."""
        if trial.diverged:
            self._search.on_trial_complete(str(trial.number), error=True)
            return
        self._scheduler.on_trial_complete(None, self._stubs[trial.number], _result(trial))
        self._search.on_trial_complete(str(trial.number), _result(trial))

    def chosen(self, trials: Mapping[int, Trial]) -> Trial | None:
        """The best of the last results, `ResultGrid.get_best_result`."""
        return best_last(trials)


def _result(trial: Trial) -> dict[str, Any]:
    return {_METRIC: trial.last(), _TIME: trial.epochs}


class SyneTuneSearch(Searcher):
    """One of Syne Tune's schedulers.

    Args:
        space: The space.
        seed: Seed of the search.
        epochs: Epochs of a whole training.
        name: Its name in `syne_tune.optimizer.baselines`.
        options: Its options.
    """

    def __init__(self, space: Space, seed: int, epochs: int, name: str, **options: Any) -> None:
        import numpy as np
        from syne_tune import config_space
        from syne_tune.optimizer import baselines

        logging.getLogger("syne_tune").setLevel(logging.ERROR)
        np.random.seed(seed % 2**32)  # brackets are drawn from the global generator
        self._space = space

        def domain(entry: Number | Choice) -> Any:
            if isinstance(entry, Choice):
                return config_space.choice(list(entry.options))
            return (config_space.loguniform if entry.log else config_space.uniform)(entry.low, entry.high)

        domains = {key: domain(entry) for key, entry in searched(space).items()}
        self._scheduler = getattr(baselines, name)(
            domains, metric=_METRIC, time_attr=_TIME, max_t=epochs, do_minimize=False, random_seed=seed, **options
        )
        self._trials: dict[int, Any] = {}

    def ask(self, number: int) -> dict[str, Any]:
        """A new trial."""
        from syne_tune.backend.trial_status import Trial as Theirs

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = self._scheduler.suggest().config
        self._trials[number] = Theirs(number, config, datetime.datetime.now())
        self._scheduler.on_trial_add(self._trials[number])
        return with_effect(self._space, config)

    def reported(self, trial: Trial) -> Decision:
        """Stops it where the scheduler says so."""
        decision = self._scheduler.on_trial_result(self._trials[trial.number], _result(trial))
        return Decision.CONTINUE if decision == "CONTINUE" else Decision.STOP

    def ended(self, trial: Trial) -> None:
        """Tells of its end."""
        if trial.diverged:
            # Its searchers fail on an error of a trial; Syne Tune's own loop ends an experiment there.
            with contextlib.suppress(AttributeError, NotImplementedError):
                self._scheduler.on_trial_error(self._trials[trial.number])
        else:
            self._scheduler.on_trial_result(self._trials[trial.number], _result(trial))

    def chosen(self, trials: Mapping[int, Trial]) -> Trial | None:
        """The trial with the best result after any epoch, as `ExperimentResult.best_config` has it."""
        ran = [trial for trial in trials.values() if trial.epochs and not trial.diverged]
        return max(ran, key=lambda trial: trial.training.signals[_METRIC][: trial.epochs].max(), default=None)


class SmacSearch(Searcher):
    """SMAC3's `MultiFidelityFacade`; a config that it asks for with more epochs goes on where it stopped.

    Args:
        space: The space.
        seed: Seed of the search.
        epochs: Epochs of a whole training.
        grace: The smallest budget, in epochs.
        workers: Trials at once.
    """

    def __init__(self, space: Space, seed: int, epochs: int, grace: int, workers: int) -> None:
        from smac import MultiFidelityFacade, Scenario

        self._space = space
        self._directory = tempfile.TemporaryDirectory()
        scenario = Scenario(
            _config_space(space, seed),
            output_directory=self._directory.name,
            deterministic=True,
            n_trials=100_000,
            min_budget=grace,
            max_budget=epochs,
            seed=seed,
            n_workers=1,
        )
        self._smac = MultiFidelityFacade(
            scenario,
            lambda config, seed, budget: 0.0,
            # As in SMAC's own example of this facade. Left out, it would begin with ten random configs for each
            # parameter, unless a quarter of `n_trials` is fewer: more than such a budget ever begins.
            initial_design=MultiFidelityFacade.get_initial_design(scenario, n_configs=5),
            logging_level=50,
            overwrite=True,
        )
        self._numbers: dict[Any, int] = {}
        self._trials: dict[int, Trial] = {}
        self._jobs: dict[int, Any] = {}

    def ask(self, number: int) -> int | dict[str, Any]:
        """A new config, or one that goes on."""
        while True:
            info = self._smac.ask()
            known = self._numbers.get(info.config)
            if known is None:
                self._numbers[info.config] = number
                self._jobs[number] = info
                return {name: _plain(value) for name, value in dict(info.config).items()}
            trial = self._trials[known]
            if trial.epochs < self._epochs(info) and not trial.diverged:
                self._jobs[known] = info
                return known
            self._tell(info, trial)

    @staticmethod
    def _epochs(info: Any) -> int:
        return max(1, round(info.budget))

    def _tell(self, info: Any, trial: Trial) -> None:
        from smac.runhistory import StatusType, TrialValue

        if trial.diverged:
            value = TrialValue(cost=1.0, status=StatusType.CRASHED)
        else:
            value = TrialValue(cost=1 - float(trial.training.signals[_METRIC][self._epochs(info) - 1]))
        self._smac.tell(info, value)

    def reported(self, trial: Trial) -> Decision:
        """Pauses it when it has had its budget."""
        self._trials[trial.number] = trial
        info = self._jobs[trial.number]
        if trial.epochs < self._epochs(info):
            return Decision.CONTINUE
        self._tell(info, trial)
        return Decision.PAUSE

    def ended(self, trial: Trial) -> None:
        """Tells of its end."""
        self._trials[trial.number] = trial
        self._tell(self._jobs[trial.number], trial)

    def chosen(self, trials: Mapping[int, Trial]) -> Trial | None:
        """SMAC's incumbent; before there is one, the trial with the best last result."""
        incumbents = self._smac.intensifier.get_incumbents()
        numbers = [self._numbers[config] for config in incumbents if config in self._numbers]
        there = [trials[number] for number in numbers if number in trials and not trials[number].diverged]
        return there[0] if there and there[0].epochs else best_last(trials)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, str) else float(value)


def _config_space(space: Space, seed: int) -> Any:
    from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float

    made = ConfigurationSpace(seed=seed)
    entries = searched(space)
    parameters = {
        name: Categorical(name, list(entry.options))
        if isinstance(entry, Choice)
        else Float(name, (entry.low, entry.high), log=entry.log)
        for name, entry in entries.items()
    }
    made.add(*parameters.values())
    for name, entry in entries.items():
        for other, allowed in entry.when.items():
            made.add(EqualsCondition(parameters[name], parameters[other], str(allowed[0])))
    return made
