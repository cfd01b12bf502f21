"""Logits of which only the largest are kept, with what the others come to together.

A row of 16-bit words holds an image's k largest logits in float16, their classes, and three numbers in float16 of the
other logits: the log-sum of their exponentials, their mean, and their mean weighed by their predictions. With them the
log-sum is known at every temperature, which the softened predictions of the kept classes depend on. How the predictions
of the others differ from each other is not kept: they are taken for equal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ctkd_search.storage import MOST_CLASSES, Storage, TopLogits


@dataclass(frozen=True)
class KeptLogits:
    """The largest logits of a teacher for a batch, and what the others come to.

    It stands in a lesson in the place of all logits, for losses of softened predictions: see
    `ctkd_search.distill.losses.softened_divergence`.

    Attributes:
        values: The largest logits, float32, shape (batch, k).
        classes: Their classes, int64, same shape.
        others: Of the other logits, in float32, shape (batch, 3): log-sum-exp, mean, and mean by their predictions.
    """

    values: Tensor
    classes: Tensor
    others: Tensor

    @property
    def shape(self) -> torch.Size:
        """Returns the shape of the largest logits, (batch, k)."""
        return self.values.shape

    def detach(self) -> KeptLogits:
        """Returns itself: no gradient flows to recorded logits."""
        return self

    def clone(self) -> KeptLogits:
        """Returns a copy."""
        return KeptLogits(self.values.clone(), self.classes.clone(), self.others.clone())

    def copy_(self, other: KeptLogits) -> None:
        """Copies others of the same shape into the memory of these."""
        for own, given in zip(self._tensors(), other._tensors(), strict=True):
            own.copy_(given)

    def _tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.values, self.classes, self.others

    def softened(self, temperature: float | Tensor, classes: int) -> Tensor:
        """Returns the log predictions of the kept classes, and of all others as one class.

        With s = 1 / T and n other classes, f(s) = log Σ exp(s z) over them is log n at 0, with the mean as its slope,
        and the log-sum-exp at 1, with the weighed mean as its slope: between the two it is the cubic of these four
        numbers, and beyond 1 a line.

        Args:
            temperature: Divisor of the logits, T, greater than 0.
            classes: Number of all classes.

        Returns:
            Log predictions, shape (batch, k + 1).
        """
        count = math.log(classes - self.values.shape[1])
        log_sum, mean, weighed = (column.unsqueeze(1) for column in self.others.unbind(1))
        # A number is not copied to the GPU, which would have to be waited for.
        scale = 1 / temperature if isinstance(temperature, Tensor) else log_sum.new_full((), 1 / temperature)
        inside, beyond = scale.clamp(max=1.0), (scale - 1.0).clamp(min=0.0)
        rise = log_sum - count
        between = inside * mean + inside**2 * (3 * rise - 2 * mean - weighed) + inside**3 * (mean + weighed - 2 * rise)
        others = count + between + beyond * weighed
        return F.log_softmax(torch.cat([self.values / temperature, others], dim=1), dim=1)

    def divergence(self, student: Tensor, temperature: float | Tensor) -> Tensor:
        """Returns KL(teacher ‖ student) of the softened predictions of each image, shape (batch,).

        The teacher's share of the other classes is divided among them equally. If only their sum were compared, a
        student could give all of it to one of them, and predict that one: of many classes and at high temperatures the
        share of the others is the largest.

        Args:
            student: Logits of the student, shape (batch, classes).
            temperature: Divisor of the logits.
        """
        count = student.shape[1] - self.values.shape[1]
        target = self.softened(temperature, student.shape[1])
        predicted = F.log_softmax(student / temperature, dim=1)
        kept = predicted.gather(1, self.classes)
        others = (predicted.sum(dim=1, keepdim=True) - kept.sum(dim=1, keepdim=True)) / count + math.log(count)
        return (target.exp() * (target - torch.cat([kept, others], dim=1))).sum(dim=1)


def pack_logits(logits: Tensor, storage: Storage) -> np.ndarray:
    """Returns logits as they are recorded.

    Args:
        logits: Logits, shape (images, classes).
        storage: The storage.

    Returns:
        For `TopLogits`, rows of int16, shape (images, 2 · top + 3); else numbers of its type, shape (images, classes).

    Raises:
        ValueError: There are no other logits than the kept ones, or too many classes.
    """
    if not isinstance(storage, TopLogits):
        return logits.cpu().numpy().astype(storage)
    classes = logits.shape[1]
    if not storage.top < classes <= MOST_CLASSES:
        raise ValueError(f"classes must be more than top {storage.top} and at most {MOST_CLASSES:,}, but are {classes}")
    logits = logits.float()
    values, chosen = logits.topk(storage.top, dim=1)
    others = logits.scatter(1, chosen, -torch.inf)
    rest = torch.where(others.isfinite(), logits, 0.0)
    numbers = (
        others.logsumexp(dim=1),
        rest.sum(dim=1) / (classes - storage.top),
        (others.softmax(dim=1) * rest).sum(dim=1),
    )
    parts = (values.half(), chosen.cpu().numpy().astype(np.uint16), torch.stack(numbers, dim=1).half())
    arrays = [part.cpu().numpy() if isinstance(part, Tensor) else part for part in parts]
    return np.concatenate([np.ascontiguousarray(array).view(np.int16) for array in arrays], axis=1)


def unpack_logits(rows: Tensor, storage: Storage) -> Tensor | KeptLogits:
    """Returns logits as the losses take them, in float32.

    Args:
        rows: Rows that `pack_logits` has made, as a tensor on any device.
        storage: Their storage.
    """
    if not isinstance(storage, TopLogits):
        return rows.float()
    top = storage.top
    values, others = (part.contiguous().view(torch.float16).float() for part in (rows[:, :top], rows[:, 2 * top :]))
    return KeptLogits(values, rows[:, top : 2 * top].long() & 0xFFFF, others)
