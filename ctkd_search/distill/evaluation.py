"""Evaluation of networks, by sums over batches, so that memory does not grow with the images."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from ctkd_search.data.file_stream import plain_batches
from ctkd_search.data.images import Pictures
from ctkd_search.data.stream import Normalise
from ctkd_search.metrics import ALWAYS, METRICS

_BATCH = 1000
# Side in pixels above which an evaluation in larger batches would take more of a GPU than the training does.
_SMALLEST = 32
# For larger images, and on the processor, whose cache the feature maps of more images leave, which takes longer.
_SMALLER_BATCH = 250
# Side in pixels above which batches are smaller still; networks of such images have a stem that shrinks them.
_SMALL = 64


class Tally:
    """Sums of several metrics, on the device; nothing waits for them before `result`.

    Args:
        classes: Number of classes.
        metrics: Metrics besides accuracy and loss: names of `ctkd_search.metrics.ON_REQUEST`.
        device: Device that the sums are kept on.
    """

    def __init__(self, classes: int, metrics: Collection[str], device: torch.device) -> None:
        measured = [metric for metric in METRICS.values() if metric.name in {*ALWAYS, *metrics}]
        self.sums = {metric.name: metric.sums(classes, device) for metric in measured}

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Adds a batch.

        Args:
            logits: Shape (batch, classes).
            labels: Shape (batch,).
        """
        for sums in self.sums.values():
            sums.add(logits, labels)

    def result(self) -> dict[str, float]:
        """Return what was measured, by name; NaN where the logits were not numbers."""
        return {name: sums.result() for name, sums in self.sums.items()}


def evaluate(
    network: nn.Module,
    images: Pictures,
    normalise: Normalise,
    device: torch.device,
    metrics: Collection[str] = (),
    batch: int | None = None,
) -> dict[str, float]:
    """Classifies images as they are, in evaluation mode and in float32, as a served student does.

    On GPUs since 2020 convolutions round their inputs to TF32, to 10 bits after the point, as is torch's default.

    Args:
        network: The network, which returns logits and feature maps, on `device`; its mode is restored afterwards.
        images: The images, one at least.
        normalise: Normalisation of their pixels, on `device`.
        device: Device to compute on.
        metrics: Metrics besides accuracy and loss.
        batch: Batch size; None for one that suits the images' size and the device.

    Returns:
        By name: ``accuracy``, a share in [0, 1]; ``loss``, the mean cross-entropy in nats; and the other metrics,
        shares in [0, 1] too. ``balanced_accuracy`` is the mean over the classes that have images.
    """
    was_training = network.training
    network.eval()
    tally: Tally | None = None
    with torch.inference_mode():
        for pixels, labels in plain_batches(images, batch or _batch(images.size, device), device):
            logits, _ = network(normalise(pixels))
            logits = logits.float()
            tally = tally or Tally(logits.shape[1], metrics, device)
            tally.add(logits, labels)
    network.train(was_training)
    assert tally is not None  # there is an image
    return tally.result()


def _batch(size: int, device: torch.device) -> int:
    """Returns the batch size for images of a size on a device."""
    on_cpu = device.type == "cpu"
    most = _BATCH if size <= _SMALLEST and not on_cpu else _SMALLER_BATCH
    by_area = (_SMALLER_BATCH if on_cpu else _BATCH) * _SMALL**2 // size**2
    return max(1, min(most, by_area))
