"""The package's search as it ships, in a simulation: its study, its scheduler, and their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from ray.tune.result import TRAINING_ITERATION
from simulation import Decision, Searcher, Trial
from tables import PLANS

from ctkd_search.analysis.pareto import objective_values
from ctkd_search.records.store import DIVERGED, FINISHED, PAUSED, RUNNING, STOPPED, TrialRecord, best
from ctkd_search.search.scheduler import GroupedAsha
from ctkd_search.search.study import Study
from ctkd_search.search.trainable import NUMBER
from ctkd_search.space.reader import space_of

# More trials than any budget begins, so that none is given up for their number.
_ENDLESS = 10_000


class ShippedSearch(Searcher):
    """The package's search.

    Args:
        table: Name of the table.
        seed: Seed of the search.
        sections: Sections of the space in place of its own: ``sampler``, ``scheduler``, ``objectives`` and ``budget``,
            whose epochs and trials are given.
        defaults: True if the default settings are the first trial, as in every search of the package. Other tools do
            not know them.
    """

    def __init__(self, table: str, seed: int, sections: Mapping[str, Any], defaults: bool = False) -> None:
        content = PLANS[table].mapping()
        budget = {**content["budget"], **sections.get("budget", {}), "trials": _ENDLESS}
        self.space = space_of({**content, **sections, "budget": budget, "seed": seed})
        objectives = self.space.strategy.objectives
        self._study = Study(self.space, None, "simulated", lambda record: objective_values(record, objectives, {}))
        if defaults:
            self._study.begin()
        self._records: dict[int, TrialRecord] = {}
        self._scheduler = GroupedAsha(self.space, self._records)
        ranking = self.space.strategy.ranking
        self._horizon = ranking.horizon if ranking else 0.0

    @property
    def records(self) -> list[TrialRecord]:
        """Returns the records of the trials."""
        return list(self._records.values())

    def ask(self, number: int) -> int | dict[str, Any]:
        """A paused trial that is promoted; else a new one."""
        promoted = self._scheduler.promoted(more=True)
        if promoted is not None:
            promoted.status = RUNNING
            self._study.trial_started(promoted)
            return promoted.number
        known = [record.optuna for record in self._records.values() if record.optuna is not None]
        asked = self._study.ask(number, known)
        values = self.space.effective(asked.values)
        self._records[number] = TrialRecord(
            number,
            values,
            asked.stored,
            self.space.seed,
            optuna=asked.number,
            status=RUNNING,
            objective=self.space.strategy.objectives[0],
        )
        return asked.stored

    def _note(self, trial: Trial) -> TrialRecord:
        """The record of a trial, with the metrics of its last epoch."""
        signals = {name: float(values[trial.epochs - 1]) for name, values in trial.training.signals.items()}
        epoch: dict[str, Any] = {"epoch": trial.epochs}
        for metric in ("accuracy", "loss"):
            epoch[f"validation_{metric}"] = signals[metric]
            if self._horizon:
                epoch[f"averaged_validation_{metric}"] = signals[f"averaged_{self._horizon:g}_{metric}"]
        record = self._records[trial.number]
        record.epochs.append(epoch)
        self._study.trial_reported(record)
        return record

    def reported(self, trial: Trial) -> Decision:
        """Pauses or stops it, or lets it go on."""
        record = self._note(trial)
        asked = SimpleNamespace(config={NUMBER: trial.number})
        result = {TRAINING_ITERATION: trial.epochs, "metrics": tuple(record.epochs[-1].items())}
        decision = self._scheduler.on_trial_result(None, asked, result)
        if decision != GroupedAsha.STOP:
            return Decision.CONTINUE
        record.status = PAUSED if self._scheduler.pauses(record) else STOPPED
        self._study.trial_ended(record)
        return Decision.PAUSE if record.status == PAUSED else Decision.STOP

    def ended(self, trial: Trial) -> None:
        """Notes its end."""
        record = self._note(trial)
        record.status = DIVERGED if trial.diverged else FINISHED
        self._study.trial_ended(record)

    def chosen(self, trials: Mapping[int, Trial]) -> Trial | None:
        """By the package's rule."""
        record = best(self.records)
        return None if record is None else trials[record.number]
