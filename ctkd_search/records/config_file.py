"""The config of one trial as a file: complete, readable, and sufficient to train from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctkd_search import data
from ctkd_search.config import DatasetConfig, MethodConfig, TeachersConfig, TrialConfig, plain
from ctkd_search.distill.methods.base import make_method, method_class
from ctkd_search.errors import UserError
from ctkd_search.fields import Count, Seed
from ctkd_search.geometry import Geometry
from ctkd_search.metrics import ACCURACY, ALWAYS, METRICS, OBJECTIVES, ON_REQUEST, class_fault
from ctkd_search.names import name_fault
from ctkd_search.pairs import Pair, split_pair
from ctkd_search.recipe import Recipe
from ctkd_search.records.store import SearchRecord, TrialRecord
from ctkd_search.records.trial_configs import config_of
from ctkd_search.space.augment_reader import read_augment, settings_to_read
from ctkd_search.space.default_recipe import completed, keys_of
from ctkd_search.space.defaults import default_of
from ctkd_search.space.definition import Space
from ctkd_search.space.document import Document, dump, read, refuse_record
from ctkd_search.space.label_settings import given_of_labels
from ctkd_search.space.parameters import METHOD, PAIR
from ctkd_search.space.reader import note_recipe_faults, note_teachers_recipe, read_teachers
from ctkd_search.space.recipes import recipe_faults
from ctkd_search.space.search_reader import pair_fault

if TYPE_CHECKING:
    from ctkd_search.data import Splits

_SECTIONS = (
    *("name", "pair", "epochs", "seed", "student_seed", "method", "train", "teachers", "dataset", "augment"),
    *("metrics", "objective", "experiment"),
)
# Written for people; only the check that the images are the same reads them.
_NOTES = ("reached", "data", "versions")


@dataclass(frozen=True)
class ConfigFile:
    """A config as it was read.

    Attributes:
        name: The search it came from.
        config: The config.
        fingerprint: Hash of the training images of the search, if the file has it.
        experiment: Name of the MLflow experiment of the search, if it is not the search's name.
    """

    name: str
    config: TrialConfig
    fingerprint: str | None
    experiment: str | None = None


def config_text(space: Space, search: SearchRecord, trial: TrialRecord, splits: Splits | None = None) -> str:
    """Returns the config of a trial as YAML.

    Args:
        space: The space of the search.
        search: The search.
        trial: The trial.
        splits: The images, to note their number; None if they are not loaded.
    """
    config = config_of(space, trial)
    whole = config.as_dict()
    teachers = {**whole["teachers"], "expert": _without_none(whole["teachers"]["expert"]) or None}
    experiment = space.tracking.experiment or space.name
    content = {
        "name": search.name,
        "pair": str(Pair(config.teacher, config.student)),
        "epochs": config.epochs,
        "seed": config.seed,
        "method": whole["method"],
        "train": whole["train"],
        "teachers": _without_none(teachers),
        "dataset": _without_none(whole["dataset"]),
        "augment": plain(settings_to_read(config.augment, config.dataset)),
        **({"metrics": list(config.metrics)} if config.metrics else {}),
        **({"objective": config.objective} if config.objective != ACCURACY.key else {}),
        **({"experiment": experiment} if experiment != search.name else {}),
        "reached": {
            "search": search.name,
            "trial": trial.number,
            "status": trial.status,
            "epochs": len(trial.epochs),
            **{
                metric.key: trial.last(metric)
                for metric in METRICS.values()
                if metric.name in ALWAYS or metric.name in config.metrics
            },
            "expert_validation_accuracy": search.experts.get(
                space.named_teacher(config), search.experts.get(config.teacher)
            ),
        },
        "data": {"fingerprint": search.fingerprint, "classes": search.classes},
        "versions": search.versions,
    }
    if splits is not None:
        content["data"] |= {"train_images": len(splits.train), "validation_images": len(splits.validation)}
    heading = (
        f"# Trial {trial.number} of the search {search.name!r}, begun {search.started}.\n"
        "# Train it to the end, on training and validation images, with: ctkd-search train THIS_FILE\n"
    )
    return heading + dump(content)


def read_config(path: Path) -> ConfigFile:
    """Reads a config.

    Raises:
        UserError: The file has faults; the message lists all, each with its line.
    """
    return config_in(read(path))


def config_in(document: Document) -> ConfigFile:
    """Returns the config in a document; see `read_config`."""
    raw, source = document.data, document.source
    if "search" in raw or ("budget" in raw and "pair" not in raw):
        raise UserError(f"{source} is a space; run it with: ctkd-search run {source}")
    refuse_record(source, document)
    document.unknown_keys((), raw, (*_SECTIONS, *_NOTES))
    for key in ("name", "pair", "epochs", "method", "dataset"):
        if key not in raw:
            document.fault((key,), "is missing")
    before = len(document.problems)
    name = document.validated(("name",), raw.get("name", "x"), str, "x")
    if len(document.problems) == before and (fault := name_fault(name)):
        document.fault(("name",), fault)
    epochs = document.validated(("epochs",), raw.get("epochs", 1), Count, 1)
    seed = document.validated(("seed",), raw.get("seed", 0), Seed, 0)
    own = raw.get("student_seed")
    student_seed = None if own is None else document.validated(("student_seed",), own, Seed, None)
    known = raw.get("experiment")
    experiment = None if known is None else document.validated(("experiment",), known, str, None)
    metrics, objective = _metrics(document)
    train = completed(document.section("train", Recipe, Recipe()), keys_of(raw.get("train")), epochs)
    teachers = read_teachers(document, epochs)
    before = len(document.problems)
    dataset = document.section("dataset", DatasetConfig, DatasetConfig(""))
    if len(document.problems) == before and "dataset" in raw:
        for key, message in data.problems(dataset):
            document.fault(("dataset", key), message)
    right = len(document.problems) == before and bool(dataset.name)
    augment = read_augment(document, dataset if right else None)
    geometry = data.geometry(data.resolved(dataset)) if right else None
    classes = geometry.classes if geometry else None
    note_recipe_faults(document, ("train",), train, epochs, classes, sampling=augment.sampling)
    note_teachers_recipe(document, teachers.recipe, epochs, classes, augment.sampling)
    before = len(document.problems)
    pair = raw.get("pair", PAIR.default)
    fault = PAIR.fault(pair) or pair_fault(pair, [], geometry)
    known_pair = PAIR.default if fault else pair
    method = _method(document, raw["method"], known_pair, geometry) if "method" in raw else None
    # The faults of a method are reported already; the pair is then checked without its needs.
    taught = [make_method(method)] if method and len(document.problems) == before else []
    fault = fault or pair_fault(pair, taught, geometry)
    if fault:
        document.fault(("pair",), fault)
    for made in taught:
        if fault := made.epochs_fault(epochs):
            document.fault(("method",), fault)
        for key in () if made.learns_labels else given_of_labels(train):
            document.fault(("train", key), "has no effect, because the loss has no labels; leave it out")
    if len(document.problems) == 0:
        classes = data.geometry(dataset).classes
        for metric in metrics:
            if fault := class_fault(metric, classes):
                document.fault(("metrics",), f"{metric} {fault}")
    document.raise_problems()
    assert method is not None  # a missing method is a problem
    teacher, student = split_pair(pair)
    dataset = data.resolved(dataset)
    config = TrialConfig(
        dataset=dataset,
        augment=augment,
        epochs=epochs,
        teacher=teacher,
        student=student,
        method=method,
        train=train,
        teachers=_with_absolute_files(teachers),
        seed=seed,
        student_seed=student_seed,
        metrics=metrics,
        objective=objective,
    )
    noted = raw.get("data")
    fingerprint = noted.get("fingerprint") if isinstance(noted, dict) else None
    return ConfigFile(name, config, fingerprint, experiment)


def _metrics(document: Document) -> tuple[tuple[str, ...], str]:
    """Returns the metrics besides accuracy and loss, and the objective that the config was chosen for."""
    raw = document.data.get("metrics")
    asked: list[Any] = raw if isinstance(raw, list) else []
    if raw is not None and (not asked or not all(name in ON_REQUEST for name in asked)):
        document.fault(("metrics",), f"must be a list of {', '.join(ON_REQUEST)}, but got {raw!r}")
    objective = document.data.get("objective", ACCURACY.key)
    if objective not in list(OBJECTIVES):
        document.fault(("objective",), f"must be one of {', '.join(OBJECTIVES)}, but got {objective!r}")
        return (), ACCURACY.key
    judge = OBJECTIVES[objective].name
    return tuple(name for name in ON_REQUEST if name in asked or name == judge), objective


def _with_absolute_files(teachers: TeachersConfig) -> TeachersConfig:
    return dataclasses.replace(teachers, expert=teachers.expert.absolute())


def _method(document: Any, raw: Any, pair: str, geometry: Geometry | None) -> MethodConfig | None:
    """Returns the method and the values of its parameters, each checked; None if there is no such method.

    Args:
        document: The file.
        raw: The section's value.
        pair: Teacher and student, for the defaults of missing parameters.
        geometry: The images, for the same defaults, if they are known.
    """
    if not isinstance(raw, dict):
        document.fault(("method",), "must be a mapping with the method's name and its parameters")
        return None
    if fault := METHOD.fault(raw.get("name")):
        document.fault(("method", "name"), fault)
        return None
    chosen = method_class(raw["name"])
    known = {parameter.name: parameter for parameter in chosen.parameters}
    document.unknown_keys(("method",), raw, ("name", *known))
    for name, parameter in known.items():
        fault = parameter.fault(raw[name]) if name in raw else None
        if fault:
            document.fault(("method", name), fault)
    left_out = {name: default_of(item, pair, geometry) for name, item in known.items() if name not in raw}
    complete = {name: raw.get(name, left_out.get(name)) for name in known}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in complete.items()}
    return MethodConfig(chosen.name, values)


def _without_none(section: dict[str, Any]) -> dict[str, Any]:
    """Returns a section without the keys that are not given; in the arguments of the user's own, None is a value."""
    return {key: value for key, value in section.items() if value is not None}


def with_changes(config: TrialConfig, epochs: int | None, seed: int | None) -> TrialConfig:
    """Returns a config with another number of epochs or another seed, of the stream and of the student.

    Raises:
        UserError: The config's method, or one of its recipes, needs more epochs.
    """
    changes: dict[str, Any] = {} if epochs is None else {"epochs": epochs}
    if epochs is not None and (fault := make_method(config.method).epochs_fault(epochs)):
        raise UserError(f"--epochs {epochs} is too few for method {config.method.name}: {fault}")
    for recipe in (config.train, config.teachers.recipe):
        if epochs is not None and (found := next(recipe_faults(recipe, (), epochs, None), None)):
            raise UserError(f"--epochs {epochs} is too few for the config's {found[0]}: it {found[1]}")
    if seed is not None:
        changes |= {"seed": seed, "student_seed": None}
    return dataclasses.replace(config, **changes)
