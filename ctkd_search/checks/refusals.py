"""Refusals of what cannot work, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ctkd_search.checks.contract import CONTRACT, ESSENTIALS, Point, contract_faults
from ctkd_search.checks.experts import open_experts
from ctkd_search.checks.networks import Facts, all_facts, graph_fault
from ctkd_search.checks.ranking import horizon_faults
from ctkd_search.checks.single import config_fault, single_image_faults
from ctkd_search.checks.storage import free_bytes, map_faults, room, room_faults, storage_faults, too_large
from ctkd_search.config import TrialConfig
from ctkd_search.distill.methods.base import make_method
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.pairs import Pair, split_pair
from ctkd_search.plugins import is_reference
from ctkd_search.space.definition import Space
from ctkd_search.space.document import Document
from ctkd_search.space.limits import within_limits
from ctkd_search.space.teacher_mode import Trajectories, whole_logits_fault


def refuse(
    space: Space, document: Document, geometry: Geometry, images: int | None, trials_dir: Path
) -> dict[str, Facts]:
    """Refuses a space that cannot work.

    Args:
        space: The space.
        document: The file that it was read from, for the lines.
        geometry: The images.
        images: Number of training images; None if that is not known yet.
        trials_dir: Directory of all searches.

    Returns:
        The facts of each network, by its name.

    Raises:
        UserError: Something cannot work; the message lists every fault with its line.
    """
    names = {name for pair in space.pairs() for name in split_pair(pair)} | space.ensemble_architectures()
    known, faults = all_facts(sorted(names), geometry)
    graphless = _graphless((split_pair(pair).student for pair in space.pairs()), known, geometry)
    for pair in space.pairs():
        for name in dict.fromkeys(split_pair(pair)):
            if name in faults:
                document.fault(("search", "pair"), f"{pair}: {faults[name]}")
                break
        else:
            if fault := _unequal(space, pair, known) or graphless.get(split_pair(pair).student):
                document.fault(("search", "pair"), f"{pair}: {fault}")
    if not faults:
        for place, message in single_image_faults(space, geometry):
            document.fault(place, message)
    if images is not None and not faults:
        needed = room(space, images, geometry.classes, known)
        for place, message in room_faults(space, needed, free_bytes(trials_dir), trials_dir):
            document.fault(place, message)
    for place, message in (*storage_faults(space, geometry.classes), *map_faults(space, known)):
        document.fault(place, message)
    if images is not None:
        for place, message in horizon_faults(space, images):
            document.fault(place, message)
    if not faults and not document.problems:
        for message in _own_methods(space, geometry):
            document.fault(("search", "method"), message)
    configs = [config for name, config in space.teachers_by_name().items() if name in known]
    for name, message in open_experts(configs, geometry)[1]:
        document.fault(_place_of_weights(space, document, name), f"cannot be used: {message}")
    document.raise_problems()
    # Costs that are measured, such as latencies, are known only where the trials run.
    within_limits(space, {name: found.costs for name, found in known.items()}, lambda line: None)
    return known


def _graphless(students: Iterable[str], known: Iterable[str], geometry: Geometry) -> dict[str, str]:
    """Returns why students of the user's own code cannot be exported as a graph, by those that cannot.

    Tracing one takes seconds, and those of libraries can be traced.

    Args:
        students: The students.
        known: Networks that take such images.
        geometry: The images.
    """
    own = (name for name in dict.fromkeys(students) if is_reference(name) and name in known)
    faults = {name: graph_fault(name, geometry) for name in own}
    return {name: fault for name, fault in faults.items() if fault}


def _own_methods(space: Space, geometry: Geometry) -> Iterator[str]:
    """Yields the faults of the user's own methods: the whole contract with one pair, its essentials with others."""
    for name in filter(is_reference, space.methods()):
        points = CONTRACT
        for config in space.pair_configs(name):
            for fault in _broken(config, geometry, points):
                yield f"{name} cannot be used with {Pair(config.teacher, config.student)}: {fault}"
                return
            points = ESSENTIALS


def _broken(config: TrialConfig, geometry: Geometry, points: Mapping[str, Point]) -> list[str]:
    return [fault for _, faults in contract_faults(config, geometry, points) for fault in faults]


def _place_of_weights(space: Space, document: Document, teacher: str) -> tuple[str, ...]:
    """Returns the key of a teacher's own weights in a file: the ensemble, or that teacher's checkpoint."""
    if space.teachers.expert.ensemble is not None:
        return ("teachers", "expert", "ensemble")
    place = ("teachers", "expert", "checkpoint")
    given = document.data
    for key in place:
        given = given.get(key) if isinstance(given, dict) else None
    return (*place, teacher) if isinstance(given, dict) else place


def refuse_config(config: TrialConfig, streams: int, geometry: Geometry, images: int, trials_dir: Path) -> None:
    """Refuses a final training that cannot work.

    Args:
        config: The config that is trained.
        streams: Number of streams, each with teachers of its own.
        geometry: The images.
        images: Number of training images.
        trials_dir: Directory of all searches.

    Raises:
        UserError: A network does not take such images, or cannot learn from one at a time; the student cannot be
            exported as a graph; the user's own method is faulty; or the disk has no room for the teachers' logits.
    """
    known, faults = all_facts((config.teacher, config.student), geometry)
    for fault in (*faults.values(), *_graphless([config.student], known, geometry).values()):
        raise UserError(f"pair: {fault}")
    if single := config_fault(config, geometry):
        raise UserError(single)
    for _, fault in open_experts([config], geometry)[1]:
        key = "checkpoint" if config.teachers.expert.ensemble is None else "ensemble"
        raise UserError(f"teachers.expert.{key} cannot be used: {fault}")
    if is_reference(config.method.name):
        for fault in _broken(config, geometry, ESSENTIALS):
            raise UserError(f"method {config.method.name} cannot be used: {fault}")
    method = make_method(config.method)
    needs, storage = method.needs, config.teachers.storage
    if whole := whole_logits_fault(storage, [method]):
        raise UserError(f"teachers.storage {whole}")
    if config.teachers.mode == "live" or not needs.any_scratch:
        return
    needed = Trajectories(config.epochs, images, geometry.classes, storage, streams, average=needs.average).most
    if needed > (free := free_bytes(trials_dir)):
        raise UserError(f"teachers.mode {too_large(needed, free, trials_dir)}")


def _unequal(space: Space, pair: str, known: Mapping[str, Facts]) -> str | None:
    """Returns the reason why a pair's maps cannot be compared: they differ in size and the expert's is no square."""
    teacher, student = (known[name] for name in split_pair(pair))
    for layer in sorted(space.needs(pair).attention):
        if layer > min(len(teacher.maps), len(student.maps)):
            continue  # those are the layers of another pair
        (_, height, width), (_, *ours) = teacher.maps[layer - 1], student.maps[layer - 1]
        if [height, width] != ours and height != width:
            return (
                f"the maps of layer {layer} cannot be compared; {teacher.name} has it at {height}x{width} and "
                f"{student.name} at {ours[0]}x{ours[1]}"
            )
    return None
