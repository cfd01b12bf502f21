"""The served student: raw images in, probabilities out, with a description of both."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ctkd_search.data.stream import Normalise
from ctkd_search.distill.weights import all_finite
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.models import build
from ctkd_search.models.network import TappedNetwork
from ctkd_search.versions import STUDENT_FORMAT, versions


@dataclass(frozen=True)
class Metadata:
    """The description of a student, stored with it in every format.

    Attributes:
        classes: Names of the classes, in the order of its outputs.
        image_size: Side of its images in pixels.
        channels: 1 for grey images, 3 for colour.
        architecture: Name of its architecture.
        versions: Versions of the software that wrote it.
        resize: Length that a picture's shorter side is resized to before its centred square is cut out; None for
            `image_size`.
        format: Version of the format of the student's file.
    """

    classes: tuple[str, ...]
    image_size: int
    channels: int
    architecture: str
    versions: Mapping[str, str] = field(default_factory=versions)
    resize: int | None = None
    format: int = STUDENT_FORMAT

    @property
    def geometry(self) -> Geometry:
        """Returns classes, channels and image size."""
        return Geometry(len(self.classes), self.channels, self.image_size)

    def as_dict(self) -> dict[str, Any]:
        """Returns the description as plain values."""
        return {**dataclasses.asdict(self), "classes": list(self.classes)}


class ServedStudent(nn.Module):
    """A student that takes raw images, with the preprocessing inside.

    Args:
        student: The trained student.
        mean: Mean of each channel that it was trained with, in pixel values.
        std: Standard deviation of each channel, likewise.
    """

    def __init__(self, student: TappedNetwork, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.normalise = Normalise(tuple(mean), tuple(std))
        self.student = student
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Classifies raw images.

        Args:
            images: uint8, shape (batch, height, width, channels).

        Returns:
            Probabilities, shape (batch, classes).
        """
        logits, _ = self.student(seen(self.normalise, images))
        return torch.softmax(logits, dim=1)


class HalfStudent(nn.Module):
    """A served student whose network computes in float16; images are normalised, and predictions softened, in float32.

    Args:
        served: The student in float32, which stays as it is.
    """

    def __init__(self, served: ServedStudent) -> None:
        super().__init__()
        self.normalise = served.normalise
        self.student = copy.deepcopy(served.student).half()
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Classifies raw images; see `ServedStudent`."""
        logits, _ = self.student(seen(self.normalise, images).half())
        return torch.softmax(logits.float(), dim=1)


def seen(normalise: Normalise, images: Tensor) -> Tensor:
    """Returns raw images as a network sees them.

    They are laid out channel by channel: from those whose channels are innermost, as they come in files, exporters of
    some networks make graphs that gather numbers one by one.
    """
    # Not `contiguous`, to which both layouts are alike where there is one channel.
    return normalise(images).clone(memory_format=torch.contiguous_format)


def load_student(architecture: str, geometry: Geometry, weights: Mapping[str, Any]) -> TappedNetwork:
    """A student with trained weights.

    Raises:
        UserError: A weight is not a finite number, so that every output would be none either.
    """
    student = build(architecture, geometry, seed=0, published=False)
    student.load_state_dict(dict(weights))
    if not all_finite(student):
        raise UserError(
            f"the weights of this {architecture} must be finite numbers, but some are not: its training diverged; "
            "train it again with a lower train.lr"
        )
    return student
