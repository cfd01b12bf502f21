"""The Ray trainable that runs a trial's Trainer."""

from __future__ import annotations

import copy
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
from ctkd_search.metrics import INT8_ACCURACY
from ctkd_search.records.states import read_state, state_path, write_state

# The keys of the config that Ray passes to a trial.
NUMBER, CONFIG = "number", "config"


class DistillationTrial(tune.Trainable):
    """A trial; each of its steps is one epoch of the student.

    Ray reuses the actor for the next trial, so that data is loaded and torch imported once per actor. The trial saves
    its state itself, in one file that is replaced after each epoch. A trial that finds a state when it begins goes on
    from it; it reports its earlier epochs once more, without training them again.
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
            search: Name of the search, recorded with the cache entries that it uses.
            device: ``cuda`` or ``cpu``.
            threads: Number of CPU threads.
            keep_maps: Whether the expert's outputs are recorded, because other trials request them too.
            asked: The outputs of each expert that all trials request; None for those of each trial alone.
        """
        torch.set_num_threads(threads)
        self._splits: Splits = ray.get(splits_ref[0])
        self._cache = TeacherCache(Path(teachers), search)
        self._states = Path(states)
        self._device = torch.device(device)
        self._keep_maps = keep_maps
        self._asked = asked
        # A step that is a captured graph is used again by the next trial.
        self._steps = StepPool() if device == "cuda" else None
        self._begin(config[NUMBER], config[CONFIG])

    def _begin(self, number: int, config: TrialConfig) -> None:
        self._trainer = make_trainer(
            config, self._splits, self._cache, self._device, self._keep_maps, self._steps, self._asked
        )
        self._int8 = config.int8
        self._history: list[dict[str, Any]] = []
        self._notes: list[str] = []
        self._state = state_path(self._states, number)
        kept = read_state(self._state)
        if kept is not None:
            self._trainer.load_state_dict(kept)
            self._history = kept["history"]
        elif self._state.exists():
            self._notes.append(f"trial {number}: its saved state is damaged; the trial begins again")
        self._reported = 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begins another trial in the same actor; called by Ray."""
        # Its images and the outputs of its teachers would be on the GPU twice.
        del self._trainer
        self._begin(new_config[NUMBER], new_config[CONFIG])
        return True

    def step(self) -> dict[str, Any]:
        """Trains one epoch; the trial is done after its last one, or once it has diverged."""
        if self._reported == len(self._history):
            metrics = self._trainer.run_epoch()
            if self._int8 and metrics["epoch"] >= self._trainer.epochs and not diverged(metrics):
                metrics |= self._in_int8(metrics["seconds"])
            # The time of the measurement in milliseconds; it is the same however often the epoch is reported.
            self._history.append({**metrics, "at": int(time.time() * 1000)})
            self._notes += self._trainer.notes()
            write_state(self._state, {**self._trainer.state_dict(), "history": self._history})
        metrics = self._history[self._reported]
        self._reported += 1
        lost = diverged(metrics)
        notes, self._notes = self._notes, []
        return {
            TRAINING_ITERATION: metrics["epoch"],
            # Of every number in a dictionary, Ray keeps statistics, which nothing here reads.
            "metrics": tuple(metrics.items()),
            "diverged": lost,
            "done": lost or metrics["epoch"] >= self._trainer.epochs,
            "notes": notes,
        }

    def _in_int8(self, seconds: float) -> dict[str, float]:
        """Returns the accuracy of the student in int8, and the seconds of the epoch with those of this measurement."""
        from ctkd_search.students.int8_objectives import int8_accuracy

        started = time.perf_counter()
        with self._trainer.step.judged():
            student = copy.deepcopy(self._trainer.student).to("cpu")
        accuracy = int8_accuracy(student, self._splits, torch.get_num_threads())
        return {INT8_ACCURACY.key: accuracy, "seconds": seconds + time.perf_counter() - started}
