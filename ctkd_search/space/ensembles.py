"""Experts that cannot teach a method: ensembles where one network is used, and files where several weights are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from ctkd_search.config import TeachersConfig, is_weights_file
from ctkd_search.distill.requests import COMPUTED, Needs
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.models.registry import describe, maps
from ctkd_search.pairs import split_pair
from ctkd_search.paths import expanded
from ctkd_search.space.distributions import Entry
from ctkd_search.space.document import Document
from ctkd_search.space.parameters import PAIR, chosen_methods, possible_methods, possible_values

_ENSEMBLE = ("teachers", "expert", "ensemble")


def expert_fault(teachers: TeachersConfig, teacher: str, needs: Needs, geometry: Geometry | None) -> str | None:
    """Returns why the expert cannot give a method what it needs, or None.

    Args:
        teachers: The teachers.
        teacher: The pair's teacher.
        needs: The needs of the method.
        geometry: The images, if they are known.
    """
    members = teachers.expert.members(teacher)
    if needs.anchors and any(member.checkpoint for member in members):
        return "it needs the expert's weights at several epochs of its training, and your checkpoint contains one set"
    if len(members) == 1:
        return None
    if needs.network or any(output.kind in COMPUTED for output in needs.expert):
        return f"it computes with the network of one expert, and an ensemble has {len(members)}"
    if geometry is None:
        return None
    others = dict.fromkeys(member.architecture for member in members if member.architecture != teacher)
    for kind, layer in needs.expert:
        for name in others if kind == "embedding" else ():
            own, other = (describe(each, geometry).embedding for each in (teacher, name))
            if own != other:
                return (
                    f"it needs the embedding, and the ensemble's are not all alike: of width {own} in {teacher}, "
                    f"{other or 'none'} in {name}"
                )
        for name in others if layer else ():
            ours, theirs = (maps(each, geometry)[layer - 1 : layer] for each in (teacher, name))
            if not theirs or ours[0].side != theirs[0].side or (kind != "attention" and ours != theirs):
                shown = f"{theirs[0].channels}x{theirs[0].side}x{theirs[0].side}" if theirs else "none"
                return (
                    f"it needs the {kind} of layer {layer}, and the ensemble's maps there are not all alike: "
                    f"{ours[0].channels}x{ours[0].side}x{ours[0].side} in {teacher}, {shown} in {name}"
                )
    return None


def note_expert_faults(
    document: Document, teachers: TeachersConfig, entries: Mapping[str, Entry], geometry: Geometry | None
) -> None:
    """Notes the faults of an ensemble, and of experts that cannot teach a method that is searched.

    Args:
        document: The file.
        teachers: The teachers.
        entries: The entries of the parameters, without faults.
        geometry: The images, if they are known.
    """
    pairs = possible_values(entries.get(PAIR.name), PAIR)
    found = list(_member_faults(teachers, len({split_pair(pair).teacher for pair in pairs}), geometry))
    for number, message in found:
        document.fault((*_ENSEMBLE, number), message)
    if found:
        return
    place = _ENSEMBLE if teachers.expert.ensemble is not None else ("teachers", "expert", "checkpoint")
    for pair in pairs:
        for name in chosen_methods(entries):
            for made in possible_methods(name, entries, pair, geometry):
                if fault := expert_fault(teachers, split_pair(pair).teacher, made.needs, geometry):
                    document.fault(place, f"cannot be used with method {name} for {pair}: {fault}")
                    return


def _member_faults(teachers: TeachersConfig, count: int, geometry: Geometry | None) -> Iterator[tuple[int, str]]:
    """Yields the faults of the members of an ensemble that is a list, each with its position."""
    given: Any = teachers.expert.ensemble
    for number, name in enumerate(given if isinstance(given, tuple) else ()):
        if not is_weights_file(name):
            try:
                describe(name, geometry)
            except UserError as error:
                yield number, str(error)
        elif count > 1:
            yield number, f"is a file of weights for one teacher, and the pairs have {count}"
        elif not os.path.isfile(expanded(name)):
            yield number, f"there is no file {expanded(name)}"
