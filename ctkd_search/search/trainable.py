"""The Ray trainable around one Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.tune.result import TRAINING_ITERATION

from ctkd_search.data import Splits
from ctkd_search.distill.build import make_trainer
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.step import StepPool
from ctkd_search.distill.trainer import Trainer, diverged
from ctkd_search.files import atomic
from ctkd_search.space import Space

METRIC = "validation_accuracy"


def state_path(states: Path, trial_id: str) -> Path:
    """The file that holds a trial's state after its last finished epoch."""
    return states / f"{trial_id}.pt"


class DistillationTrial(tune.Trainable):
    """One trial: each step is one epoch of the student.

    Ray keeps the actor for the next trial, so that the data is loaded and torch imported once per actor. The state is
    kept by the trial itself, one file that is replaced after each epoch, and not by Ray: Ray's own snapshot of the
    search, written now and then, would name checkpoints that have been replaced since. A trial that begins and finds
    a state goes on from it; what it had measured until then it reports once more, at once.
    """

    _trainer: Trainer

    def setup(
        self,
        config: dict[str, Any],
        *,
        space: Space,
        splits_ref: list[Any],
        teachers: str,
        states: str,
        search: str,
        device: str,
        threads: int,
    ) -> None:
        """Called by Ray once per actor.

        Args:
            config: The searched values, as Optuna stores them.
            space: The space.
            splits_ref: The images in Ray's object store, in a list so that Ray hands over the reference itself.
            teachers: Directory of the teacher cache.
            states: Directory of the trials' states.
            search: Name of the search, noted with what it uses of the cache.
            device: ``cuda`` or ``cpu``.
            threads: CPU threads to compute with.
        """
        torch.set_num_threads(threads)
        self._space = space
        self._splits: Splits = ray.get(splits_ref[0])
        self._cache = TeacherCache(Path(teachers), search)
        self._states = Path(states)
        self._device = torch.device(device)
        # Where a step is a captured graph, the next trial uses it again.
        self._steps = StepPool() if device == "cuda" else None
        self._begin(config)

    def _begin(self, stored: dict[str, Any]) -> None:
        config = self._space.config(self._space.decode(stored))
        self._trainer = make_trainer(config, self._splits, self._cache, self._device, steps=self._steps)
        self._history: list[dict[str, Any]] = []
        self._state = state_path(self._states, self.trial_id)
        if self._state.exists():
            kept = torch.load(self._state, map_location="cpu", weights_only=True)
            self._trainer.load_state_dict(kept)
            self._history = kept["history"]
        self._reported = 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Called by Ray to begin another trial in the same actor."""
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Trains one epoch; the trial is done after its last one, or once it has diverged."""
        notes: list[str] = []
        if self._reported == len(self._history):
            self._history.append(self._trainer.run_epoch())
            notes = self._trainer.notes()
            with atomic(self._state) as temporary:
                torch.save({**self._trainer.state_dict(), "history": self._history}, temporary)
        metrics = self._history[self._reported]
        self._reported += 1
        lost = diverged(metrics)
        return {
            METRIC: metrics[METRIC],
            TRAINING_ITERATION: metrics["epoch"],
            "metrics": metrics,
            "diverged": lost,
            "done": lost or metrics["epoch"] >= self._trainer.epochs,
            "notes": notes,
        }
