"""Metrics of a student: name, unit, direction, and how each is measured, batch by batch.

A new metric is an entry of `METRICS`: a `Metric` and the class of its sums. Torch is imported only where something is
measured, because spaces are read without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Seconds of an epoch that other trials profit from too: in which its expert was recorded, and in which another process
# was waited for that recorded it. They are part of its ``seconds``.
RECORDING_SECONDS, WAITING_SECONDS = "recording_seconds", "waiting_seconds"
# Number of epochs of the expert recorded in it: more than one if other processes recorded the first.
RECORDED_EPOCHS = "recorded_epochs"
# Metrics of an epoch that depend on the machine alone, and on the other trials at the time.
CLOCKS = ("seconds", "images_per_second", RECORDING_SECONDS, WAITING_SECONDS, RECORDED_EPOCHS)


class Sums(Protocol):
    """Sums over the images seen so far, on the device, from which a metric follows.

    Made with the number of classes and the device. Nothing may wait for the device before `result`.
    """

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Adds a batch.

        Args:
            logits: Float32, shape (batch, classes).
            labels: Shape (batch,).
        """
        ...

    def result(self) -> float:
        """Return the metric over all images added."""
        ...


@dataclass(frozen=True)
class Metric:
    """A metric of a student on images that it was not trained on.

    Attributes:
        name: Its name, as in the results of an evaluation.
        label: Its name in messages.
        help: A short definition.
        short: Heading of its column in narrow tables.
        sums: Makes the sums that it follows from, from the number of classes and the device.
        goal: ``max`` if high values are better, else ``min``.
        unit: ``%`` for shares in [0, 1], ``nats`` for the loss.
        least_classes: The fewest classes with which it tells networks apart.
    """

    name: str
    label: str
    help: str
    short: str
    sums: Callable[[int, torch.device], Sums]
    goal: Literal["max", "min"] = "max"
    unit: Literal["%", "nats"] = "%"
    least_classes: int = 2

    @property
    def key(self) -> str:
        """Returns its name among the metrics of an epoch, and among a space's objectives."""
        return f"validation_{self.name}"

    @property
    def sign(self) -> float:
        """Returns the factor of its values by which higher is better."""
        return 1.0 if self.goal == "max" else -1.0

    @property
    def difference_unit(self) -> str:
        """Returns the unit of differences."""
        return "points" if self.unit == "%" else self.unit

    def resolution(self, images: int | None) -> float:
        """Returns the change of a value by one image: for a share of N images, 1 / N; 0 for the loss.

        Args:
            images: Number of images that it is measured on; None if it is not known.
        """
        return 1 / images if images and self.unit == "%" else 0.0

    def show(self, value: float | None) -> str:
        """Returns a value with its unit; a dash if there is none."""
        if value is None or math.isnan(value):
            return "-"
        return f"{self.number(value)} {self.unit}"

    def number(self, value: float) -> str:
        """Returns a value, an interval or a deviation without its unit."""
        return f"{100 * value:.2f}" if self.unit == "%" else f"{value:.4f}"

    def signed(self, value: float) -> str:
        """Returns a difference without its unit, always with a sign."""
        return f"{100 * value:+.2f}" if self.unit == "%" else f"{value:+.4f}"


class _Mean:
    """The mean over the images of a value that `_values` returns for each."""

    def __init__(self, classes: int, device: torch.device) -> None:
        import torch

        self._seen = 0
        self._sum = torch.zeros((), dtype=torch.float64, device=device)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        self._seen += len(labels)
        self._sum += self._values(logits, labels).double().sum()

    def result(self) -> float:
        return self._sum.item() / self._seen

    def _values(self, logits: Tensor, labels: Tensor) -> Tensor:
        raise NotImplementedError


class _Right(_Mean):
    def _values(self, logits: Tensor, labels: Tensor) -> Tensor:
        return logits.argmax(dim=1) == labels


class _CrossEntropy(_Mean):
    def _values(self, logits: Tensor, labels: Tensor) -> Tensor:
        from torch.nn import functional

        return functional.cross_entropy(logits, labels, reduction="none")


class _AmongFive(_Mean):
    def _values(self, logits: Tensor, labels: Tensor) -> Tensor:
        return (logits.topk(5, dim=1).indices == labels[:, None]).any(dim=1)


