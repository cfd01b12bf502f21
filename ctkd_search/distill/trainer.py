"""Training of one student: epochs, evaluations, and the complete state."""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from ctkd_search.data.images import Pictures
from ctkd_search.data.stream import Normalise, derived_seed
from ctkd_search.distill.average import Average
from ctkd_search.distill.engine import drawing
from ctkd_search.distill.evaluation import evaluate
from ctkd_search.distill.step import StudentStep
from ctkd_search.distill.teachers import Teachers
from ctkd_search.distill.weights import all_finite
from ctkd_search.metrics import RECORDING_SECONDS, WAITING_SECONDS, averaged
from ctkd_search.models.network import TappedNetwork


class Trainer:
    """Trains one student from lessons.

    Args:
        step: Training step of the student with its initial weights.
        teachers: Source of its lessons.
        epochs: Epochs that the learning-rate schedule spans.
        validation: Images that it is evaluated on after each epoch; may be empty.
        normalise: Normalisation of pixels, on the step's device.
        metrics: Names of the metrics measured on them, besides accuracy and loss.
        seed: Seed of the random numbers that the student draws in training, as for dropout.
        ranking_horizon: Horizon, in epochs, of a running average of the student's weights that is evaluated beside the
            weights that it is judged by; 0 for none.
    """

    def __init__(
        self,
        step: StudentStep,
        teachers: Teachers,
        epochs: int,
        validation: Pictures,
        normalise: Normalise,
        metrics: Collection[str] = (),
        seed: int = 0,
        ranking_horizon: float = 0.0,
    ) -> None:
        self.step = step
        self.teachers = teachers
        self.epochs = epochs
        self.validation = validation
        self.normalise = normalise
        self.metrics = metrics
        self.seed = seed
        self.device = step.device
        self.epoch = 0
        self.ranking = Average(step.student, ranking_horizon) if ranking_horizon else None

    @property
    def student(self) -> TappedNetwork:
        """Returns the student, as it is trained."""
        return self.step.student

    def run_epoch(self) -> dict[str, float]:
        """Trains one epoch and evaluates.

        Returns:
            The epoch's number (from 1), the means of the loss and of its terms, training accuracy, the metrics of the
            validation images (``validation_accuracy`` and others; ``averaged_validation_accuracy`` and others with the
            weights averaged over the ranking horizon), the last step's learning rate, seconds, and images
            per second. Terms are NaN or infinite if the training diverged. If the expert was recorded in the epoch, or
            waited for, also the seconds of that, which are part of all seconds (``recording_seconds``,
            ``waiting_seconds``), and the number of epochs recorded (``recorded_epochs``).
        """
        started = time.perf_counter()
        self.step.begin_epoch(self.epoch, self.epochs, self.teachers.steps)
        sums: dict[str, Tensor] = {}
        seen = 0
        with drawing(self.device, derived_seed("student draws", self.seed, self.epoch)):
            for lesson in self.teachers.lessons(self.epoch):
                for name, value in self.step(lesson).items():
                    sums[name] = value + sums.get(name, 0)
                if self.ranking:
                    self.ranking.follow(self.teachers.steps)
                seen += len(lesson.labels)
        # The one place in an epoch where the host waits for the device.
        totals = torch.stack([total.double() for total in sums.values()]).tolist()
        means = {name: total / seen for name, total in zip(sums, totals, strict=True)}
        if not all_finite(self.student):
            # The losses were computed before the last step, which may have made the weights infinite.
            means["loss"] = math.nan
        trained = time.perf_counter()
        self.epoch += 1
        spent = self.teachers.spent()
        own = trained - started - spent.get(RECORDING_SECONDS, 0.0) - spent.get(WAITING_SECONDS, 0.0)
        metrics = {"epoch": self.epoch, **means, "lr": self.step.lr, "images_per_second": seen / own, **spent}
        if len(self.validation):
            with self.step.judged():
                metrics |= self._measured()
            if self.ranking:
                with self.ranking.in_place():
                    metrics |= {averaged(name): value for name, value in self._measured().items()}
            metrics["validation_images"] = len(self.validation)
        metrics["seconds"] = time.perf_counter() - started
        return metrics

    def _measured(self) -> dict[str, float]:
        measured = evaluate(self.student, self.validation, self.normalise, self.device, self.metrics)
        return {f"validation_{name}": value for name, value in measured.items()}

    def notes(self) -> list[str]:
        """Returns notes for the user about the last epoch, a sentence each."""
        return [*self.teachers.notes(), *self.step.notes()]

    def state_dict(self) -> dict[str, Any]:
        """Returns everything that the rest of the training depends on, as tensors and plain values.

        The stream and the random numbers of networks need no state: both are functions of a seed and the epoch.
        """
        state = {"epoch": self.epoch, **self.step.state_dict(), "teachers": self.teachers.state_dict()}
        if self.ranking:
            state["ranking"] = {"weights": self.ranking.weights, "count": self.ranking.count}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resumes from a state, bit for bit on the CPU."""
        self.epoch = state["epoch"]
        self.step.load_state_dict(state)
        self.teachers.load_state_dict(state["teachers"])
        if self.ranking:
            self.ranking.load(**state["ranking"])


def diverged(metrics: dict[str, float]) -> bool:
    """Returns whether an epoch's loss is no longer finite; it is not where a weight of the student is not."""
    return not all(math.isfinite(metrics.get(name, 0.0)) for name in ("loss", "validation_loss"))
