"""How good a network is on images that it did not learn from: sums over batches, so that memory does not grow."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor
from torch.nn import functional as F

from ctkd_search.data.file_stream import plain_batches
from ctkd_search.data.images import Pictures
from ctkd_search.data.stream import Normalise
from ctkd_search.metrics import BALANCED, ECE, TOP5
from ctkd_search.models.network import TappedNetwork

_BATCH = 1000
# Images larger than these are classified fewer at a time.
_SMALL = 64
_BINS = 15
_TOP = 5


class Tally:
    """Sums of what is measured, on the device; nothing waits for them before `result`.

    Args:
        classes: How many classes there are.
        metrics: What is measured beside accuracy and loss: names of `ctkd_search.metrics.ON_REQUEST`.
        device: Where the sums stand.
    """

    def __init__(self, classes: int, metrics: Collection[str], device: torch.device) -> None:
        self._metrics = metrics
        self._seen = 0
        self._right = torch.zeros((), dtype=torch.int64, device=device)
        self._loss = torch.zeros((), dtype=torch.float64, device=device)
        self._among_top = torch.zeros((), dtype=torch.int64, device=device)
        # Of each class, how many images there are, and how many of them are classified rightly.
        self._images_of = torch.zeros(classes, dtype=torch.int64, device=device)
        self._right_of = torch.zeros(classes, dtype=torch.int64, device=device)
        # Of each bin of confidence, the sums of confidence and of right answers.
        self._bins = torch.zeros(_BINS, 2, dtype=torch.float64, device=device)

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Counts a batch.

        Args:
            logits: Shape (batch, classes).
            labels: Shape (batch,).
        """
        right = logits.argmax(dim=1) == labels
        self._seen += len(labels)
        self._right += right.sum()
        self._loss += F.cross_entropy(logits, labels, reduction="none").double().sum()
        if TOP5.name in self._metrics:
            self._among_top += (logits.topk(_TOP, dim=1).indices == labels[:, None]).sum()
        if BALANCED.name in self._metrics:
            self._images_of.index_add_(0, labels, torch.ones_like(labels))
            self._right_of.index_add_(0, labels, right.long())
        if ECE.name in self._metrics:
            confidence = logits.double().softmax(dim=1).amax(dim=1)
            # Bins are open below and closed above. A product, because adding where an index says has no fixed order
            # on a GPU.
            place = (confidence * _BINS).ceil().clamp(1, _BINS) - 1
            inside = place == torch.arange(_BINS, device=place.device)[:, None]
            self._bins += inside.double() @ torch.stack([confidence, right.double()], dim=1)

    def result(self) -> dict[str, float]:
        """What was measured, by name; NaN where the logits were not numbers."""
        found = {"accuracy": self._right.item() / self._seen, "loss": self._loss.item() / self._seen}
        if TOP5.name in self._metrics:
            found[TOP5.name] = self._among_top.item() / self._seen
        if BALANCED.name in self._metrics:
            there = self._images_of > 0
            found[BALANCED.name] = (self._right_of[there].double() / self._images_of[there]).mean().item()
        if ECE.name in self._metrics:
            confidence, right = self._bins.unbind(dim=1)
            found[ECE.name] = (confidence - right).abs().sum().item() / self._seen
        return found


def evaluate(
    network: TappedNetwork,
    images: Pictures,
    normalise: Normalise,
    device: torch.device,
    metrics: Collection[str] = (),
    batch: int | None = None,
) -> dict[str, float]:
    """Classifies images as they are, in evaluation mode and in float32, as a served student does.

    Args:
        network: The network, on `device`; its mode is restored afterwards.
        images: The images, one at least.
        normalise: What is done to their pixels, on `device`.
        device: Where to compute.
        metrics: What is measured beside accuracy and loss.
        batch: Images at once; None for as many as suit their size.

    Returns:
        By name: ``accuracy``, a share in [0, 1]; ``loss``, the mean cross-entropy in nats; and what was asked for,
        shares in [0, 1] too. ``balanced_accuracy`` is the mean over the classes that there are images of.
    """
    was_training = network.training
    network.eval()
    tally: Tally | None = None
    with torch.inference_mode():
        for pixels, labels in plain_batches(images, batch or _batch(images.size), device):
            logits, _ = network(normalise(pixels))
            logits = logits.float()
            tally = tally or Tally(logits.shape[1], metrics, device)
            tally.add(logits, labels)
    network.train(was_training)
    assert tally is not None  # there is an image
    return tally.result()


def _batch(size: int) -> int:
    """How many images of a size are classified at a time."""
    return _BATCH if size <= _SMALL else max(1, _BATCH * _SMALL**2 // size**2)
