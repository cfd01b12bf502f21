"""The Ray trainable around one Trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from ctkd_search.data import Splits
from ctkd_search.distill.build import make_trainer
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.step import StepPool
from ctkd_search.distill.trainer import Trainer, diverged
from ctkd_search.space import Space

CHECKPOINT = "trial.pt"
METRIC = "validation_accuracy"


class DistillationTrial(tune.Trainable):
    """One trial: each step is one epoch of the student.

    Ray keeps the actor for the next trial, so that the data is loaded and torch imported once per actor.
    """

    _trainer: Trainer

    def setup(
        self,
        config: dict[str, Any],
        *,
        space: Space,
        splits_ref: list[Any],
        teachers: str,
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
            search: Name of the search, noted with what it uses of the cache.
            device: ``cuda`` or ``cpu``.
            threads: CPU threads to compute with.
        """
        torch.set_num_threads(threads)
        self._space = space
        self._splits: Splits = ray.get(splits_ref[0])
        self._cache = TeacherCache(Path(teachers), search)
        self._device = torch.device(device)
        # Where a step is a captured graph, the next trial uses it again.
        self._steps = StepPool() if device == "cuda" else None
        self._begin(config)

    def _begin(self, stored: dict[str, Any]) -> None:
        config = self._space.config(self._space.decode(stored))
        self._trainer = make_trainer(config, self._splits, self._cache, self._device, steps=self._steps)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Called by Ray to begin another trial in the same actor."""
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Trains one epoch; the trial is done after its last one, or once it has diverged."""
        metrics = self._trainer.run_epoch()
        lost = diverged(metrics)
        done = lost or self._trainer.epoch >= self._trainer.epochs
        notes = self._trainer.notes()
        return {METRIC: metrics[METRIC], "metrics": metrics, "diverged": lost, "done": done, "notes": notes}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Called by Ray after each epoch."""
        torch.save(self._trainer.state_dict(), Path(checkpoint_dir) / CHECKPOINT)

    def load_checkpoint(self, checkpoint: str) -> None:
        """Called by Ray to go on from a checkpoint."""
        state = torch.load(Path(checkpoint) / CHECKPOINT, map_location="cpu", weights_only=True)
        self._trainer.load_state_dict(state)
