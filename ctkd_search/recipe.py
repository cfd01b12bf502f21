"""The recipe of a training: optimizer, schedule, precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from ctkd_search.fields import Count, Fraction, FromList, Positive, Range


@dataclass(frozen=True)
class Recipe:
    """A training recipe: SGD with a step schedule.

    The defaults are the CTKD authors' (arXiv 1907.09643 and its released code): learning rate times 0.2 at
    epochs 60, 120 and 160 of 200, which are fractions here so that a shorter budget keeps the shape.

    Attributes:
        batch_size: Images in a step.
        lr: Initial learning rate.
        momentum: SGD momentum.
        nesterov: Whether the momentum is Nesterov's.
        weight_decay: L2 penalty on every parameter.
        milestones: Shares of the epochs after which the learning rate drops.
        gamma: Factor of the learning rate at each milestone.
        precision: ``float32``, ``bfloat16`` (forward passes under autocast; weights and losses stay in float32), or
            ``auto``: bfloat16 if the hardware computes in it.
    """

    batch_size: Count = 128
    lr: Positive = 0.1
    momentum: Annotated[float, Range(0, 1, open_high=True)] = 0.9
    nesterov: bool = False
    weight_decay: Annotated[float, Range(0)] = 5e-4
    milestones: Annotated[tuple[Fraction, ...], FromList()] = (0.3, 0.6, 0.8)
    gamma: Annotated[float, Range(0, 1, open_low=True)] = 0.2
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    def lr_at(self, epoch: int, epochs: int) -> float:
        """Returns the learning rate of `epoch` (counted from 0) in a training of `epochs` epochs."""
        return self.lr * self.gamma ** sum(epoch >= max(1, round(share * epochs)) for share in self.milestones)
