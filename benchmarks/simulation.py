"""Searches simulated on a recorded table: a clock ticks, and at each tick every worker does one epoch.

What is searched by is a `Searcher`; `own_search.py` has the package's, `peers.py` those of other tools.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from surrogate import Surrogate, Training

ACCURACY = "accuracy"


class Decision(Enum):
    """The decision about a trial after an epoch."""

    CONTINUE = "continue"
    # It ends here for good.
    STOP = "stop"
    # It gives its worker back, and may be asked for again.
    PAUSE = "pause"


@dataclass
class Trial:
    """A trial of a simulated search.

    Attributes:
        number: Its number in the search, from 0.
        stored: Its values, as Optuna stores them.
        training: The training that its config has.
        epochs: Epochs done.
        ended: True if it is not to go on.
    """

    number: int
    stored: dict[str, Any]
    training: Training
    epochs: int = 0
    ended: bool = False

    @property
    def diverged(self) -> bool:
        """Returns whether it has diverged."""
        return self.training.diverges and self.epochs == self.training.epochs

    @property
    def finished(self) -> bool:
        """Returns whether it has come to its end."""
        return not self.training.diverges and self.epochs == self.training.epochs

    def last(self, signal: str = ACCURACY) -> float:
        """A signal after its last epoch."""
        return float(self.training.signals[signal][self.epochs - 1])


class Searcher(Protocol):
    """A way to search."""

    def ask(self, number: int) -> int | dict[str, Any]:
        """A new trial's values as Optuna stores them, or the number of a paused trial that goes on.

        Args:
            number: The number that a new trial gets.
        """

    def reported(self, trial: Trial) -> Decision:
        """Called after each epoch of a trial that has neither finished nor diverged."""

    def ended(self, trial: Trial) -> None:
        """Called when a trial has finished or diverged."""

    def chosen(self, trials: Mapping[int, Trial]) -> Trial | None:
        """The trial that the search would deliver now."""


def best_last(trials: Mapping[int, Trial]) -> Trial | None:
    """The trial with the highest last accuracy, however far it came; of equal ones the first."""
    ran = [trial for trial in trials.values() if trial.epochs and not trial.diverged]
    return max(ran, key=Trial.last, default=None)


def best_finished(trials: Mapping[int, Trial]) -> Trial | None:
    """The best of those that finished; if none has, of those that ran."""
    finished = {trial.number: trial for trial in trials.values() if trial.finished}
    return best_last(finished or trials)


@dataclass
class Searched:
    """A simulated search.

    Attributes:
        changes: Epochs spent and the regret in points from there on, where it changes.
        trials: Trials begun.
        finished: Trials that came to their end.
    """

    changes: list[tuple[int, float]] = field(default_factory=list)
    trials: int = 0
    finished: int = 0

    def note(self, spent: int, regret: float) -> None:
        """Notes the regret after so many epochs."""
        if not self.changes or self.changes[-1][1] != regret:
            self.changes.append((spent, regret))


def simulate(searcher: Searcher, surrogate: Surrogate, workers: int, budget: int) -> Searched:
    """Searches until the budget is spent.

    Args:
        searcher: The way to search.
        surrogate: The trainings.
        workers: Trials at once.
        budget: Epochs in all.

    Returns:
        The regrets: the best recorded end on the images that the search never sees, minus that of the config chosen.
        Before any trial has run, the end is taken to be 0.
    """
    trials: dict[int, Trial] = {}
    running: list[Trial] = []
    found = Searched()
    spent = 0
    while spent < budget:
        while len(running) < workers:
            asked = searcher.ask(len(trials))
            if isinstance(asked, int):
                running.append(trials[asked])
            else:
                trial = Trial(len(trials), asked, surrogate.training(asked))
                trials[trial.number] = trial
                running.append(trial)
        for trial in running[: budget - spent]:
            trial.epochs += 1
            spent += 1
            decision = Decision.CONTINUE
            if trial.epochs == trial.training.epochs:
                trial.ended = True
                searcher.ended(trial)
            else:
                decision = searcher.reported(trial)
                trial.ended = decision is Decision.STOP
            if trial.ended or decision is Decision.PAUSE:
                running = [other for other in running if other is not trial]
            chosen = searcher.chosen(trials)
            found.note(spent, round(surrogate.best - (chosen.training.end if chosen else 0.0), 3))
    found.trials = len(trials)
    found.finished = sum(trial.finished for trial in trials.values())
    return found
