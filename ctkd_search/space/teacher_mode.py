"""The choice of recorded or live teachers by the disk space of the scratch teachers' logits."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from ctkd_search.config import TeachersConfig
from ctkd_search.space.comparisons import needs_with_baselines
from ctkd_search.space.definition import Space
from ctkd_search.text import size

BYTES = {"float16": 2, "float32": 4}


@dataclass(frozen=True)
class Trajectories:
    """The disk space of recording the scratch teachers' logits.

    Attributes:
        epochs: Epochs of a trajectory: the logits of one teacher along one stream.
        images: Training images.
        classes: Number of classes.
        storage: Type in which logits are stored.
        teachers: Teachers of the trials, one for each architecture and augmentation; 0 if no trial uses them.
        confirmed: Least and greatest number of further ones for the confirmation.
        average: Whether the logits of the teachers' running averages are recorded beside their own.
    """

    epochs: int
    images: int
    classes: int
    storage: str
    teachers: int
    confirmed: tuple[int, int] = (0, 0)
    average: bool = False

    @property
    def each(self) -> int:
        """Returns the bytes of one teacher's logits along one stream."""
        return BYTES[self.storage] * self.epochs * self.images * self.classes * (1 + self.average)

    @property
    def most(self) -> int:
        """Returns the most bytes of all of them."""
        return self.each * (self.teachers + self.confirmed[1])

    def __str__(self) -> str:
        """Returns the bytes and their factors."""
        count = self.teachers + self.confirmed[1]
        factors = (
            f"{self.epochs:,} epochs",
            f"{self.images:,} images",
            f"{self.classes:,} classes",
            f"{BYTES[self.storage]} bytes",
            *(["2 for the running average"] if self.average else []),
            f"{count} {'trajectory' if count == 1 else 'trajectories'}",
        )
        confirmed = f", up to {self.confirmed[1]} of them for the confirmation" if self.confirmed[1] else ""
        return f"{size(self.most)} ({' x '.join(factors)}{confirmed})"


def trajectories(space: Space, images: int, classes: int) -> Trajectories:
    """Returns the disk space of recording the teachers of a space, with its baselines and its confirmation.

    Args:
        space: The space.
        images: Training images.
        classes: Number of classes.
    """
    needs = needs_with_baselines(space)
    used = needs.any_scratch
    teachers = len(space.trained_teachers()) if used else 0
    confirm = space.strategy.confirm
    seeds = confirm.seeds if confirm and used else 0
    most = confirmed_teachers(space) if used else 0
    confirmed, storage = (seeds, seeds * most), space.teachers.storage
    return Trajectories(space.budget.epochs, images, classes, storage, teachers, confirmed, needs.average)


def confirmed_teachers(space: Space) -> int:
    """Returns the largest number of teachers that the confirmation of a space trains for each of its seeds.

    Of a searched augmentation, the baselines have the first alternative, whatever those of the best trials are.
    """
    of_each = 2 if space.augments and space.strategy.baselines else 1
    return min(of_each * space.confirmations(), len(space.trained_teachers()))


def choose_mode(
    teachers: TeachersConfig, needed: Trajectories, before: str | None
) -> tuple[TeachersConfig, str | None]:
    """Resolves ``mode: auto`` by the limit alone, not by the free disk space.

    Args:
        teachers: Settings of the teachers.
        needed: Disk space of recording them.
        before: Mode chosen when a resumed search began; None if it begins now.

    Returns:
        The settings with a mode that is recorded or live, and a message for the user.
    """
    limit = f"teachers.trajectory_limit ({teachers.trajectory_limit})"
    fits = needed.most <= teachers.trajectory_bytes()
    if teachers.mode != "auto":
        beyond = teachers.mode == "recorded" and not fits
        message = f"teachers: recorded, as teachers.mode is set, though their logits take {needed}, beyond {limit}"
        return teachers, message if beyond else None
    mode: Literal["recorded", "live"]
    if before is not None:
        mode = "live" if before == "live" else "recorded"
        message = f"teachers: {mode}, as when this began"
    elif fits:
        mode = "recorded"
        message = f"teachers: recorded, once for all trials; their logits take {needed}, within {limit}"
    else:
        mode = "live"
        message = f"teachers: live, in every trial; recorded, their logits would take {needed}, beyond {limit}"
    return dataclasses.replace(teachers, mode=mode), message if needed.most else None


def with_mode(space: Space, images: int, classes: int, before: str | None = None) -> tuple[Space, str | None]:
    """Returns the space with ``mode: auto`` resolved, and a message for the user; see `choose_mode`."""
    teachers, message = choose_mode(space.teachers, trajectories(space, images, classes), before)
    return dataclasses.replace(space, teachers=teachers), message
