"""The package's own search in a simulation: its study and samplers, with each way to stop and to tell the sampler."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState
from prediction import Ends
from simulation import Decision, Searcher, Trial, best_finished
from surrogate import Features
from tables import PLANS

from ctkd_search.records.store import DIVERGED, FINISHED, RUNNING, STOPPED, TrialRecord
from ctkd_search.search.rungs import Bracket, Outcome
from ctkd_search.search.study import Study
from ctkd_search.space.definition import Space
from ctkd_search.space.reader import space_of
from ctkd_search.space.strategy import ACCURACY

SIGNAL = "signal"
# What the sampler is told of trials that did not finish.
PRUNED, IGNORED, PREDICTED, FIRST_RUNG = "pruned", "finished alone", "predicted end", "first rung"
# What becomes of trials that are not among the best of a rung.
STOPS, PAUSES, CONSTANT, NEVER = "stop", "promote", "constant", "none"


@dataclass(frozen=True)
class Settings:
    """A way to search.

    Attributes:
        sampler: Name of the package's sampler.
        stopping: `STOPS`, as the package does; `PAUSES`, from where a trial is promoted when its rung has room;
            `CONSTANT`: all pause at the first rung, from where the best one of `reduction`² is finished; or `NEVER`.
        signal: Signal by which rungs compare trials.
        grace: Epochs of the first rung.
        reduction: One in so many goes on at each rung.
        told: What the sampler is told of trials that did not finish.
        predicts: True to promote by the predicted end instead of the signal, as soon as it can be predicted.
    """

    sampler: str = "tpe"
    stopping: str = STOPS
    signal: str = "accuracy"
    grace: int = 2
    reduction: int = 3
    told: str = PRUNED
    predicts: bool = False


def space_for(table: str, seed: int, settings: Settings) -> Space:
    """The space of a table, searched in this way."""
    content = PLANS[table].mapping()
    content |= {"seed": seed, "sampler": settings.sampler}
    if settings.stopping == NEVER:
        return space_of({**content, "scheduler": "none"})
    budget = {**content["budget"], "grace_period": settings.grace, "reduction_factor": settings.reduction}
    return space_of({**content, "scheduler": "asha", "budget": budget})


def score(trial: Trial, signal: str, epoch: int | None = None) -> float:
    """A signal after an epoch, its last one if none is given; negated where less is better."""
    value = float(trial.training.signals[signal][(epoch or trial.epochs) - 1])
    return -value if signal.endswith("loss") else value


class View(optuna.Study):
    """A study as its sampler sees it: some trials are left out, or have another state and other values.

    Args:
        study: The study.
        seen: The trials.
    """

    def __init__(self, study: optuna.Study, seen: list[FrozenTrial]) -> None:
        self.__dict__.update(study.__dict__)
        self._seen = seen

    def get_trials(self, deepcopy: bool = True, states: Any = None) -> list[FrozenTrial]:
        """The trials."""
        return self._get_trials(deepcopy, states)

    def _get_trials(self, deepcopy: bool = True, states: Any = None, use_cache: bool = False) -> list[FrozenTrial]:
        return [trial for trial in self._seen if states is None or trial.state in states]


class Told(BaseSampler):
    """A sampler that sees a study through a `View`.

    Args:
        inner: The sampler.
        own: The search, which says how each trial is seen.
    """

    def __init__(self, inner: BaseSampler, own: OwnSearch) -> None:
        self._inner = inner
        self._own = own
        self._view: View | None = None

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Called by Optuna at the beginning of a trial."""
        self._view = View(study, self._own.seen(study))
        return self._inner.infer_relative_search_space(self._view, trial)

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: Any) -> dict[str, Any]:
        """Called by Optuna after that."""
        return self._inner.sample_relative(self._view or study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """Called by Optuna for each value that is drawn alone."""
        return self._inner.sample_independent(self._view or study, trial, param_name, param_distribution)


class OwnSearch(Searcher):
    """The package's search.

    Args:
        table: Name of the table.
        seed: Seed of the search.
        settings: The way to search.
    """

    def __init__(self, table: str, seed: int, settings: Settings) -> None:
        self._settings = settings
        self._space = space_for(table, seed, settings)
        self._study = Study(self._space, None, "simulated", lambda record: [record.accuracy])
        self._study.study.sampler = Told(self._study.study.sampler, self)
        self._study.begin()
        self._records: dict[int, TrialRecord] = {}
        self._trials: dict[int, Trial] = {}
        self._rungs = self._space.budget.rungs()
        self._bracket = Bracket(self._rungs, settings.reduction, lambda number: Outcome.OPEN)
        self._promoted: dict[int, set[int]] = {rung: set() for rung in self._rungs}
        self._of_optuna: dict[int, int] = {}
        self._ends = Ends(self._rungs, self._space.budget.epochs, Features(self._space))

    def ask(self, number: int) -> int | dict[str, Any]:
        """A paused trial that is promoted; else a new one."""
        promoted = self._promotable()
        if promoted is not None:
            self._records[promoted].status = RUNNING
            return promoted
        asked = self._study.ask(number, self._of_optuna)
        self._of_optuna[asked.number] = number
        values = self._space.effective(asked.values)
        self._records[number] = TrialRecord(
            number, values, asked.stored, self._space.seed, optuna=asked.number, status=RUNNING
        )
        return asked.stored

    def _promotable(self) -> int | None:
        if self._settings.stopping not in (PAUSES, CONSTANT):
            return None
        for rung in reversed(self._rungs):
            reached = [trial for trial in self._trials.values() if trial.epochs >= rung and not trial.diverged]
            share = self._settings.reduction ** (2 if self._settings.stopping == CONSTANT else 1)
            ranked = sorted(reached, key=self._order(reached, rung))
            for trial in ranked[: len(reached) // share]:
                paused = trial.epochs == rung and self._records[trial.number].status == STOPPED
                if trial.number not in self._promoted[rung] and paused:
                    self._promoted[rung].add(trial.number)
                    return trial.number
            if self._settings.stopping == CONSTANT and rung == self._rungs[0]:
                break
        return None

    def _order(self, reached: list[Trial], rung: int) -> Callable[[Trial], float]:
        """The key by which the trials that reached a rung are sorted, best first."""
        if self._settings.predicts:
            self._ends.fit(self._trials.values())
            ends = {trial.number: self._ends.of(trial, rung) for trial in reached}
            if None not in ends.values():
                return lambda trial: -float(ends[trial.number] or 0.0)
        return lambda trial: -score(trial, self._settings.signal, rung)

    def _note(self, trial: Trial) -> TrialRecord:
        self._trials[trial.number] = trial
        record = self._records[trial.number]
        value = score(trial, self._settings.signal)
        record.epochs.append({"epoch": trial.epochs, ACCURACY: trial.last(), SIGNAL: value})
        return record

    def reported(self, trial: Trial) -> Decision:
        """Stops or pauses it, or lets it go on."""
        record = self._note(trial)
        decision = self._decision(trial, record)
        if decision is not Decision.CONTINUE:
            record.status = STOPPED
        return decision

    def _decision(self, trial: Trial, record: TrialRecord) -> Decision:
        if self._settings.stopping == NEVER:
            return Decision.CONTINUE
        if self._settings.stopping == CONSTANT:
            return Decision.PAUSE if trial.epochs == self._rungs[0] else Decision.CONTINUE
        if self._settings.stopping == PAUSES:
            return Decision.PAUSE if trial.epochs in self._rungs else Decision.CONTINUE
        if trial.epochs not in self._rungs:
            return Decision.CONTINUE
        value = record.epochs[-1][SIGNAL]
        if not math.isfinite(value):
            return Decision.STOP
        self._bracket.add(trial.number, trial.epochs, value, str(trial.number))
        return Decision.CONTINUE if self._bracket.goes_on(trial.number, trial.epochs) else Decision.STOP

    def ended(self, trial: Trial) -> None:
        """Notes its end."""
        record = self._note(trial)
        record.status = DIVERGED if trial.diverged else FINISHED
        if record.optuna in self._study._open:
            self._study.trial_ended(record)

    def chosen(self, trials: Mapping[int, Trial]) -> Trial | None:
        """By the package's rule."""
        return best_finished(trials)

    def seen(self, study: optuna.Study) -> list[FrozenTrial]:
        """The trials as the sampler is to see them."""
        self._ends.fit(self._trials.values())
        frozen = study.get_trials(deepcopy=False)
        return [seen for trial in frozen if (seen := self._seen(trial)) is not None]

    def _seen(self, frozen: FrozenTrial) -> FrozenTrial | None:
        number = self._of_optuna.get(frozen.number)
        if number is None or number not in self._trials:
            return frozen
        record, trial, told = self._records[number], self._trials[number], self._settings.told
        if told == FIRST_RUNG and trial.epochs >= self._rungs[0] and not trial.diverged:
            return _as_complete(frozen, score(trial, self._settings.signal, self._rungs[0]))
        if record.status != STOPPED:
            return frozen
        if told == IGNORED:
            return None
        if told == PREDICTED and (end := self._ends.of(trial)) is not None:
            return _as_complete(frozen, end)
        seen = copy.copy(frozen)
        seen.state = TrialState.PRUNED
        values = {epoch["epoch"]: epoch[SIGNAL] for epoch in record.epochs if math.isfinite(epoch[SIGNAL])}
        seen._intermediate_values = values
        return seen


def _as_complete(frozen: FrozenTrial, value: float) -> FrozenTrial:
    seen = copy.copy(frozen)
    seen.state = TrialState.COMPLETE
    seen._values = [value]
    return seen
