"""A student in another precision beside itself in float32: accuracy, size and latency of both files."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ctkd_search.data.file_stream import plain_batches
from ctkd_search.data.images import Pictures
from ctkd_search.display.tables import Row, Table
from ctkd_search.errors import WorkFailed
from ctkd_search.students.formats import Format, Runner
from ctkd_search.text import percent, size
from ctkd_search.versions import processor

FLOAT, HALF, INT8, TUNED = "float32", "float16", "int8", "int8, tuned"
# Images in a batch whose latency is measured: as many as `predict` classifies at a time.
BATCH = 256
_EVALUATED = 250
_WARM_UP, _TIMED, _SECONDS = 5, 50, 10.0


@dataclass(frozen=True)
class Measured:
    """Measurements of one file of a student, on the processor.

    Attributes:
        accuracy: Its accuracy on the validation images, in [0, 1].
        bytes: Size of the file.
        latency_ms: Median time for one image, in milliseconds.
        batch_ms: Median time for a batch of `BATCH` images, in milliseconds.
    """

    accuracy: float
    bytes: int
    latency_ms: float
    batch_ms: float


@dataclass(frozen=True)
class Comparison:
    """A student's files beside each other.

    Attributes:
        files: The measurements of each, by `FLOAT` and `HALF`, or by `FLOAT`, `INT8` and `TUNED`.
        runtime: Name of what ran them.
        images: Number of validation images.
        threads: Number of threads that the latencies were measured with.
        calibrated_on: Number of training images that the ranges of activations in int8 were measured on; None for half
            precision.
        machine: The processor that they were measured on.
        note: A sentence on the validation images; empty if there is nothing to say.
    """

    files: Mapping[str, Measured]
    runtime: str
    images: int
    threads: int
    calibrated_on: int | None = None
    machine: str = dataclasses.field(default_factory=processor)
    note: str = ""

    @property
    def chosen(self) -> str:
        """Returns the name of the better file but for float32; of equals, that of the tuned one."""
        return max((name for name in self.files if name != FLOAT), key=lambda name: (self.files[name].accuracy, name))

    @property
    def drop(self) -> float:
        """Returns the loss of accuracy of the chosen file against float32, in [-1, 1]."""
        return self.files[FLOAT].accuracy - self.files[self.chosen].accuracy

    def as_dict(self) -> dict[str, Any]:
        """Returns the comparison as plain values."""
        return {**dataclasses.asdict(self), "batch": BATCH, "chosen": self.chosen}

    def table(self) -> Table:
        """Returns the comparison as a table, a row for each file."""
        heads = ["student", "validation accuracy", "size", "one image", f"{BATCH} images"]
        rows = [
            Row([name, percent(one.accuracy), size(one.bytes), f"{one.latency_ms:.3g} ms", f"{one.batch_ms:.3g} ms"])
            for name, one in self.files.items()
        ]
        threads = f"{self.threads} thread{'s' * (self.threads != 1)} ({self.machine})"
        caption = f"{self.runtime}, {self.images:,} validation images; median latencies of one run, {threads}"
        return Table(caption, heads, rows, {1, 2, 3, 4})


def compared(
    contents: Mapping[str, bytes],
    form: Format,
    validation: Pictures,
    threads: int,
    calibrated_on: int | None = None,
    note: str = "",
) -> Comparison:
    """Measures the files of a student beside each other.

    Args:
        contents: Their contents, by the names under which the comparison has them.
        form: Their format.
        validation: The validation images.
        threads: Number of threads.
        calibrated_on: See `Comparison`.
        note: See `Comparison`.

    Raises:
        WorkFailed: A file does not run here, or a probability is not a finite number.
    """
    runs = [form.runner(content, threads) for content in contents.values()]
    accuracies = [accuracy_of(run, validation) for run in runs]
    shown = validation[np.arange(min(BATCH, len(validation)))].held().pixels
    batch = np.resize(shown, (BATCH, *shown.shape[1:]))
    single, many = latencies_ms(runs, batch[:1]), latencies_ms(runs, batch)
    found = {
        name: Measured(accuracies[place], len(content), single[place], many[place])
        for place, (name, content) in enumerate(contents.items())
    }
    return Comparison(found, form.runtime, len(validation), threads, calibrated_on, note=note)


def accuracy_of(run: Runner, images: Pictures) -> float:
    """Returns the accuracy of a function from raw images to probabilities, in [0, 1].

    Raises:
        WorkFailed: A probability is not a finite number.
    """
    right = 0
    for pixels, labels in plain_batches(images, _EVALUATED, torch.device("cpu")):
        found = run(pixels.numpy())
        if not np.isfinite(found).all():
            raise WorkFailed("the student's probabilities are not finite numbers in this precision; it was not written")
        right += int((found.argmax(axis=1) == labels.numpy()).sum())
    return right / len(images)


def latencies_ms(runs: Sequence[Runner], images: np.ndarray) -> list[float]:
    """Returns the median time of each function for these images, in milliseconds.

    The functions take turns, so that whatever else the machine does meets all of them.
    """
    times: list[list[float]] = [[] for _ in runs]
    begun = time.perf_counter()
    for number in range(_WARM_UP + _TIMED):
        for run, own in zip(runs, times, strict=True):
            started = time.perf_counter()
            run(images)
            own.append(time.perf_counter() - started)
        if number >= _WARM_UP and time.perf_counter() - begun > _SECONDS:
            break
    return [1000 * statistics.median(own[_WARM_UP:]) for own in times]
