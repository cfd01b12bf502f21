"""The setting of a method: the pair's maps, the classes and the epochs, on which effects depend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ctkd_search.models.architecture import Architecture, MapShape


@dataclass(frozen=True)
class Setting:
    """The networks, images and epochs that a method is used with.

    Attributes:
        teacher: The pair's teacher.
        student: The pair's student.
        teacher_maps: The teacher's feature maps for the images, first layer first.
        student_maps: The student's.
        classes: Number of classes.
        epochs: Epochs of a trial.
    """

    teacher: Architecture
    student: Architecture
    teacher_maps: tuple[MapShape, ...]
    student_maps: tuple[MapShape, ...]
    classes: int
    epochs: int

    def compared_sides(self) -> dict[int, int]:
        """Returns the side of the map at which each layer of both networks is compared: the smaller one's."""
        both = zip(self.teacher_maps, self.student_maps, strict=False)
        return {layer: min(theirs.side, ours.side) for layer, (theirs, ours) in enumerate(both, start=1)}
