"""The ends of trials that stopped early, predicted from the trials of the same search."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from simulation import Trial
from surrogate import Features

Array = np.ndarray[Any, Any]
# Signals from which the next rung is predicted.
_FROM = ("averaged_1_accuracy", "averaged_1_loss")
# Fewer trials than this do not tell how their signals go on.
_FEWEST = 4
# Penalties of the ridge regression, for signals and for the values of the config.
_OF_SIGNALS, _OF_VALUES = 0.5, 8.0


class Step:
    """A ridge regression of the signals of a rung on those of the one before, and on the config.

    Args:
        inputs: A row for each trial.
        outputs: A row for each trial.
        signals: Number of the first inputs that are signals.
    """

    def __init__(self, inputs: Array, outputs: Array, signals: int) -> None:
        self._middle, self._scale = inputs.mean(axis=0), inputs.std(axis=0) + 1e-9
        self._out = outputs.mean(axis=0)
        scaled = (inputs - self._middle) / self._scale
        penalty = np.diag([_OF_SIGNALS if column < signals else _OF_VALUES for column in range(inputs.shape[1])])
        self._weights = np.linalg.solve(scaled.T @ scaled + penalty, scaled.T @ (outputs - self._out))

    def __call__(self, inputs: Array) -> Array:
        """The outputs of one trial."""
        found: Array = self._out + (inputs - self._middle) / self._scale @ self._weights
        return found


class Ends:
    """Predicts the accuracy at the end, rung by rung, from all trials that reached the rung after.

    Args:
        rungs: Epochs of the rungs.
        epochs: Epochs of a whole training.
        features: Coordinates of configs.
    """

    def __init__(self, rungs: Sequence[int], epochs: int, features: Features) -> None:
        self._marks = [*rungs, epochs]
        self._features = features
        self._places: dict[int, Array] = {}
        self._steps: dict[int, Step] = {}
        self._fitted: list[int] = []

    def fit(self, trials: Iterable[Trial]) -> None:
        """Fits to what the trials have shown; nothing is done where they have shown nothing new."""
        known = [trial for trial in trials if not trial.diverged]
        reached = [sum(trial.epochs >= mark for trial in known) for mark in self._marks]
        if reached == self._fitted:
            return
        self._fitted = reached
        self._steps = {}
        for number, (mark, after) in enumerate(zip(self._marks, self._marks[1:], strict=False)):
            there = [trial for trial in known if trial.epochs >= after]
            if len(there) >= _FEWEST:
                inputs = np.stack([self._inputs(trial, mark) for trial in there])
                outputs = np.stack([self._outputs(trial, after) for trial in there])
                self._steps[number] = Step(inputs, outputs, len(_FROM))

    def _place(self, trial: Trial) -> Array:
        if trial.number not in self._places:
            self._places[trial.number] = self._features.of(trial.stored)
        return self._places[trial.number]

    def _inputs(self, trial: Trial, epoch: int) -> Array:
        return np.concatenate([_shown(trial, epoch), self._place(trial)])

    def _outputs(self, trial: Trial, epoch: int) -> Array:
        if epoch == self._marks[-1]:
            return trial.training.signals["accuracy"][epoch - 1 : epoch]
        return _shown(trial, epoch)

    def of(self, trial: Trial, rung: int | None = None) -> float | None:
        """The accuracy at a trial's end; None as long as too few trials came that far.

        Args:
            trial: The trial.
            rung: The epochs that are seen of it; None for all that it has.
        """
        seen = rung or trial.epochs
        reached = [number for number, mark in enumerate(self._marks) if seen >= mark]
        if not reached or len(self._steps) < len(self._marks) - 1:
            return None
        shown = _shown(trial, self._marks[reached[-1]])
        for number in range(reached[-1], len(self._marks) - 1):
            shown = self._steps[number](np.concatenate([shown, self._place(trial)]))
        return float(np.clip(shown[0], 0.0, 1.0))


def _shown(trial: Trial, epoch: int) -> Array:
    return np.array(
        [
            np.log(max(float(trial.training.signals[name][epoch - 1]), 1e-4))
            if name.endswith("loss")
            else float(trial.training.signals[name][epoch - 1])
            for name in _FROM
        ]
    )
