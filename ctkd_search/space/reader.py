"""Reading a space: everything that can be wrong with the file is found before anything is done with it."""

from __future__ import annotations

import dataclasses
import functools
import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ctkd_search import data, models
from ctkd_search.config import Augment, DatasetConfig, Recipe, Seed, TeachersConfig
from ctkd_search.distill.methods.base import Method, Needs, Parameter, make_method
from ctkd_search.distill.methods.parameter import allows
from ctkd_search.errors import UserError
from ctkd_search.names import name_fault
from ctkd_search.pairs import split_pair
from ctkd_search.paths import expanded
from ctkd_search.plugins import is_reference
from ctkd_search.space.baselines import anchors_fault, baseline_config
from ctkd_search.space.conflicts import note_conflicts
from ctkd_search.space.defaults import default_of
from ctkd_search.space.definition import Budget, Resources, Space, Tracking
from ctkd_search.space.distributions import Constant, Entry, Number, parse, show
from ctkd_search.space.document import Document, dump, read, refuse_record
from ctkd_search.space.effects import baseline_fault, trial_faults
from ctkd_search.space.parameters import (
    METHOD,
    PAIR,
    chosen_methods,
    ordered,
    parameters,
    possible_methods,
    possible_values,
)
from ctkd_search.space.search_section import chosen_among, flattened, place_of, settled_conditions
from ctkd_search.space.strategy import read_strategy
from ctkd_search.tracking.store import uri_fault

SECTIONS = (
    "name",
    "seed",
    "dataset",
    "augment",
    "budget",
    "sampler",
    "scheduler",
    "baselines",
    "confirm",
    "objectives",
    "metrics",
    "limits",
    "teachers",
    "train",
    "search",
    "resources",
    "tracking",
)


def read_space(path: Path, overrides: Sequence[str] = ()) -> Space:
    """Reads and validates a space.

    Args:
        path: The YAML file.
        overrides: ``KEY=VALUE`` words, as in ``train.batch_size=64``.

    Raises:
        UserError: All that is wrong with the file, each with its line and what is allowed.
    """
    return read_with_lines(path, overrides)[0]


def read_with_lines(path: Path, overrides: Sequence[str] = ()) -> tuple[Space, Document]:
    """The same, with the file itself, so that what turns out later can be said with its line."""
    document = read(path, overrides)
    if "search" not in document.data and not {"pair", "method"}.isdisjoint(document.data):
        raise UserError(f"{path} is the config of one training, not a space; train it with: ctkd-search train {path}")
    refuse_record(path, document)
    return _Reader(document).space(), document


def space_of(raw: Mapping[str, Any]) -> Space:
    """A space from its content, as a search has kept it."""
    return _Reader(_kept(raw)).space()


def kept_space(raw: Mapping[str, Any], mode: str | None) -> Space:
    """The same, to look at what came of it: whether its images are still there is not asked.

    Args:
        raw: The content.
        mode: Whether its teachers were recorded or live, as its record says; what earlier versions did not note was
            recorded.
    """
    space = _Reader(_kept(raw), ask_images=False).space()
    if space.teachers.mode != "auto":
        return space
    teachers = dataclasses.replace(space.teachers, mode=mode or "recorded")  # type: ignore[arg-type]
    return dataclasses.replace(space, teachers=teachers)


def _kept(raw: Mapping[str, Any]) -> Document:
    return Document("the space kept with the search", dump(dict(raw)))


def read_resources(overrides: Sequence[str]) -> tuple[Resources, Tracking]:
    """What a command may use of the machine, and where MLflow is, from its own options.

    Args:
        overrides: ``KEY=VALUE`` words, as in ``resources.concurrent_trials=2``.

    Raises:
        UserError: All that is wrong with them.
    """
    document = Document("the command line", "", overrides)
    resources = document.section("resources", Resources, Resources())
    tracking = _tracking(document)
    note_conflicts(document)
    document.raise_problems()
    return resources, tracking


def _tracking(document: Document) -> Tracking:
    tracking = document.section("tracking", Tracking, Tracking())
    if tracking.uri is not None and (fault := uri_fault(tracking.uri)):
        document.fault(("tracking", "uri"), fault)
    return tracking


