"""Optuna's study of a search: asked for trials, and told the truth about them."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState

from ctkd_search.records.listener import TrialListener
from ctkd_search.records.store import DIVERGED, FAILED, FINISHED, SEARCHED, STOPPED, TrialRecord
from ctkd_search.search.sampler import make_sampler
from ctkd_search.space.definition import Space
from ctkd_search.space.distributions import Constant
from ctkd_search.space.parameters import METHOD

# What Optuna is told of each way in which a trial ends.
STATES = {
    FINISHED: TrialState.COMPLETE,
    STOPPED: TrialState.PRUNED,
    DIVERGED: TrialState.FAIL,
    FAILED: TrialState.FAIL,
}
_TRIAL, _TAKEN_FROM = "trial", "taken_from"


class Asked(NamedTuple):
    """A trial that Optuna has suggested.

    Attributes:
        number: Optuna's number of it.
        stored: The values of the searched parameters, as Optuna stores them.
        values: The value of every parameter.
    """

    number: int
    stored: dict[str, Any]
    values: dict[str, Any]


class Study(TrialListener):
    """Suggests trials, and hears of each what came of it: every epoch, and how it ended.

    The study lives in a SQLite file, where ``optuna-dashboard`` and Optuna's plots find it, and goes on from there
    after an interruption.

    Args:
        space: The space.
        path: The file.
        name: Name of the search.
        objective: Values of a finished trial, in the order of the space's objectives; the first is what is measured
            after every epoch.
    """

    def __init__(
        self, space: Space, path: Path | None, name: str, objective: Callable[[TrialRecord], list[float]]
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = space
        self._objective = objective
        directions = space.strategy.directions
        self._judge = space.strategy.judge.key
        self.study = optuna.create_study(
            study_name=name,
            storage=None if path is None else f"sqlite:///{path}",
            sampler=make_sampler(space.strategy.sampler, space.seed, space.entries),
            directions=directions,
            load_if_exists=True,
        )
        # Optuna prunes nothing in a study of several objectives, and takes no values of single epochs either.
        self._hears_epochs = len(directions) == 1
        self._open: dict[int, optuna.Trial] = {}
        self._heard: dict[int, int] = {}

    def begin(self) -> None:
        """Lets the default settings of each method be the first trials, unless they have been tried."""
        for method in self._space.methods():
            self._enqueue(self._space.paper_point(method), skip_if_exists=True)

    def _enqueue(self, stored: dict[str, Any], skip_if_exists: bool = False) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study.enqueue_trial(stored, skip_if_exists=skip_if_exists)

    def ask(self, number: int, known: Iterable[int]) -> Asked:
        """Draws a trial, of several methods one of that which has had the fewest.

        Args:
            number: The trial's number in the search.
            known: Optuna's numbers of the trials that the search knows. One that it does not know was drawn just
                before a crash, and is taken first.

        Returns:
            Optuna's number of it, and its values.
        """
        numbers = set(known)
        lost = self._lost(numbers)
        if lost is None:
            self._share_out(numbers)
        trial = self.study.ask() if lost is None else optuna.Trial(self.study, lost._trial_id)
        trial.set_user_attr(_TRIAL, number)
        values = self._space.suggest(trial)
        self._open[trial.number] = trial
        return Asked(trial.number, dict(trial.params), values)

    def _share_out(self, known: Container[int]) -> None:
        """Lets the next trial be of the method that has had the fewest, unless something waits to be tried."""
        methods = self._space.methods()
        if len(methods) == 1:
            return
        trials = self.study.get_trials(deepcopy=False)
        had = Counter(trial.params[METHOD.name] for trial in trials if trial.number in known)
        if not any(trial.state == TrialState.WAITING for trial in trials):
            self._enqueue({METHOD.name: min(methods, key=lambda name: had[name])})

    def _lost(self, known: Container[int]) -> FrozenTrial | None:
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return next((trial for trial in running if trial.number not in known), None)

    def catch_up(self, records: Sequence[TrialRecord]) -> None:
        """Tells what was not told before an interruption."""
        states = {trial.number: trial for trial in self.study.get_trials(deepcopy=False)}
        for record in records:
            if record.optuna is None:
                continue
            frozen = states[record.optuna]
            if not frozen.state.is_finished():
                self._open[record.optuna] = optuna.Trial(self.study, frozen._trial_id)
                self._heard[record.optuna] = max(frozen.intermediate_values, default=0)
                self._hear(record)
                if record.ended:
                    self.trial_ended(record)

    def trial_reported(self, trial: TrialRecord) -> None:
        """Tells what was measured after an epoch."""
        self._hear(trial)

    def trial_ended(self, trial: TrialRecord) -> None:
        """Tells how a trial ended. One that was interrupted has not ended for Optuna either."""
        if trial.optuna not in self._open or trial.status not in STATES:
            return
        state = STATES[trial.status]
        values = self._objective(trial) if state is TrialState.COMPLETE else None
        self._open[trial.optuna].set_user_attr("reason", trial.reason)
        self.study.tell(trial.optuna, values=values, state=state)
        del self._open[trial.optuna]

    def _hear(self, trial: TrialRecord) -> None:
        if not self._hears_epochs or trial.optuna not in self._open:
            return
        heard = self._heard.get(trial.optuna, 0)
        for epoch in trial.epochs:
            if epoch["epoch"] > heard:
                self._open[trial.optuna].report(epoch[self._judge], epoch["epoch"])
                self._heard[trial.optuna] = epoch["epoch"]

    def take(self, name: str, earlier: Space, records: Sequence[TrialRecord]) -> tuple[int, int]:
        """Begins from the results of an earlier search, as far as this space has such trials.

        Those that were taken before an interruption are not taken twice.

        Args:
            name: The earlier search.
            earlier: Its space.
            records: Its trials.

        Returns:
            How many were taken, and how many there were.
        """
        there = [record for record in records if record.explores and record.ended and record.kind == SEARCHED]
        taken_before = {trial.user_attrs.get(_TAKEN_FROM) for trial in self.study.get_trials(deepcopy=False)}
        searched = {key: entry for key, entry in self._space.entries.items() if not isinstance(entry, Constant)}
        distributions = {key: entry.distribution() for key, entry in searched.items()}
        taken = 0
        for record in there:
            # What a record says counts, whatever a default has become since.
            values = {**earlier.effective(earlier.decode(record.stored)), **record.values}
            stored = self._space.encode(values)
            if stored is None:
                continue
            taken += 1
            source = f"{name}/{record.number}"
            if source in taken_before:
                continue
            state = STATES[record.status]
            epochs = {epoch["epoch"]: epoch[self._judge] for epoch in record.epochs} if self._hears_epochs else {}
            self.study.add_trial(
                optuna.create_trial(
                    state=state,
                    values=self._objective(record) if state is TrialState.COMPLETE else None,
                    params=stored,
                    distributions={key: distributions[key] for key in stored},
                    intermediate_values=epochs,
                    user_attrs={_TAKEN_FROM: source, "reason": record.reason},
                )
            )
        return taken, len(there)
