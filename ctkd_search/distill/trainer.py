"""One student's training: an epoch, an evaluation, its complete state."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor

from ctkd_search.config import Recipe
from ctkd_search.data.registry import Images
from ctkd_search.data.stream import Normalise
from ctkd_search.distill import losses
from ctkd_search.distill.engine import autocast, make_optimizer, set_lr
from ctkd_search.distill.methods.base import Method
from ctkd_search.distill.teachers import Lesson, Teachers
from ctkd_search.models.network import TappedNetwork

_EVALUATION_BATCH = 1000


def evaluate(network: TappedNetwork, images: Images, normalise: Normalise, device: torch.device) -> dict[str, float]:
    """Classifies images as they are, in evaluation mode and in float32, as a served student does.

    Args:
        network: The network, on `device`; its mode is restored afterwards.
        images: The images.
        normalise: What is done to their pixels, on `device`.
        device: Where to compute.

    Returns:
        ``accuracy``, a share in [0, 1], and ``loss``, the mean cross-entropy in nats.
    """
    was_training = network.training
    network.eval()
    right = torch.zeros((), device=device)
    loss = torch.zeros((), device=device)
    with torch.inference_mode():
        for start in range(0, len(images), _EVALUATION_BATCH):
            pixels = torch.tensor(images.pixels[start : start + _EVALUATION_BATCH], device=device)
            labels = torch.tensor(images.labels[start : start + _EVALUATION_BATCH], device=device)
            logits, _ = network(normalise(pixels))
            right += losses.correct(logits, labels)
            loss += losses.F.cross_entropy(logits, labels, reduction="sum")
    network.train(was_training)
    return {"accuracy": right.item() / len(images), "loss": loss.item() / len(images)}


class Trainer:
    """Trains one student from lessons.

    Args:
        student: The student with its initial weights, on `device`.
        teachers: Where its lessons come from.
        method: How lessons become a loss.
        recipe: How it is trained.
        epochs: How many epochs the learning-rate schedule spans.
        validation: The images it is evaluated on after each epoch; may be empty.
        normalise: What is done to pixels, on `device`.
        device: Where to compute.
    """

    def __init__(
        self,
        student: TappedNetwork,
        teachers: Teachers,
        method: Method,
        recipe: Recipe,
        epochs: int,
        validation: Images,
        normalise: Normalise,
        device: torch.device,
    ) -> None:
        self.student = student
        self.teachers = teachers
        self.method = method
        self.recipe = recipe
        self.epochs = epochs
        self.validation = validation
        self.normalise = normalise
        self.device = device
        self.epoch = 0
        self.optimizer = make_optimizer(student, recipe)

    def run_epoch(self) -> dict[str, float]:
        """Trains one epoch and evaluates.

        Returns:
            The epoch's number (from 1), the means of the loss and of its terms, training and validation
            accuracy, validation loss, learning rate, seconds, and images a second. Terms are NaN or infinite
            where the training diverged.
        """
        started = time.perf_counter()
        lr = self.recipe.lr_at(self.epoch, self.epochs)
        set_lr(self.optimizer, lr)
        self.student.train()
        sums: dict[str, Tensor] = {}
        seen = 0
        for lesson in self.teachers.lessons(self.epoch):
            for name, value in self.step(lesson).items():
                sums[name] = sums[name] + value if name in sums else value
            seen += len(lesson.labels)
        means = {name: total.item() / seen for name, total in sums.items()}
        trained = time.perf_counter()
        self.epoch += 1
        metrics = {"epoch": self.epoch, **means, "lr": lr, "images_per_second": seen / (trained - started)}
        if len(self.validation):
            measured = evaluate(self.student, self.validation, self.normalise, self.device)
            metrics |= {f"validation_{name}": value for name, value in measured.items()}
        metrics["seconds"] = time.perf_counter() - started
        return metrics

    def step(self, lesson: Lesson) -> dict[str, Tensor]:
        """One step of the student.

        Returns:
            Sums over the batch of the loss, of its terms, and of the right predictions, left on the device so
            that nothing waits for them.
        """
        with autocast(self.recipe.precision, self.device):
            logits, maps = self.student(lesson.images)
        logits = logits.float()
        terms = self.method.terms(logits, maps, lesson)
        loss = sum(terms.values(), torch.zeros((), device=self.device))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        count = len(lesson.labels)
        summed = {name: value.detach() * count for name, value in {"loss": loss, **terms}.items()}
        return {**summed, "train_accuracy": losses.correct(logits.detach(), lesson.labels)}

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on, as tensors and plain values.

        The stream needs no state: it is a function of its seed and of the epoch. Torch's global random state is
        kept for networks that draw from it, as dropout does.
        """
        state = {
            "epoch": self.epoch,
            "student": self.student.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "teachers": self.teachers.state_dict(),
            "random": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            state["random_cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a kept state, bit for bit on the CPU."""
        self.epoch = state["epoch"]
        self.student.load_state_dict(state["student"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.teachers.load_state_dict(state["teachers"])
        torch.set_rng_state(state["random"].cpu())
        if self.device.type == "cuda" and "random_cuda" in state:
            torch.cuda.set_rng_state(state["random_cuda"].cpu(), self.device)


def diverged(metrics: dict[str, float]) -> bool:
    """Whether an epoch's loss is no longer a finite number."""
    return not math.isfinite(metrics["loss"])