class _Recalls:
    """For each class, how many images there are, and how many of them are classified correctly."""

    def __init__(self, classes: int, device: torch.device) -> None:
        import torch

        self._images, self._right = torch.zeros(2, classes, dtype=torch.int64, device=device)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        import torch

        self._images.index_add_(0, labels, torch.ones_like(labels))
        self._right.index_add_(0, labels, (logits.argmax(dim=1) == labels).long())

    def result(self) -> float:
        there = self._images > 0
        return (self._right[there].double() / self._images[there]).mean().item()


class _Calibration:
    """For each bin of confidence, the sums of confidence and of correct predictions."""

    def __init__(self, classes: int, device: torch.device, bins: int = 15) -> None:
        import torch

        self._seen = 0
        self._bins = torch.zeros(bins, 2, dtype=torch.float64, device=device)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        import torch

        self._seen += len(labels)
        count = len(self._bins)
        right = logits.argmax(dim=1) == labels
        confidence = logits.double().softmax(dim=1).amax(dim=1)
        # Bins are open below and closed above. A product, because adding at indices has no fixed order on a GPU.
        place = (confidence * count).ceil().clamp(1, count) - 1
        inside = place == torch.arange(count, device=place.device)[:, None]
        self._bins += inside.double() @ torch.stack([confidence, right.double()], dim=1)

    def result(self) -> float:
        confidence, right = self._bins.unbind(dim=1)
        return (confidence - right).abs().sum().item() / self._seen


ACCURACY = Metric("accuracy", "accuracy", "share of the images that are classified rightly", "accuracy", _Right)
LOSS = Metric("loss", "loss", "mean cross-entropy", "loss", _CrossEntropy, "min", "nats")
TOP5 = Metric(
    "top5",
    "top-5 accuracy",
    "share of the images whose class is among the five most probable",
    "top-5",
    _AmongFive,
    least_classes=6,
)
BALANCED = Metric(
    "balanced_accuracy",
    "balanced accuracy",
    "mean over the classes of the share that is classified rightly",
    "balanced",
    _Recalls,
)
ECE = Metric(
    "ece",
    "calibration error",
    "expected calibration error: how far confidence is from accuracy, over 15 bins of equal width (arXiv 1706.04599)",
    "ECE",
    _Calibration,
    "min",
)


@dataclass(frozen=True)
class Int8Metric(Metric):
    """A metric of a student in int8, measured with ONNX Runtime after its last epoch alone."""

    @property
    def key(self) -> str:
        """Returns its name among the metrics of an epoch, and among a space's objectives."""
        return f"int8_validation_{self.name}"


def averaged(key: str) -> str:
    """Returns the name of a metric of the validation images that is measured with averaged weights.

    Args:
        key: Its name among the metrics of an epoch.
    """
    return f"averaged_{key}"


METRICS = {metric.name: metric for metric in (ACCURACY, LOSS, TOP5, BALANCED, ECE)}
# The metrics of every evaluation, and those that a space may add.
ALWAYS = (ACCURACY.name, LOSS.name)
ON_REQUEST = tuple(name for name in METRICS if name not in ALWAYS)
# By the name under which a space has them as objectives.
OBJECTIVES = {metric.key: metric for metric in METRICS.values()}
INT8_ACCURACY = Int8Metric(
    "accuracy",
    "int8 accuracy",
    "accuracy of the student in int8, calibrated on training images and run by ONNX Runtime after the last epoch",
    "int8",
    _Right,
)
# Objectives that trials cannot be judged by, because they are measured after the last epoch alone.
AT_END = {INT8_ACCURACY.key: INT8_ACCURACY}
# All objectives that are metrics, and no costs.
METRIC_OBJECTIVES: dict[str, Metric] = {**OBJECTIVES, **AT_END}


def measured(asked: Iterable[str], objective: str) -> list[Metric]:
    """Returns the metrics that tables show, in their order.

    Args:
        asked: Names of the metrics that a space adds.
        objective: The objective that students are judged by.

    Returns:
        The objective's metric, the accuracy, and those that a space adds.
    """
    judge = OBJECTIVES[objective]
    return list(dict.fromkeys([judge, ACCURACY, *(METRICS[name] for name in METRICS if name in set(asked))]))


def class_fault(name: str, classes: int) -> str | None:
    """Returns why a metric is meaningless for so many classes, or None."""
    least = METRICS[name].least_classes
    return f"is meaningless with {classes} classes: it needs {least} or more" if classes < least else None
