"""The Ray trainable around one Trainer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.tune.result import TRAINING_ITERATION

from ctkd_search.config import TrialConfig
from ctkd_search.data import Splits
from ctkd_search.distill.asked import Asked
from ctkd_search.distill.build import make_trainer
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.step import StepPool
from ctkd_search.distill.trainer import Trainer, diverged
from ctkd_search.records.states import read_state, state_path, write_state

# What Ray is given of a trial.
NUMBER, CONFIG = "number", "config"


class DistillationTrial(tune.Trainable):
    """One trial: each step is one epoch of the student.

    Ray keeps the actor for the next trial, so that the data is loaded and torch imported once per actor. The state is
    kept by the trial itself, one file that is replaced after each epoch, and not by Ray. A trial that begins and finds
    a state goes on from it; what it had measured until then it reports once more, at once.
    """

    _trainer: Trainer

    def setup(
        self,
        config: dict[str, Any],
        *,
        splits_ref: list[Any],
        teachers: str,
        states: str,
        search: str,
        device: str,
        threads: int,
        keep_maps: bool = True,
        asked: Asked | None = None,
    ) -> None:
        """Called by Ray once per actor.

        Args:
            config: The trial's number and its config.
            splits_ref: The images in Ray's object store, in a list so that Ray hands over the reference itself.
            teachers: Directory of the teacher cache.
            states: Directory of the trials' states.
            search: Name of the search, noted with what it uses of the cache.
            device: ``cuda`` or ``cpu``.
            threads: CPU threads to compute with.
            keep_maps: Whether what the expert says is worth keeping, because other trials will ask for it too.
            asked: What all trials ask of each expert; None for what each asks for itself.
        """
        torch.set_num_threads(threads)
        self._splits: Splits = ray.get(splits_ref[0])
        self._cache = TeacherCache(Path(teachers), search)
        self._states = Path(states)
        self._device = torch.device(device)
        self._keep_maps = keep_maps
        self._asked = asked
        # Where a step is a captured graph, the next trial uses it again.
        self._steps = StepPool() if device == "cuda" else None
        self._begin(config[NUMBER], config[CONFIG])

    def _begin(self, number: int, config: TrialConfig) -> None:
        self._trainer = make_trainer(
            config, self._splits, self._cache, self._device, self._keep_maps, self._steps, self._asked
        )
        self._history: list[dict[str, Any]] = []
        self._notes: list[str] = []
        self._state = state_path(self._states, number)
        kept = read_state(self._state)
        if kept is not None:
            self._trainer.load_state_dict(kept)
            self._history = kept["history"]
        elif self._state.exists():
            self._notes.append(f"trial {number}: its kept state is damaged, so that it begins again")
        self._reported = 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Called by Ray to begin another trial in the same actor."""
        self._begin(new_config[NUMBER], new_config[CONFIG])
        return True

    def step(self) -> dict[str, Any]:
        """Trains one epoch; the trial is done after its last one, or once it has diverged."""
        if self._reported == len(self._history):
            metrics = self._trainer.run_epoch()
            # When it was measured, in milliseconds, so that it is the same however often it is told.
            self._history.append({**metrics, "at": int(time.time() * 1000)})
            self._notes += self._trainer.notes()
            write_state(self._state, {**self._trainer.state_dict(), "history": self._history})
        metrics = self._history[self._reported]
        self._reported += 1
        lost = diverged(metrics)
        notes, self._notes = self._notes, []
        return {
            TRAINING_ITERATION: metrics["epoch"],
            "metrics": metrics,
            "diverged": lost,
            "done": lost or metrics["epoch"] >= self._trainer.epochs,
            "notes": notes,
        }
