"""The choice of recorded or live teachers by the disk space of the scratch teachers' logits."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ctkd_search.config import TeachersConfig
from ctkd_search.distill.methods.base import Method
from ctkd_search.space.comparisons import logit_methods, needs_with_baselines
from ctkd_search.space.definition import Space
from ctkd_search.storage import MOST_CLASSES, Storage, TopLogits, logit_bytes, number_bytes
from ctkd_search.text import join_words, size

# Numbers of logits that are proposed where all of them would take too much, the most first.
_TOPS = (128, 64, 32, 16)


@dataclass(frozen=True)
class Trajectories:
    """The disk space of recording the scratch teachers' logits.

    Attributes:
        epochs: Epochs of a trajectory: the logits of one teacher along one stream.
        images: Training images.
        classes: Number of classes.
        storage: Storage of the logits.
        teachers: Teachers of the trials, one for each architecture and augmentation; 0 if no trial uses them.
        confirmed: Least and greatest number of further ones for the confirmation.
        average: Whether the logits of the teachers' running averages are recorded beside their own.
    """

    epochs: int
    images: int
    classes: int
    storage: Storage
    teachers: int
    confirmed: tuple[int, int] = (0, 0)
    average: bool = False

    @property
    def each(self) -> int:
        """Returns the bytes of one teacher's logits along one stream."""
        return logit_bytes(self.storage, self.classes) * self.epochs * self.images * (1 + self.average)

    @property
    def most(self) -> int:
        """Returns the most bytes of all of them."""
        return self.each * (self.teachers + self.confirmed[1])

    def __str__(self) -> str:
        """Returns the bytes and their factors."""
        count = self.teachers + self.confirmed[1]
        if isinstance(self.storage, TopLogits):
            logits = [f"{logit_bytes(self.storage, self.classes)} bytes for {self.storage.top} logits"]
        else:
            logits = [f"{self.classes:,} classes", f"{number_bytes(self.storage)} bytes"]
        factors = (
            f"{self.epochs:,} epochs",
            f"{self.images:,} images",
            *logits,
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
    teachers: TeachersConfig, needed: Trajectories, before: str | None, may_drop: bool = False
) -> tuple[TeachersConfig, str | None]:
    """Resolves ``mode: auto`` by the limit alone, not by the free disk space.

    Args:
        teachers: Settings of the teachers.
        needed: Disk space of recording them.
        before: Mode chosen when a resumed search began; None if it begins now.
        may_drop: Whether the message names a storage of the largest logits alone that fits, where all do not.

    Returns:
        The settings with a mode that is recorded or live, and a message for the user.
    """
    limit = f"teachers.trajectory_limit ({teachers.trajectory_limit})"
    fits = needed.most <= teachers.trajectory_bytes()
    if teachers.mode != "auto":
        beyond = teachers.mode == "recorded" and not fits
        message = f"teachers: recorded, as teachers.mode is set, though their logits take {needed}, beyond {limit}"
        return teachers, message if beyond else None
    if before is not None:
        found = dataclasses.replace(teachers, mode="live" if before == "live" else "recorded")
        message = f"teachers: {found.mode}, as when this began"
    elif fits:
        found = dataclasses.replace(teachers, mode="recorded")
        message = f"teachers: recorded, once for all trials; their logits take {needed}, within {limit}"
    else:
        found = dataclasses.replace(teachers, mode="live")
        message = f"teachers: live, in every trial; recorded, their logits would take {needed}, beyond {limit}"
        # Not chosen without being asked for: how the other classes compare with each other is lost.
        if may_drop and (fewer := _largest_that_fit(needed, teachers.trajectory_bytes())):
            message += (
                f"; with teachers.storage: {{top: {fewer.top}}} the largest logits alone would take {size(fewer.most)}"
            )
    return found, message if needed.most else None


class _Fewer(NamedTuple):
    """A number of largest logits, and the most bytes of recording them."""

    top: int
    most: int


def _largest_that_fit(needed: Trajectories, limit: int) -> _Fewer | None:
    """Returns the most of the largest logits that fit; None if that saves nothing, or too few do."""
    tops = (top for top in _TOPS if not top_fault(top, needed.classes))
    every = (_Fewer(top, dataclasses.replace(needed, storage=TopLogits(top)).most) for top in tops)
    return next((fewer for fewer in every if fewer.most <= limit), None)


def top_fault(top: int, classes: int) -> str | None:
    """Returns why so many largest logits cannot be recorded of so many classes, or None."""
    kept, every = logit_bytes(TopLogits(top), classes), logit_bytes("float16", classes)
    if kept >= every:
        return f"keeps {top} logits in {kept} bytes, and all {classes:,} take {every} as float16; use float16"
    if classes > MOST_CLASSES:
        return f"is for at most {MOST_CLASSES:,} classes, but there are {classes:,}"
    return None


def with_mode(space: Space, images: int, classes: int, before: str | None = None) -> tuple[Space, str | None]:
    """Returns the space with ``mode: auto`` resolved, and a message for the user; see `choose_mode`."""
    dropped = isinstance(space.teachers.storage, TopLogits)
    may_drop = not dropped and all(method.softens_logits for method in logit_methods(space))
    teachers, message = choose_mode(space.teachers, trajectories(space, images, classes), before, may_drop)
    return dataclasses.replace(space, teachers=teachers), message


def whole_logits_fault(storage: Storage, methods: Iterable[Method]) -> str | None:
    """Returns why methods cannot use what a storage keeps of the logits, or None."""
    if not isinstance(storage, TopLogits):
        return None
    whole = dict.fromkeys(method.name for method in methods if method.needs.any_logits and not method.softens_logits)
    if not whole:
        return None
    return (
        f"keeps the {storage.top} largest logits, but {join_words(list(whole))} would need all of them: from the "
        "largest, softened predictions can be computed, but no squared distances or standardised logits; use float16"
    )
