"""A scratch teacher that shares the student's first convolution, as in the CTKD authors' released code."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ctkd_search.distill.training_network import TrainingNetwork
from ctkd_search.errors import UserError
from ctkd_search.models.network import TappedNetwork


class SharedStem(TrainingNetwork):
    """Student and scratch teacher over one first convolution.

    Args:
        student: The student.
        scratch: The scratch teacher; its first convolution is replaced by the student's.

    Raises:
        UserError: One of the two has no convolution.
    """

    def __init__(self, student: TappedNetwork, scratch: TappedNetwork) -> None:
        super().__init__(student)
        parent, _, own = _first_convolution(scratch).rpartition(".")
        setattr(scratch.get_submodule(parent), own, student.get_submodule(_first_convolution(student)))
        self.scratch = scratch

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor], Any]:
        """Returns the student's logits and maps, and the scratch teacher's."""
        logits, maps = self.student(images)
        return logits, maps, self.scratch(images)


def _first_convolution(network: nn.Module) -> str:
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            return name
    raise UserError(f"a network without convolutions ({type(network).__name__}) has no first one to share")
