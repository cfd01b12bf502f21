"""Recorded or live teachers, where a space leaves it open: by what the scratch teachers' logits would take."""

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
    """What recording the scratch teachers' logits takes.

    Attributes:
        epochs: Epochs of a trajectory.
        images: Training images.
        classes: How many classes there are.
        storage: Type in which logits are kept.
        teachers: Teachers that trials have, each along one stream; 0 where nobody listens.
        confirmed: Those that the confirmation trains beside, at least and at most.
    """

    epochs: int
    images: int
    classes: int
    storage: str
    teachers: int
    confirmed: tuple[int, int] = (0, 0)

    @property
    def each(self) -> int:
        """Bytes of one teacher's logits along one stream."""
        return BYTES[self.storage] * self.epochs * self.images * self.classes

    @property
    def most(self) -> int:
        """Bytes of all of them, at most."""
        return self.each * (self.teachers + self.confirmed[1])

    def __str__(self) -> str:
        """How many bytes, and how they come about."""
        count = self.teachers + self.confirmed[1]
        factors = (
            f"{self.epochs:,} epochs",
            f"{self.images:,} images",
            f"{self.classes:,} classes",
            f"{BYTES[self.storage]} bytes",
            f"{count} {'trajectory' if count == 1 else 'trajectories'}",
        )
        beside = f", up to {self.confirmed[1]} of them for the confirmation" if self.confirmed[1] else ""
        return f"{size(self.most)} ({' x '.join(factors)}{beside})"


def trajectories(space: Space, images: int, classes: int) -> Trajectories:
    """What recording the teachers of a space takes, its baselines and its confirmation included.

    Args:
        space: The space.
        images: Training images.
        classes: How many classes there are.
    """
    heard = needs_with_baselines(space).scratch
    teachers = len(space.teachers_by_name()) if heard else 0
    confirm = space.strategy.confirm
    seeds = confirm.seeds if confirm and heard else 0
    most = min(space.confirmations(), teachers)
    return Trajectories(space.budget.epochs, images, classes, space.teachers.storage, teachers, (seeds, seeds * most))


def choose_mode(
    teachers: TeachersConfig, needed: Trajectories, before: str | None
) -> tuple[TeachersConfig, str | None]:
    """Resolves ``mode: auto`` by the limit alone, never by what happens to be free.

    Args:
        teachers: How the teachers come about.
        needed: What recording them takes.
        before: What was chosen when the work began that goes on now; None where it begins.

    Returns:
        The same with a mode that is recorded or live, and what to say of it.
    """
    limit = f"teachers.trajectory_limit ({teachers.trajectory_limit})"
    fits = needed.most <= teachers.trajectory_bytes()
    if teachers.mode != "auto":
        beyond = teachers.mode == "recorded" and not fits
        said = f"teachers: recorded, as teachers.mode says, though their logits take {needed}, beyond {limit}"
        return teachers, said if beyond else None
    mode: Literal["recorded", "live"]
    if before is not None:
        mode = "live" if before == "live" else "recorded"
        said = f"teachers: {mode}, as when this began"
    elif fits:
        mode = "recorded"
        said = f"teachers: recorded, once for all trials; their logits take {needed}, within {limit}"
    else:
        mode = "live"
        said = f"teachers: live, in every trial; recorded, their logits would take {needed}, beyond {limit}"
    return dataclasses.replace(teachers, mode=mode), said if needed.most else None


def with_mode(space: Space, images: int, classes: int, before: str | None = None) -> tuple[Space, str | None]:
    """The space with ``mode: auto`` resolved, and what to say of it; see `trajectories` and `choose_mode`."""
    teachers, said = choose_mode(space.teachers, trajectories(space, images, classes), before)
    return dataclasses.replace(space, teachers=teachers), said
