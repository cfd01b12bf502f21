"""Reading of the section ``search``: the entries of parameters, their conditions, and whether they have an effect."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ctkd_search import models
from ctkd_search.config import Augment
from ctkd_search.distill.methods.base import Method, Parameter
from ctkd_search.distill.methods.parameter import allows
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.pairs import split_pair
from ctkd_search.recipe import Recipe
from ctkd_search.space.alternatives import entry_of_names
from ctkd_search.space.defaults import default_of
from ctkd_search.space.distributions import Constant, Entry, parse, show
from ctkd_search.space.document import Document
from ctkd_search.space.parameters import AUGMENT, METHOD, PAIR, ordered, parameters, possible_methods, possible_values
from ctkd_search.space.search_section import chosen_among, flattened, place_of, settled_conditions

_WEIGHTS = "class_weights"


class SearchReader:
    """Reads the section ``search`` of a document, noting every problem on the way.

    Args:
        document: The space.
        geometry: The images; None where they are not known.
        ask_images: Whether pairs and defaults may be judged by the images.

    Attributes:
        faulty: Parameters whose entry cannot be read; what depends on them is not judged.
    """

    def __init__(self, document: Document, geometry: Geometry | None, ask_images: bool) -> None:
        self.document = document
        self.geometry = geometry
        self.ask_images = ask_images
        self.fault = document.fault
        self.faulty: set[str] = set()

    def entries(self, train: Recipe, augments: Mapping[str, Augment]) -> dict[str, Entry]:
        """Returns the entries of the parameters, as far as they can be read.

        Args:
            train: The student's recipe, whose values are the defaults of what may be searched.
            augments: The alternatives of the augmentation by name; none if it is not searched, or is faulty.
        """
        raw = self.document.data.get("search")
        if not isinstance(raw, dict) or not raw:
            there = ", ".join((*parameters(train), AUGMENT))
            self.fault(("search",), f"must name the searched parameters; there are: {there}")
            return {}
        chosen = chosen_among(raw)
        known = parameters(train, chosen, tuple(augments))
        if _WEIGHTS in raw and (weighted := _with_an_effect(known[_WEIGHTS], augments)):
            known[_WEIGHTS] = weighted
        given = flattened(raw, chosen, known, self.document)
        if augments:
            given[AUGMENT] = entry_of_names(raw[AUGMENT], augments)
        elif AUGMENT in raw:
            self.faulty.add(AUGMENT)
        entries: dict[str, Entry] = {}
        complete = not self.faulty
        for name, parameter in known.items():
            if name not in given:
                continue
            fault = functools.partial(self._search_fault, name)
            entry = parse(parameter, given[name], fault)
            entry = entry and settled_conditions(name, entry, chosen, known, fault)
            if entry is None:
                complete = False
                self.faulty.add(name)
            else:
                entries[name] = entry
        if complete and all(isinstance(entry, Constant) for entry in entries.values()):
            self.fault(
                ("search",), "has constants only, so there is nothing to search; give a parameter several values"
            )
        self._check_conditions(entries, known)
        if complete:
            self._check_effects(entries, known)
        self._check_pairs(entries, () if METHOD.name in self.faulty else chosen)
        return entries

    def _search_fault(self, name: str, place: tuple[str | int, ...], message: str) -> None:
        self.fault((*place_of(name), *place), message)

    def _check_conditions(self, entries: Mapping[str, Entry], known: Mapping[str, Parameter]) -> None:
        for name, entry in entries.items():
            for other, wanted in getattr(entry, "when", {}).items():
                place = (*place_of(name), "when", other)
                if other in self.faulty:
                    continue
                if other not in known:
                    self.fault(place, f"is not a parameter; there are: {', '.join(known)}")
                    continue
                listed = self._possible(other, entries, known)
                if not listed:
                    self.fault(place, "is a range; a condition must name a choice, subsets or a constant")
                for value in wanted:
                    if listed and not allows(listed, value):
                        self.fault(place, f"is never {show(value)!r}; it may be {', '.join(map(show, listed))}")
        if ordered(entries, known) is None:
            circle = [name for name, entry in entries.items() if getattr(entry, "when", None)]
            self.fault(
                (*place_of(circle[0]), "when"),
                f"is circular with the conditions of {', '.join(circle[1:] or circle)}",
            )

    def _possible(self, name: str, entries: Mapping[str, Entry], known: Mapping[str, Parameter]) -> tuple[Any, ...]:
        """Returns the possible values of a parameter; without an entry, its default for each of the pairs."""
        pairs = possible_values(entries.get(PAIR.name), PAIR) if self.ask_images else ()
        try:
            defaults = tuple(dict.fromkeys(default_of(known[name], pair, self.geometry) for pair in pairs))
        except UserError:
            defaults = ()  # a pair that cannot be is refused as such
        return possible_values(entries.get(name), known[name], defaults or None)

    def _check_effects(self, entries: Mapping[str, Entry], known: Mapping[str, Parameter]) -> None:
        """Refuses entries that would be searched without any effect on the trial."""
        for name, entry in entries.items():
            for other, allowed in known[name].only_with.items():
                possible = self._possible(other, entries, known)
                dead = [value for value in possible if not allows(allowed, value)]
                alive = [value for value in possible if value not in dead]
                conditions = getattr(entry, "when", {}).get(other, ())
                if not dead or (conditions and not any(allows((value,), c) for value in dead for c in conditions)):
                    continue
                if isinstance(entry, Constant) and (alive or not possible):
                    continue
                message = f"has no effect where {other} is {', '.join(map(show, dead))}; "
                message += f"add when: {{{other}: [{', '.join(map(show, alive))}]}}" if alive else "leave it out"
                self.fault(place_of(name), message)

    def _check_pairs(self, entries: Mapping[str, Entry], chosen: Sequence[str]) -> None:
        """Refuses unknown architectures, and pairs that a method cannot teach; stored spaces are not checked again."""
        if not self.ask_images:
            return
        for pair in _pairs(self.document.data, entries):
            taught = (made for name in chosen for made in possible_methods(name, entries, pair, self.geometry))
            if fault := pair_fault(pair, taught, self.geometry):
                self.fault(("search", "pair"), fault)


def _with_an_effect(weights: Parameter, augments: Mapping[str, Augment]) -> Parameter | None:
    """Returns the parameter of class weights where some alternatives of the augmentation leave it no effect."""
    unequal = tuple(name for name, augment in augments.items() if augment.sampling is None)
    return dataclasses.replace(weights, only_with={AUGMENT: unequal}) if 0 < len(unequal) < len(augments) else None


def _pairs(raw: Any, entries: Mapping[str, Entry]) -> list[str]:
    """Returns the pairs of a space; of a faulty choice, its valid ones."""
    given = raw.get("search", {}).get("pair")
    if given is None or "pair" in entries:
        return list(dict.fromkeys(possible_values(entries.get("pair"), PAIR)))
    options = given.get("choice") if isinstance(given, dict) else None
    return [option for option in options if not PAIR.fault(option)] if isinstance(options, list) else []


def pair_fault(pair: str, taught: Iterable[Method], geometry: Geometry | None = None) -> str | None:
    """Returns why a pair cannot be taught by one of these methods, or None.

    Args:
        pair: The pair.
        taught: The methods.
        geometry: The images it is for, if they are known.
    """
    try:
        teacher, student = (models.describe(name, geometry) for name in split_pair(pair))
    except UserError as error:
        return f"{pair}: {error}"
    faults = (method.fault(teacher, student) for method in taught)
    fault = next((fault for fault in faults if fault), None)
    return f"{pair}: {fault}" if fault else None
