"""Optuna's study of a search: suggests trials, and receives their results."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState

from ctkd_search.errors import UserError
from ctkd_search.records.listener import TrialListener
from ctkd_search.records.store import DIVERGED, FAILED, FINISHED, PAUSED, STOPPED, TrialRecord
from ctkd_search.search.earlier import results_in
from ctkd_search.search.sampler import make_sampler
from ctkd_search.search.study_file import study_storage
from ctkd_search.space.definition import Space
from ctkd_search.space.distributions import Constant
from ctkd_search.space.parameters import METHOD

# Optuna's state for each status with which a trial ends.
STATES = {
    FINISHED: TrialState.COMPLETE,
    STOPPED: TrialState.PRUNED,
    DIVERGED: TrialState.FAIL,
    FAILED: TrialState.FAIL,
}
_TRIAL, _TAKEN_FROM, _OFFERED_BY = "trial", "taken_from", "offered_by"


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
    """Suggests trials to a search, and reports their epochs and ends to Optuna.

    The study is stored in a journal, which ``optuna-dashboard`` and Optuna's plots can open, and from which it goes on
    after an interruption.

    Args:
        space: The space.
        path: The journal; None for a study in memory.
        name: Name of the search.
        objective: Returns the values of a finished trial, in the order of the space's objectives; the first is measured
            after every epoch.
    """

    def __init__(
        self, space: Space, path: Path | None, name: str, objective: Callable[[TrialRecord], list[float]]
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = space
        self._objective = objective
        self._path = path
        directions = space.strategy.directions
        self._judge = space.strategy.judge.key
        self.study = optuna.create_study(
            study_name=name,
            storage=None if path is None else study_storage(path),
            sampler=make_sampler(space.strategy.sampler, space.seed, space.entries, self._told),
            directions=directions,
            load_if_exists=True,
        )
        # With several objectives, Optuna neither prunes nor accepts values of single epochs.
        self._reports_epochs = len(directions) == 1
        self._open: dict[int, optuna.Trial] = {}
        # Optuna's numbers of the trials that are paused: to Optuna they are running.
        self._paused: set[int] = set()
        self._reported_epochs: dict[int, int] = {}

    def _told(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Returns the trials as the sampler is told of them: paused ones are pruned, as stopped ones are."""
        return [_pruned(trial) if trial.number in self._paused else trial for trial in trials]

    def begin(self) -> None:
        """Enqueues the default settings of each method, unless they have been tried or are enqueued."""
        for method in self._space.methods():
            self._enqueue(self._space.paper_point(method), skip_if_exists=True)

    def _enqueue(
        self, stored: dict[str, Any], skip_if_exists: bool = False, user_attrs: dict[str, Any] | None = None
    ) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study.enqueue_trial(stored, user_attrs=user_attrs, skip_if_exists=skip_if_exists)

    def ask(self, number: int, known: Iterable[int]) -> Asked:
        """Draws a trial, of several methods one of that which has had the fewest.

        Args:
            number: The trial's number in the search.
            known: Optuna's numbers of the trials that the search has records of. A trial without a record was drawn
                just before a crash, and is taken first.

        Returns:
            Optuna's number of it, and its values.
        """
        numbers = set(known)
        lost = self._lost(numbers)
        if lost is None:
            self._balance_methods(numbers)
        trial = self.study.ask() if lost is None else optuna.Trial(self.study, lost._trial_id)
        trial.set_user_attr(_TRIAL, number)
        values = self._space.suggest(trial)
        self._open[trial.number] = trial
        return Asked(trial.number, dict(trial.params), values)

    def _balance_methods(self, known: Container[int]) -> None:
        """Enqueues a trial of the method with the fewest trials, unless a trial is enqueued already."""
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
        """Reports to Optuna what was not reported before an interruption.

        Raises:
            UserError: The study lacks a trial of the search, as where its file was removed.
        """
        states = {trial.number: trial for trial in self.study.get_trials(deepcopy=False)}
        if lost := [record.number for record in records if record.optuna is not None and record.optuna not in states]:
            raise UserError(
                f"the study {self._path} lacks trial {lost[0]}, which the search has; put the file back, or begin the "
                "search again under another --name"
            )
        for record in records:
            if record.optuna is None:
                continue
            frozen = states[record.optuna]
            if record.status == PAUSED:
                self._paused.add(record.optuna)
            if not frozen.state.is_finished():
                self._open[record.optuna] = optuna.Trial(self.study, frozen._trial_id)
                self._reported_epochs[record.optuna] = max(frozen.intermediate_values, default=0)
                self._report(record)
                if record.ended:
                    self.trial_ended(record)

    def trial_started(self, trial: TrialRecord) -> None:
        """Notes that a trial is not paused any more."""
        self._paused.discard(-1 if trial.optuna is None else trial.optuna)

    def trial_reported(self, trial: TrialRecord) -> None:
        """Reports the value of the last epoch to Optuna."""
        self._report(trial)

    def trial_ended(self, trial: TrialRecord) -> None:
        """Reports the end of a trial to Optuna; an interrupted or a paused trial has not ended."""
        if trial.status == PAUSED and trial.optuna is not None:
            self._paused.add(trial.optuna)
        if trial.optuna not in self._open or trial.status not in STATES:
            return
        state = STATES[trial.status]
        values = self._objective(trial) if state is TrialState.COMPLETE else None
        self._open[trial.optuna].set_user_attr("reason", trial.reason)
        self.study.tell(trial.optuna, values=values, state=state)
        del self._open[trial.optuna]

    def _report(self, trial: TrialRecord) -> None:
        if not self._reports_epochs or trial.optuna not in self._open:
            return
        reported = self._reported_epochs.get(trial.optuna, 0)
        for epoch in trial.epochs:
            if epoch["epoch"] > reported:
                self._open[trial.optuna].report(epoch[self._judge], epoch["epoch"])
                self._reported_epochs[trial.optuna] = epoch["epoch"]

    def offer(self, stored: dict[str, Any], source: str) -> bool:
        """Enqueues a config of an earlier search, unless the study has a trial of the same values.

        Args:
            stored: The values of the searched parameters, as Optuna stores them.
            source: The earlier search and the number of its trial; what was enqueued for it before an interruption is
                not enqueued twice.

        Returns:
            Whether it is a trial of its own, and not one that the study has for another reason.
        """
        trials = self.study.get_trials(deepcopy=False)
        if any(trial.user_attrs.get(_OFFERED_BY) == source for trial in trials):
            return True
        self._enqueue(stored, skip_if_exists=True, user_attrs={_OFFERED_BY: source})
        return len(self.study.get_trials(deepcopy=False)) > len(trials)

    def take(self, name: str, earlier: Space, records: Sequence[TrialRecord]) -> tuple[int, int]:
        """Adds the results of an earlier search to the study, as far as its trials are in this space.

        Trials that were added before an interruption are not added twice.

        Args:
            name: The earlier search.
            earlier: Its space.
            records: Its trials.

        Returns:
            The number of trials that are in this space, and of all that the earlier search had.
        """
        there = results_in(self._space, earlier, records)
        taken_before = {trial.user_attrs.get(_TAKEN_FROM) for trial in self.study.get_trials(deepcopy=False)}
        searched = {key: entry for key, entry in self._space.entries.items() if not isinstance(entry, Constant)}
        distributions = {key: entry.distribution() for key, entry in searched.items()}
        taken = 0
        for record, stored in there:
            if stored is None:
                continue
            taken += 1
            source = f"{name}/{record.number}"
            if source in taken_before:
                continue
            state = STATES[record.status]
            epochs = {epoch["epoch"]: epoch[self._judge] for epoch in record.epochs} if self._reports_epochs else {}
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


def _pruned(trial: FrozenTrial) -> FrozenTrial:
    if trial.state.is_finished():
        return trial  # it was stopped for good meanwhile
    pruned = copy.copy(trial)
    pruned.state = TrialState.PRUNED
    return pruned
