"""The size of a search's recordings, compared with the free space on the disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ctkd_search.cache_index import CacheIndex
from ctkd_search.checks.networks import Facts
from ctkd_search.config import TeachersConfig
from ctkd_search.distill.asked import Passes, augmented_teacher, bytes_of, passes_of_teachers
from ctkd_search.distill.requests import ATTENTION
from ctkd_search.files import free_on_disk
from ctkd_search.records.store import TEACHERS
from ctkd_search.space.comparisons import each_needs_with_baselines, logit_methods
from ctkd_search.space.definition import Space
from ctkd_search.space.teacher_mode import confirmed_teachers, top_fault, trajectories, whole_logits_fault
from ctkd_search.storage import MapForm, TopLogits
from ctkd_search.text import size

# Sides of attention maps that are proposed, largest first.
_SIDES = (28, 16, 14, 8, 7, 4)


@dataclass(frozen=True)
class Room:
    """The sizes of recordings in bytes; 0 where nothing is recorded.

    Attributes:
        trajectory: The logits of one teacher along one stream.
        trajectories: The logits of every teacher of the trials.
        confirmed: The logits of the teachers that the confirmation trains in addition, at least and at most.
        maps_epoch: The outputs of the largest expert in one epoch of a stream (attention maps, statistics, logits:
            everything that any trial requests, each once).
        maps: The outputs of every expert in all epochs, along every stream, at most.
    """

    trajectory: int = 0
    trajectories: int = 0
    confirmed: tuple[int, int] = (0, 0)
    maps_epoch: int = 0
    maps: int = 0


def too_large(needed: int, free: int, place: Path) -> str:
    """Returns the message for logits that do not fit on the disk."""
    return (
        f"the teachers' logits take {size(needed)} and {place} has room for {size(free)}; choose mode: live, fewer "
        "epochs or another --trials-dir"
    )


def room(space: Space, images: int, classes: int, known: Mapping[str, Facts]) -> Room:
    """Returns the sizes of what the trials, baselines and confirmations of a space record.

    Args:
        space: The space.
        images: Training images.
        classes: Number of classes.
        known: The facts of its teachers.
    """
    if space.teachers.mode == "live":
        return Room()
    logits = trajectories(space, images, classes)
    confirm = space.strategy.confirm
    passes = passes_of_teachers(each_needs_with_baselines(space))
    seeds = confirm.seeds if confirm else 0
    most = confirmed_teachers(space)
    recorded = {
        key: [
            (each.epochs, images * _bytes(each, known[key.teacher], classes, space.teachers))
            for each in passes.get(key, [])
        ]
        for key in map(augmented_teacher, space.trained_teachers())
    }
    largest = sorted((sum(count * each for count, each in found) for found in recorded.values()), reverse=True)
    return Room(
        trajectory=logits.each if logits.teachers else 0,
        trajectories=logits.each * logits.teachers,
        confirmed=(logits.each * logits.confirmed[0], logits.each * logits.confirmed[1]),
        maps_epoch=max(sum(each for _, each in found) for found in recorded.values()),
        maps=sum(largest) + seeds * sum(largest[:most]),
    )


def storage_faults(space: Space, classes: int) -> list[tuple[tuple[str, ...], str]]:
    """Returns the faults of recording only the largest logits, as keys and messages.

    Args:
        space: The space.
        classes: Number of classes.
    """
    storage = space.teachers.storage
    if space.teachers.mode == "live" or not isinstance(storage, TopLogits):
        return []
    fault = top_fault(storage.top, classes) or whole_logits_fault(storage, logit_methods(space))
    return [(("teachers", "storage"), fault)] if fault else []


def map_faults(space: Space, known: Mapping[str, Facts]) -> list[tuple[tuple[str, ...], str]]:
    """Returns the settings of recorded attention maps that would change or teach nothing, as keys and messages.

    Args:
        space: The space.
        known: The facts of its networks.
    """
    form, place = space.teachers.map_form, ("teachers",)
    if space.teachers.mode == "live" or form == MapForm():
        return []
    sides = [side for _, *sides in _recorded_maps(space, known) for side in sides]
    if not sides:
        keys = [key for key in ("map_size", "map_storage") if getattr(space.teachers, key) is not None]
        return [
            ((*place, key), "has no effect, because no trial compares attention maps; leave it out") for key in keys
        ]
    if form.size == 1:
        message = "must be at least 2, but got 1: a map of one position, normalised, has nothing to compare"
        return [((*place, "map_size"), message)]
    if form.size is not None and form.size >= max(sides):
        message = f"has no effect, because no recorded attention map has a side of more than {max(sides)}; leave it out"
        return [((*place, "map_size"), message)]
    return []


def _recorded_maps(space: Space, known: Mapping[str, Facts]) -> list[tuple[int, int, int]]:
    """Returns channels, height and width of every feature map whose attention is recorded."""
    passes = passes_of_teachers(each_needs_with_baselines(space))
    teachers = {
        key.teacher
        for key, each in passes.items()
        if any(output.kind == ATTENTION for one in each for output in one.outputs)
    }
    return [shape for name in sorted(teachers) if name in known for shape in known[name].maps]


def smaller_maps(space: Space, images: int, classes: int, known: Mapping[str, Facts]) -> str | None:
    """Returns advice about experts' outputs that do not fit into the cache, but would with smaller attention maps.

    Args:
        space: The space.
        images: Training images.
        classes: Number of classes.
        known: The facts of its teachers.
    """
    teachers = space.teachers
    if teachers.map_form != MapForm() or not _recorded_maps(space, known):
        return None
    for side in (None, *_SIDES):
        tried = dataclasses.replace(teachers, map_size=side, map_storage="uint8")
        needed = room(dataclasses.replace(space, teachers=tried), images, classes, known).maps
        if needed <= teachers.cache_bytes():
            reduced = "" if side is None else f" and teachers.map_size: {side}"
            return f"with teachers.map_storage: uint8{reduced} they would take {size(needed)}"
    return None


def _bytes(passes: Passes, teacher: Facts, classes: int, teachers: TeachersConfig) -> int:
    """Returns how many bytes a pass of a teacher records of one image."""
    channels_and_positions = [(channels, height * width) for channels, height, width in teacher.maps]
    return bytes_of(passes, channels_and_positions, classes, teacher.embedding, teachers.storage, teachers.map_form)


def recorded_bytes(trials_dir: Path) -> int:
    """Returns the present size of the recordings in the teacher cache."""
    index = CacheIndex(trials_dir / TEACHERS)
    return sum(entry.bytes for entry in index.all() if entry.about.get("kind") != "pictures")


def free_bytes(trials_dir: Path) -> int:
    """Returns the free space on the disk of the teacher cache, the present size of its recordings included."""
    return free_on_disk(trials_dir) + recorded_bytes(trials_dir)


def room_faults(space: Space, needed: Room, free: int, place: Path) -> list[tuple[tuple[str, ...], str]]:
    """Returns the faults of recordings that do not fit on the disk, as keys and messages.

    Recordings of earlier searches are counted as free space, because they may be used again.
    """
    least = needed.trajectories + needed.confirmed[0]
    if least > free:
        return [(("teachers", "mode"), too_large(least, free, place))]
    maps = min(needed.maps, space.teachers.cache_bytes())
    if least + maps > free:
        return [
            (
                ("teachers", "cache_limit"),
                f"lets the experts' recordings take {size(maps)} beside {size(least)} of logits, and {place} has "
                f"room for {size(free)}; lower it, or choose another --trials-dir",
            )
        ]
    return []
