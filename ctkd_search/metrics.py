"""What is measured of a student: names, units, and which way is better. Only the standard library is imported here."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

# Seconds of an epoch that other trials profit from too: in which its expert was recorded, and in which another process
# was waited for that recorded it. They are part of its ``seconds``.
RECORDING_SECONDS, WAITING_SECONDS = "recording_seconds", "waiting_seconds"
# How many epochs of the expert were recorded in it: more than one where other processes recorded the first.
RECORDED_EPOCHS = "recorded_epochs"
# What of an epoch's metrics depends on the machine alone, and on what other trials do at the time.
CLOCKS = ("seconds", "images_per_second", RECORDING_SECONDS, WAITING_SECONDS, RECORDED_EPOCHS)


@dataclass(frozen=True)
class Metric:
    """Something that is measured of a student on images that it did not learn from.

    Attributes:
        name: Its name, as in the results of an evaluation.
        label: What people call it.
        help: What it is.
        short: What stands above its column where there is little room.
        goal: Whether it is to be high (``max``) or low (``min``).
        unit: ``%`` for what is kept as a share in [0, 1], ``nats`` for the loss.
    """

    name: str
    label: str
    help: str
    short: str
    goal: Literal["max", "min"] = "max"
    unit: Literal["%", "nats"] = "%"

    @property
    def key(self) -> str:
        """Its name among the metrics of an epoch, and among a space's objectives."""
        return f"validation_{self.name}"

    @property
    def sign(self) -> float:
        """What its values are multiplied with so that more is better."""
        return 1.0 if self.goal == "max" else -1.0

    @property
    def difference_unit(self) -> str:
        """What differences are counted in."""
        return "points" if self.unit == "%" else self.unit

    def resolution(self, images: int | None) -> float:
        """By how much one image more or less changes a value: for a share of N images, 1 / N; a loss has no steps.

        Args:
            images: How many images it is measured on; None where that is not known.
        """
        return 1 / images if images and self.unit == "%" else 0.0

    def show(self, value: float | None) -> str:
        """A value with its unit; a dash where there is none."""
        if value is None or math.isnan(value):
            return "-"
        return f"{self.number(value)} {self.unit}"

    def number(self, value: float) -> str:
        """A value, an interval or a deviation without its unit."""
        return f"{100 * value:.2f}" if self.unit == "%" else f"{value:.4f}"

    def signed(self, value: float) -> str:
        """A difference without its unit, its sign always shown."""
        return f"{100 * value:+.2f}" if self.unit == "%" else f"{value:+.4f}"


ACCURACY = Metric("accuracy", "accuracy", "share of the images that are classified rightly", "accuracy")
LOSS = Metric("loss", "loss", "mean cross-entropy", "loss", "min", "nats")
TOP5 = Metric("top5", "top-5 accuracy", "share of the images whose class is among the five most probable", "top-5")
BALANCED = Metric(
    "balanced_accuracy",
    "balanced accuracy",
    "mean over the classes of the share that is classified rightly",
    "balanced",
)
ECE = Metric(
    "ece",
    "calibration error",
    "expected calibration error: how far confidence is from accuracy, over 15 bins of equal width (arXiv 1706.04599)",
    "ECE",
    "min",
)

METRICS = {metric.name: metric for metric in (ACCURACY, LOSS, TOP5, BALANCED, ECE)}
# What every evaluation measures, and what a space may ask for beside it.
ALWAYS = (ACCURACY.name, LOSS.name)
ON_REQUEST = tuple(name for name in METRICS if name not in ALWAYS)
# By the name under which a space has them as objectives.
OBJECTIVES = {metric.key: metric for metric in METRICS.values()}
# With so many classes, the five most probable ones leave some out.
TOP5_CLASSES = 6


def measured(asked: Iterable[str], objective: str) -> list[Metric]:
    """What tables show, in the order in which they do.

    Args:
        asked: Names of the metrics that were asked for.
        objective: The one that students are judged by, as an objective.

    Returns:
        The one that students are judged by, the accuracy, and what was asked for.
    """
    judge = OBJECTIVES[objective]
    return list(dict.fromkeys([judge, ACCURACY, *(METRICS[name] for name in METRICS if name in set(asked))]))


def class_fault(name: str, classes: int) -> str | None:
    """Why a metric says nothing of so many classes, or None."""
    if name == TOP5.name and classes < TOP5_CLASSES:
        return f"says nothing of {classes} classes: it needs {TOP5_CLASSES} or more"
    return None