def read_augment(document: Document, dataset: DatasetConfig | None, ask_images: bool = True) -> Augment:
    """The section ``augment``, where what is not given is the data set's own; None: a data set that cannot be read.

    Args:
        document: The file.
        dataset: The data set.
        ask_images: Whether the images may be asked how large they are.
    """
    raw = document.data.get("augment")
    if dataset is None or (not ask_images and is_reference(dataset.name)):
        return document.section("augment", Augment, Augment())
    described = data.find(dataset)
    own = described.augment
    if raw is None:
        raw = {}
    merged = _merged(own, raw) if isinstance(raw, dict) else raw
    augment: Augment = document.validated(("augment",), merged, Augment, own)
    if not ask_images:
        return augment
    size = data.geometry(dataset).image_size
    if augment.crop >= size:
        document.fault(("augment", "crop"), f"must be less than the image size {size}, but got {augment.crop}")
    if augment.resized_crop:
        place = ("augment", "resized_crop")
        if augment.crop:
            document.fault(place, "takes the place of crop; leave one of the two out")
        if "loading" not in described.options:
            document.fault(place, f"has no meaning for the data set {dataset.name!r}, whose images are no files")
        elif dataset.loading == "resident":
            document.fault(place, "cuts parts out of the original pictures, which must be streamed; leave loading out")
    return augment


def _merged(own: Augment, given: dict[str, Any]) -> dict[str, Any]:
    """What is said of the stream, with the data set's own where nothing is; one kind of crop displaces the other."""
    displaced: dict[str, Any] = {"crop": 0} if given.get("resized_crop") and "crop" not in given else {}
    if given.get("crop") and "resized_crop" not in given:
        displaced["resized_crop"] = None
    return {**dataclasses.asdict(own), **displaced, **given}


