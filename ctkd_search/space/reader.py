"""Reading a space: everything that can be wrong with the file is found before anything is done with it."""

from __future__ import annotations

import dataclasses
import functools
import operator
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ctkd_search import data
from ctkd_search.config import DatasetConfig, TeachersConfig, plain
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.requests import Needs
from ctkd_search.errors import UserError
from ctkd_search.fields import Seed
from ctkd_search.geometry import Geometry
from ctkd_search.names import name_fault
from ctkd_search.pairs import split_pair
from ctkd_search.paths import expanded
from ctkd_search.plugins import is_reference
from ctkd_search.recipe import Recipe
from ctkd_search.space.alternatives import read_augments
from ctkd_search.space.comparisons import baseline_config
from ctkd_search.space.conflicts import note_conflicts
from ctkd_search.space.default_recipe import completed, keys_of
from ctkd_search.space.default_rungs import with_grace_period
from ctkd_search.space.definition import Space
from ctkd_search.space.distributions import Entry
from ctkd_search.space.document import Document, Place, dump, read, refuse_record
from ctkd_search.space.effects import baseline_fault, trial_faults
from ctkd_search.space.ensembles import expert_fault, note_expert_faults
from ctkd_search.space.label_settings import label_faults
from ctkd_search.space.parameters import (
    PAIR,
    chosen_methods,
    possible_methods,
    possible_values,
)
from ctkd_search.space.recipes import Course, recipe_faults
from ctkd_search.space.search_reader import SearchReader, pair_fault
from ctkd_search.space.search_section import place_of
from ctkd_search.space.searched_recipe import constant_courses, possible_settings
from ctkd_search.space.sections import Budget, Resources, Tracking
from ctkd_search.space.strategy_reader import read_scheduler, read_strategy
from ctkd_search.uris import uri_fault

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
        UserError: The file has faults; the message lists all, each with its line and the rule.
    """
    return read_with_lines(path, overrides)[0]


def read_with_lines(path: Path, overrides: Sequence[str] = ()) -> tuple[Space, Document]:
    """Reads and validates a space; returns the file too, so that later faults can be reported with their lines."""
    document = read(path, overrides)
    return read_document(document), document


def read_document(document: Document) -> Space:
    """Returns the space in a document, which it refuses if that is a config or a record."""
    source = document.source
    if "search" not in document.data and not {"pair", "method"}.isdisjoint(document.data):
        raise UserError(
            f"{source} is the config of one training, not a space; train it with: ctkd-search train {source}"
        )
    refuse_record(source, document)
    return _Reader(document).space()


def space_of(raw: Mapping[str, Any]) -> Space:
    """Returns a space from the content that a search has stored."""
    return _Reader(_kept(raw)).space()


def kept_space(raw: Mapping[str, Any], mode: str | None) -> Space:
    """Reads a stored space for display; the data set need not exist.

    Args:
        raw: The content.
        mode: ``recorded`` or ``live``, as in the search's record; None, as long as none is noted, for recorded.
    """
    space = _Reader(_kept(raw), ask_images=False).space()
    if space.teachers.mode != "auto":
        return space
    teachers = dataclasses.replace(space.teachers, mode=mode or "recorded")  # type: ignore[arg-type]
    return dataclasses.replace(space, teachers=teachers)


def _kept(raw: Mapping[str, Any]) -> Document:
    return Document("the space kept with the search", dump(dict(raw)), kept=True)


def read_resources(overrides: Sequence[str]) -> tuple[Resources, Tracking]:
    """Returns the resources and the tracking settings of a command's options.

    Args:
        overrides: ``KEY=VALUE`` words, as in ``resources.concurrent_trials=2``.

    Raises:
        UserError: They have faults; the message lists all.
    """
    document = Document("the command line", "", overrides)
    for key in sorted(document.data.keys() - {"resources", "tracking"}):
        document.fault((key,), "cannot be set here, but only keys of resources and tracking; change it in the config")
    found = document.section("resources", Resources, Resources()), _tracking(document)
    note_conflicts(document)
    document.raise_problems()
    return found


def _tracking(document: Document) -> Tracking:
    tracking = document.section("tracking", Tracking, Tracking())
    if tracking.uri is not None and (fault := uri_fault(tracking.uri)):
        document.fault(("tracking", "uri"), fault)
    return tracking


class _Reader:
    """Turns a document into a space, noting every problem on the way."""

    def __init__(self, document: Document, ask_images: bool = True) -> None:
        self.document = document
        self.ask_images = ask_images
        self.fault = document.fault
        # Parameters whose entry is faulty; nothing that depends on them is checked.
        self.faulty: set[str] = set()
        self.geometry: Geometry | None = None

    @property
    def classes(self) -> int | None:
        """Number of classes, if the images are known."""
        return self.geometry.classes if self.geometry else None

    def space(self) -> Space:
        document = self.document
        document.unknown_keys((), document.data, SECTIONS)
        name = self._name()
        seed = document.validated(("seed",), document.data.get("seed", 0), Seed, 0)
        dataset = self._dataset()
        self.geometry = data.geometry(dataset) if dataset and self.ask_images else None
        shared, augments = read_augments(document, dataset, self.ask_images)
        augment = next(iter(augments.values()), shared)
        # Known where it is that of every trial.
        several = {each.sampling for each in augments.values()}
        sampling = augment.sampling if len(several) < 2 else None
        # Fixed weights must have an effect in every trial; searched ones are judged with their conditions.
        of_any = next(filter(None, several), sampling)
        budget = document.section("budget", Budget, Budget())
        given, searched = (keys_of(document.data.get(key)) for key in ("train", "search"))
        train = completed(document.section("train", Recipe, Recipe()), given, budget.epochs, searched)
        search = SearchReader(document, self.geometry, self.ask_images)
        entries = search.entries(train, augments)
        self.faulty = search.faulty
        scheduler = read_scheduler(document)
        budget = with_grace_period(budget, train, entries, scheduler)
        self._check_budget(budget, entries)
        self._check_recipe(train, entries, budget.epochs, sampling if "class_weights" in entries else of_any, augments)
        self._check_labels(train, entries)
        if self.geometry and not document.problems:
            for key, message in trial_faults(entries, self.geometry, budget.epochs).items():
                self.fault(place_of(key), message)
        teachers = self._teachers(entries, budget.epochs, sampling)
        if self.ask_images and not document.problems:
            note_expert_faults(document, teachers, entries, self.geometry)
        pairs = possible_values(entries.get("pair"), PAIR) if "pair" not in self.faulty else ()
        students = [split_pair(pair).student for pair in pairs]
        strategy = read_strategy(document, budget, entries, students, self.classes, scheduler)
        resources = document.section("resources", Resources, Resources())
        tracking = _tracking(document)
        note_conflicts(document)
        document.raise_problems()
        assert dataset is not None  # a missing data set is a problem
        raw = dict(document.data)
        # Stored with absolute paths and the images' properties, so that it means the same wherever it is read again.
        resolved = {key: getattr(dataset, key) for key in ("root", "image_size", "channels")}
        raw["dataset"] = {**raw["dataset"], **{key: value for key, value in resolved.items() if value is not None}}
        if is_reference(dataset.name):
            # It is read without the user's code, which may have gone.
            raw["augment"] = dataclasses.asdict(shared)
        if teachers.expert.checkpoint or teachers.expert.ensemble:
            files = {key: getattr(teachers.expert, key) for key in raw["teachers"]["expert"]}
            raw["teachers"] = {**raw["teachers"], "expert": plain(files)}
        sections = (name, dataset, augment, budget, teachers, train, strategy, entries, resources, tracking, seed, raw)
        space = Space(*sections, self.geometry, augments)
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
                    self.fault(("baselines", number), f"{name} cannot be used with {fault}")
                    break
                if self.geometry and (fault := baseline_fault(made, pair, self.geometry, config.epochs)):
                    self.fault(("baselines", number), f"{name} {fault}")
                    break
                if fault := expert_fault(config.teachers, config.teacher, made.needs, self.geometry):
                    self.fault(("baselines", number), f"{name} cannot be used with teachers.expert: {fault}")
                    break
        self.document.raise_problems()

    def _name(self) -> str:
        name = self.document.data.get("name")
        if name is None:
            self.fault(("name",), "is missing: the name of the search")
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

    def _check_budget(self, budget: Budget, entries: Mapping[str, Entry]) -> None:
        if (budget.grace_period or 0) > budget.epochs:
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

    def _teachers(self, entries: Mapping[str, Entry], epochs: int, sampling: str | None) -> TeachersConfig:
        teachers = read_teachers(self.document, epochs)
        self._check_teachers_matter(entries)
        note_teachers_recipe(self.document, teachers.recipe, epochs, self.classes, sampling)
        place = ("teachers", "expert", "checkpoint")
        checkpoint = teachers.expert.checkpoint
        if checkpoint is None or "pair" in self.faulty:
            return dataclasses.replace(teachers, expert=teachers.expert.absolute())
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
        expert = dataclasses.replace(teachers.expert, checkpoint=dict(files)).absolute()
        return dataclasses.replace(teachers, expert=expert)

    def _check_teachers_matter(self, entries: Mapping[str, Entry]) -> None:
        """Refuses settings of teachers that no trial uses."""
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
        if not needs.any_scratch and not needs.any_expert:
            self.fault(("teachers",), "has no effect, because no trial uses a teacher; leave it out")
        elif isinstance(given, dict) and "expert" in given and not needs.any_expert:
            self.fault(("teachers", "expert"), "has no effect, because no trial uses the expert; leave it out")

    def _check_recipe(
        self, train: Recipe, entries: Mapping[str, Entry], epochs: int, sampling: str | None, augments: Collection[str]
    ) -> None:
        possible = possible_settings(train, entries)
        courses = constant_courses(train, entries, self.faulty, augments, self.geometry)
        note_recipe_faults(self.document, ("train",), train, epochs, self.classes, possible, sampling, courses)

    def _check_labels(self, train: Recipe, entries: Mapping[str, Entry]) -> None:
        if self.faulty or not self.ask_images:
            return
        baselines = bool(self.document.data.get("baselines"))
        try:
            found = list(label_faults(train, entries, self.geometry, baselines))
        except UserError:
            return  # a pair that cannot be has been refused
        for place, message in found:
            self.fault(place, message)


def read_teachers(document: Document, epochs: int) -> TeachersConfig:
    """Reads the section ``teachers``; what its recipe does not name is completed.

    Args:
        document: The file.
        epochs: Epochs of the teachers' training.
    """
    teachers = document.section("teachers", TeachersConfig, TeachersConfig())
    given = document.data.get("teachers")
    own = keys_of(given.get("recipe") if isinstance(given, dict) else None)
    return dataclasses.replace(teachers, recipe=completed(teachers.recipe, own, epochs))


def note_recipe_faults(
    document: Document,
    place: Place,
    recipe: Recipe,
    epochs: int,
    classes: int | None,
    possible: Mapping[str, Sequence[Any]] | None = None,
    sampling: str | None = None,
    courses: Sequence[Course] | None = None,
) -> None:
    """Notes the faults of a recipe.

    Args:
        document: The file.
        place: The recipe's place in it.
        recipe: The recipe.
        epochs: Epochs of the training.
        classes: Number of classes, if it is known.
        possible: For each setting that is searched, its possible values, or the ends of its range.
        sampling: Frequency of the images, as in `Augment`.
        courses: Where settings are searched, the courses of a constant schedule, as in `recipe_faults`.
    """
    given = document.data
    for key in place:
        given = given.get(key) if isinstance(given, dict) else None
    for name, message in recipe_faults(recipe, keys_of(given), epochs, classes, possible, sampling, courses):
        at = ("search",) if possible and name in possible else place
        document.fault((*at, *name.split(".")), message)


def note_teachers_recipe(
    document: Document, recipe: Recipe, epochs: int, classes: int | None, sampling: str | None
) -> None:
    """Notes the faults of the teachers' recipe; their weights are not averaged."""
    place = ("teachers", "recipe")
    note_recipe_faults(document, place, recipe, epochs, classes, sampling=sampling)
    if recipe.average:
        document.fault((*place, "average"), "is for the student alone; leave it out")