class _Reader:
    """Turns a document into a space, noting every problem on the way."""

    def __init__(self, document: Document, ask_images: bool = True) -> None:
        self.document = document
        self.ask_images = ask_images
        self.fault = document.fault
        # Parameters whose entry cannot be read; what depends on them is not judged.
        self.faulty: set[str] = set()
        self.geometry: models.Geometry | None = None

    def space(self) -> Space:
        document = self.document
        document.unknown_keys((), document.data, SECTIONS)
        name = self._name()
        seed = document.validated(("seed",), document.data.get("seed", 0), Seed, 0)
        dataset = self._dataset()
        self.geometry = data.geometry(dataset) if dataset and self.ask_images else None
        augment = read_augment(document, dataset, self.ask_images)
        train = document.section("train", Recipe, Recipe())
        entries = self._entries(train)
        budget = self._budget(entries)
        self._check_nesterov(train, entries)
        if self.geometry and not document.problems:
            for key, message in trial_faults(entries, self.geometry, budget.epochs).items():
                self.fault(place_of(key), message)
        teachers = self._teachers(entries)
        pairs = possible_values(entries.get("pair"), PAIR) if "pair" not in self.faulty else ()
        students = [split_pair(pair).student for pair in pairs]
        classes = self.geometry.classes if self.geometry else None
        strategy = read_strategy(document, budget, entries, students, classes)
        resources = document.section("resources", Resources, Resources())
        tracking = _tracking(document)
        note_conflicts(document)
        document.raise_problems()
        assert dataset is not None  # a missing data set is a problem
        raw = dict(document.data)
        # Kept with absolute paths and with what the images said, so that it means the same wherever it is read again.
        said = {key: getattr(dataset, key) for key in ("root", "image_size", "channels")}
        raw["dataset"] = {**raw["dataset"], **{key: value for key, value in said.items() if value is not None}}
        if is_reference(dataset.name):
            # It is read without the user's code, which may have gone.
            raw["augment"] = dataclasses.asdict(augment)
        if teachers.expert.checkpoint:
            raw["teachers"] = {**raw["teachers"], "expert": {"checkpoint": teachers.expert.checkpoint}}
        sections = (name, dataset, augment, budget, teachers, train, strategy, entries, resources, tracking, seed, raw)
        space = Space(*sections, self.geometry)
        self._check_baselines(space)
        return space

    def _check_baselines(self, space: Space) -> None:
        """Refuses baselines that cannot be taught to one of the pairs; what ran is not judged again."""
        if not self.ask_images:
            return
        for number, name in enumerate(self.document.data.get("baselines") or ()):
            for pair in space.pairs():
                config = baseline_config(space, name, pair)
                made = make_method(config.method)
                if fault := pair_fault(pair, [made], self.geometry):
                    self.fault(("baselines", number), f"{name} does not go with {fault}")
                    break
                if self.geometry and (fault := baseline_fault(made, pair, self.geometry, config.epochs)):
                    self.fault(("baselines", number), f"{name} {fault}")
                    break
                if fault := anchors_fault(config):
                    self.fault(("baselines", number), f"{name} does not go with teachers.expert.checkpoint: {fault}")
                    break
        self.document.raise_problems()

    def _name(self) -> str:
        name = self.document.data.get("name")
        if name is None:
            self.fault(("name",), "is missing: what to call the search")
        elif fault := self.document.unquoted(("name",), name) or name_fault(name):
            self.fault(("name",), fault)
        return str(name)

    def _dataset(self) -> DatasetConfig | None:
        raw = self.document.data.get("dataset")
        if raw is None:
            self.fault(("dataset",), f"is missing; there are: {', '.join(data.names())}, as in {{name: digits}}")
            return None
        before = len(self.document.problems)
        dataset = self.document.validated(("dataset",), raw, DatasetConfig, DatasetConfig(""))
        if len(self.document.problems) > before:
            return None
        if not self.ask_images:
            return dataset
        for key, message in data.problems(dataset):
            self.fault(("dataset", key), message)
        if len(self.document.problems) > before:
            return None
        return data.resolved(dataset)

    def _budget(self, entries: Mapping[str, Entry]) -> Budget:
        budget = self.document.section("budget", Budget, Budget())
        if budget.grace_period > budget.epochs:
            self.fault(
                ("budget", "grace_period"),
                f"must be at most the epochs {budget.epochs}, but got {budget.grace_period}",
            )
        count = len(chosen_methods(entries))
        if budget.trials < count:
            self.fault(
                ("budget", "trials"),
                f"must be at least the {count} methods, of which each gets as many trials, but got {budget.trials}",
            )
        return budget

    def _teachers(self, entries: Mapping[str, Entry]) -> TeachersConfig:
        teachers = self.document.section("teachers", TeachersConfig, TeachersConfig())
        self._check_teachers_matter(entries)
        if fault := nesterov_fault(teachers.recipe):
            self.fault(("teachers", "recipe", "momentum"), fault)
        place = ("teachers", "expert", "checkpoint")
        checkpoint = teachers.expert.checkpoint
        if checkpoint is None or "pair" in self.faulty:
            return teachers
        names = {split_pair(pair).teacher for pair in possible_values(entries.get("pair"), PAIR)}
        files = checkpoint if isinstance(checkpoint, dict) else dict.fromkeys(names, checkpoint)
        if not isinstance(checkpoint, dict) and len(names) > 1:
            self.fault(
                place,
                f"is one file for {len(names)} teachers; name one for each: {{{': FILE, '.join(sorted(names))}: FILE}}",
            )
        for name, path in files.items():
            if name not in names:
                self.fault(
                    (*place, name),
                    f"is not a teacher of any pair; the teachers are: {', '.join(sorted(names))}",
                )
            elif not os.path.isfile(expanded(path)):
                self.fault((*place, name), f"there is no file {expanded(path)}")
        absolute = {name: os.path.abspath(expanded(path)) for name, path in files.items()}
        return dataclasses.replace(teachers, expert=dataclasses.replace(teachers.expert, checkpoint=absolute))

    def _check_teachers_matter(self, entries: Mapping[str, Entry]) -> None:
        """Refuses what is said of teachers that no trial listens to."""
        if self.document.data.get("baselines"):
            return  # they may listen
        given = self.document.data.get("teachers")
        if given is None or self.faulty or not self.ask_images:
            return
        pairs = possible_values(entries.get("pair"), PAIR)
        every = (
            made.needs
            for name in chosen_methods(entries)
            for pair in pairs
            for made in possible_methods(name, entries, pair, self.geometry)
        )
        try:
            needs = functools.reduce(operator.or_, every, Needs())
        except UserError:
            return  # a pair that cannot be has been refused
        if not needs.scratch and not needs.any_expert:
            self.fault(("teachers",), "has no effect, because no trial listens to a teacher; leave it out")
        elif isinstance(given, dict) and "expert" in given and not needs.any_expert:
            self.fault(("teachers", "expert"), "has no effect, because no trial listens to the expert; leave it out")

    def _check_nesterov(self, train: Recipe, entries: Mapping[str, Entry]) -> None:
        momentum = entries.get("momentum")
        searched = momentum is not None
        possible = possible_values(momentum, parameters(train)["momentum"])
        lowest = [momentum.low] if isinstance(momentum, Number) else list(possible)
        fault = nesterov_fault(dataclasses.replace(train, momentum=min(lowest)))
        if fault:
            self.fault(("search" if searched else "train", "momentum"), fault)

    def _entries(self, train: Recipe) -> dict[str, Entry]:
        raw = self.document.data.get("search")
        if not isinstance(raw, dict) or not raw:
            self.fault(("search",), f"must say what is searched; there are: {', '.join(parameters(train))}")
            return {}
        chosen = chosen_among(raw)
        known = parameters(train, chosen)
        given = flattened(raw, chosen, known, self.document)
        entries: dict[str, Entry] = {}
        complete = True
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
            self.fault(("search",), "has constants only, so that there is nothing to search")
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
                if other not in known:
                    self.fault(place, f"is not a parameter; there are: {', '.join(known)}")
                    continue
                if other in self.faulty:
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
                f"goes in a circle with the conditions of {', '.join(circle[1:] or circle)}",
            )

    def _possible(self, name: str, entries: Mapping[str, Entry], known: Mapping[str, Parameter]) -> tuple[Any, ...]:
        """The values that a parameter may take; where nothing is said of it, its default for any of the pairs."""
        pairs = possible_values(entries.get(PAIR.name), PAIR) if self.ask_images else ()
        try:
            defaults = tuple(dict.fromkeys(default_of(known[name], pair, self.geometry) for pair in pairs))
        except UserError:
            defaults = ()  # a pair that cannot be is refused as such
        return possible_values(entries.get(name), known[name], defaults or None)

    def _check_effects(self, entries: Mapping[str, Entry], known: Mapping[str, Parameter]) -> None:
        """Refuses what would be searched without any effect on the trial."""
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
        """Refuses unknown architectures, and pairs that a method cannot teach; what ran is not judged again."""
        if not self.ask_images:
            return
        for pair in _pairs(self.document.data, entries):
            taught = (made for name in chosen for made in possible_methods(name, entries, pair, self.geometry))
            if fault := pair_fault(pair, taught, self.geometry):
                self.fault(("search", "pair"), fault)


def _pairs(raw: Any, entries: Mapping[str, Entry]) -> list[str]:
    """The pairs that are in question; of a faulty choice, those that are pairs at all."""
    given = raw.get("search", {}).get("pair")
    if given is None or "pair" in entries:
        return list(dict.fromkeys(possible_values(entries.get("pair"), PAIR)))
    options = given.get("choice") if isinstance(given, dict) else None
    return [option for option in options if not PAIR.fault(option)] if isinstance(options, list) else []


def nesterov_fault(recipe: Recipe) -> str | None:
    """Why a recipe's momentum does not go with Nesterov's form, or None."""
    if recipe.nesterov and not recipe.momentum:
        return "must be greater than 0 where nesterov is true, but got 0"
    return None


def pair_fault(pair: str, taught: Iterable[Method], geometry: models.Geometry | None = None) -> str | None:
    """Why a pair cannot be taught by one of these methods, or None.

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
