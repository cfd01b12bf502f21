"""A space: the YAML file that says what is searched, typed and validated.

Nothing heavy is imported here, so that a space can be checked in no time.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ctkd_search import data, models
from ctkd_search.config import Augment, Count, DatasetConfig, Range, Recipe, TeachersConfig, TrialConfig
from ctkd_search.distill.methods.base import Parameter, methods
from ctkd_search.distributions import Choice, Constant, Entry, parse, show
from ctkd_search.errors import UserError
from ctkd_search.yamlfile import Document, dump, read

if TYPE_CHECKING:
    import optuna

METHOD = "ctkd"
PAIR = Parameter(
    "pair", "wrn-40-1/wrn-16-1", "architectures of the teacher and the student, TEACHER/STUDENT", kind="pair"
)
# What of the student's recipe may be searched; their defaults are the space's own `train` section.
TRAINING = (
    Parameter("lr", None, "initial learning rate of the student", "lr=", range=Range(0, open_low=True)),
    Parameter("momentum", None, "SGD momentum of the student", "m=", range=Range(0, 1, open_high=True)),
    Parameter("weight_decay", None, "L2 penalty on the student's weights", "wd=", range=Range(0)),
    Parameter("batch_size", None, "images in a step of the student", "n=", kind="int", range=Range(1)),
)
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}")
_NAME_RULE = "letters, digits, '.', '_' and '-', at most 63, beginning with a letter or digit"
_TAKEN_NAMES = ("teachers", "artifacts", "published")
_SECTIONS = (
    "name",
    "seed",
    "dataset",
    "augment",
    "budget",
    "teachers",
    "train",
    "search",
    "resources",
    "tracking",
)


@dataclass(frozen=True)
class Budget:
    """How much a search may spend.

    Attributes:
        trials: Trials in all.
        epochs: Epochs of a trial that is not stopped early.
        grace_period: Epochs that every trial gets before ASHA may stop it.
        reduction_factor: At each of ASHA's rungs one trial in this many goes on.
        time_budget: When to stop, as in ``2h`` or ``1h30m``, or in seconds; None for no limit.
    """

    trials: Count = 32
    epochs: Count = 60
    grace_period: Count = 1
    reduction_factor: Annotated[int, Range(2)] = 3
    time_budget: str | float | None = None

    def rungs(self) -> list[int]:
        """The epochs after which ASHA compares trials."""
        rungs = []
        epoch = self.grace_period
        while epoch < self.epochs:
            rungs.append(epoch)
            epoch *= self.reduction_factor
        return rungs

    def seconds(self) -> float | None:
        """The time budget in seconds."""
        return None if self.time_budget is None else duration(self.time_budget)


@dataclass(frozen=True)
class Resources:
    """What a trial may use of the machine. Whatever is not given is chosen from what the machine has.

    Attributes:
        gpus_per_trial: GPUs, or a fraction of one; 0 for the CPU.
        cpus_per_trial: CPU cores, and threads.
        concurrent_trials: Trials at once.
        address: A running Ray cluster to join; None starts Ray on this machine.
    """

    gpus_per_trial: Annotated[float, Range(0)] | None = None
    cpus_per_trial: Count | None = None
    concurrent_trials: Count | None = None
    address: str | None = None


@dataclass(frozen=True)
class Tracking:
    """Where MLflow keeps the runs.

    Attributes:
        uri: An MLflow tracking URI; None for a SQLite file in the directory of the searches.
        experiment: Name of the MLflow experiment; None for the space's name.
    """

    uri: str | None = None
    experiment: str | None = None


@dataclass(frozen=True)
class Space:
    """A validated space.

    Attributes:
        name: Its name; a search takes it unless it is given another.
        dataset: The images.
        augment: How the stream varies them.
        budget: What the search may spend.
        teachers: How the teachers come about.
        train: The student's recipe, where it is not searched.
        entries: What is said of each parameter under ``search``.
        resources: What a trial may use.
        tracking: Where MLflow keeps the runs.
        seed: Seed of the stream, of the students' initial weights, and of the sampler.
        raw: The file's content, overrides included.
    """

    name: str
    dataset: DatasetConfig
    augment: Augment
    budget: Budget
    teachers: TeachersConfig
    train: Recipe
    entries: Mapping[str, Entry]
    resources: Resources
    tracking: Tracking
    seed: int
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def parameters(self) -> dict[str, Parameter]:
        """Everything that may be searched, by name, with its default here."""
        return parameters(self.train)

    def ordered(self) -> Iterator[tuple[str, Parameter]]:
        """The parameters, each after those that its condition names."""
        order = _ordered(self.entries, self.parameters)
        assert order is not None  # a space with circular conditions is refused when it is read
        return iter(order)

    def suggest(self, trial: optuna.Trial) -> dict[str, Any]:
        """Draws the values of one trial from Optuna, define-by-run.

        Returns:
            The value of every parameter, including constants and those that take their default.
        """
        values: dict[str, Any] = {}
        for name, parameter in self.ordered():
            entry = self.entries.get(name)
            if entry is None or not _active(entry, values):
                values[name] = parameter.default
            elif isinstance(entry, Constant):
                values[name] = entry.value
            else:
                values[name] = entry.suggest(trial, name)
        return values

    def decode(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """The value of every parameter, from the values that Optuna stores for the searched ones."""
        values: dict[str, Any] = {}
        for name, parameter in self.ordered():
            entry = self.entries.get(name)
            if isinstance(entry, Constant):
                values[name] = entry.value
            elif entry is not None and name in stored:
                values[name] = entry.decode(stored[name])
            else:
                values[name] = parameter.default
        return values

    def paper_point(self) -> dict[str, Any]:
        """The paper's settings as Optuna stores them; where the space has no such value, the nearest it has."""
        defaults = parameters(Recipe())
        return {
            name: entry.nearest(defaults[name].default)
            for name, entry in self.entries.items()
            if not isinstance(entry, Constant)
        }

    def effective(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Those values that have an effect beside the others: no temperature without the kl step loss, say."""
        return {
            name: values[name]
            for name, parameter in self.parameters.items()
            if all(_allows(allowed, values[other]) for other, allowed in parameter.only_with.items())
        }

    def config(self, values: Mapping[str, Any]) -> TrialConfig:
        """The config of a trial, every value resolved.

        Args:
            values: The value of every parameter, from `suggest` or `decode`.
        """
        teacher, student = values["pair"].split("/")
        names = [parameter.name for parameter in methods()[METHOD].parameters]
        return TrialConfig(
            dataset=self.dataset,
            augment=self.augment,
            epochs=self.budget.epochs,
            teacher=teacher,
            student=student,
            method={"name": METHOD, **{name: values[name] for name in names}},
            train=dataclasses.replace(self.train, **{item.name: values[item.name] for item in TRAINING}),
            teachers=self.teachers,
            seed=self.seed,
        )

    def label(self, values: Mapping[str, Any]) -> str:
        """A trial's short name: its pair and the searched values, as in ``wrn-40-1/wrn-16-1 kl T=4 b=800 L2,3``."""
        known = self.parameters
        searched = [name for name, entry in self.entries.items() if not isinstance(entry, Constant)]
        words = [known[name].symbol + show(values[name]) for name in searched if name in values and name != "pair"]
        return " ".join([values["pair"], *words])

    def teachers_by_name(self) -> dict[str, TrialConfig]:
        """The teacher architectures that trials may have, each with the config of some trial that has it."""
        pairs = _values(self.entries.get("pair"), PAIR)
        return {pair.split("/")[0]: self.config({**self.decode({}), "pair": pair}) for pair in pairs}

    def never(self, weight: str) -> bool:
        """Whether a loss weight is 0 in every trial, so that what it weighs is not needed."""
        entry = self.entries.get(weight)
        return isinstance(entry, Constant) and not entry.value > 0


def parameters(train: Recipe) -> dict[str, Parameter]:
    """Everything that may be searched, by name; what belongs to the student's recipe defaults to `train`."""
    training = [dataclasses.replace(item, default=getattr(train, item.name)) for item in TRAINING]
    return {item.name: item for item in (PAIR, *methods()[METHOD].parameters, *training)}


def duration(text: str | float) -> float:
    """Seconds of a duration such as ``90``, ``45s``, ``90m`` or ``1h30m``.

    Raises:
        ValueError: It is no duration, or not longer than nothing.
    """
    match = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?|(\d+(?:\.\d+)?)", str(text).strip())
    units = (86400, 3600, 60, 1, 1)
    seconds = sum(float(part) * unit for part, unit in zip(match.groups(), units, strict=True) if part) if match else 0
    if not seconds:
        raise ValueError(f"must be a duration such as 90s, 45m or 1h30m, but got {text!r}")
    return seconds


def read_space(path: Path, overrides: Sequence[str] = ()) -> Space:
    """Reads and validates a space.

    Args:
        path: The YAML file.
        overrides: ``KEY=VALUE`` words, as in ``train.batch_size=64``.

    Raises:
        UserError: All that is wrong with the file, each with its line and what is allowed.
    """
    return _Reader(read(path, overrides)).space()


def space_of(raw: Mapping[str, Any]) -> Space:
    """A space from its content, as a search has kept it."""
    return _Reader(Document("the space kept with the search", dump(dict(raw)))).space()


def name_fault(name: Any) -> str | None:
    """What is wrong with the name of a search, or None."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return f"must be {_NAME_RULE}, but got {name!r}"
    # Directories that stand beside those of the searches.
    return f"must not be {name!r}, which is kept for other things" if name in _TAKEN_NAMES else None


def check_name(name: str) -> str:
    """Returns the name of a search, or raises UserError if it is none."""
    fault = name_fault(name)
    if fault:
        raise UserError(f"--name {fault}")
    return name


def _active(entry: Entry, values: Mapping[str, Any]) -> bool:
    if isinstance(entry, Constant):
        return True
    return all(_allows(allowed, values[name]) for name, allowed in entry.when.items())


def _allows(allowed: tuple[Any, ...] | Range, value: Any) -> bool:
    if isinstance(allowed, Range):
        return value in allowed
    return _comparable(value) in map(_comparable, allowed)


def _comparable(value: Any) -> Any:
    """Layers as text, because that is how a condition writes them; everything else as it is."""
    return show(value) if isinstance(value, tuple | list) else value


def _values(entry: Entry | None, parameter: Parameter) -> tuple[Any, ...]:
    """The values that a parameter may take, as far as they can be listed; empty for a range."""
    if entry is None:
        return (parameter.default,)
    listed = entry.values() or ()
    if not isinstance(entry, Constant) and entry.when:
        return tuple(dict.fromkeys((*listed, parameter.default))) if listed else ()
    return listed


def _ordered(entries: Mapping[str, Entry], known: Mapping[str, Parameter]) -> list[tuple[str, Parameter]] | None:
    """The parameters, each after those its condition names; None if the conditions go in a circle."""
    waiting = dict(known)
    order: list[tuple[str, Parameter]] = []
    while waiting:
        ready = [
            name for name in waiting if not any(other in waiting for other in getattr(entries.get(name), "when", ()))
        ]
        if not ready:
            return None
        order += [(name, waiting.pop(name)) for name in ready]
    return order


def read_augment(document: Document, dataset: DatasetConfig | None) -> Augment:
    """The section ``augment``, where what is not given is the data set's own; None: a data set that cannot be read."""
    if dataset is None:
        return document.section("augment", Augment, Augment())
    own = data.describe(dataset.name).augment
    raw = document.data.get("augment")
    if raw is None:
        return own
    merged = {**dataclasses.asdict(own), **raw} if isinstance(raw, dict) else raw
    augment: Augment = document.validated(("augment",), merged, Augment, own)
    size = data.geometry(dataset).image_size
    if augment.crop >= size:
        document.fault(("augment", "crop"), f"must be less than the image size {size}, but got {augment.crop}")
    return augment


class _Reader:
    """Turns a document into a space, noting every problem on the way."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.fault = document.fault
        # Parameters whose entry cannot be read; what depends on them is not judged.
        self.faulty: set[str] = set()

    def space(self) -> Space:
        document = self.document
        document.unknown_keys((), document.data, _SECTIONS)
        name = self._name()
        seed = document.validated(("seed",), document.data.get("seed", 0), Annotated[int, Range(0)], 0)
        dataset = self._dataset()
        augment = read_augment(document, dataset)
        budget = self._budget()
        train = document.section("train", Recipe, Recipe())
        self._check_nesterov(("train",), train)
        entries = self._entries(train)
        teachers = self._teachers(entries)
        resources = self._resources()
        tracking = document.section("tracking", Tracking, Tracking())
        document.raise_problems()
        assert dataset is not None  # a missing data set is a problem
        raw = dict(document.data)
        # Kept with absolute paths, so that it means the same wherever it is read again.
        if dataset.root:
            raw["dataset"] = {**raw["dataset"], "root": dataset.root}
        if teachers.expert.checkpoint:
            raw["teachers"] = {**raw["teachers"], "expert": {"checkpoint": teachers.expert.checkpoint}}
        return Space(name, dataset, augment, budget, teachers, train, entries, resources, tracking, seed, raw)

    def _name(self) -> str:
        name = self.document.data.get("name")
        if name is None:
            self.fault(("name",), "is missing: what to call the search")
        elif fault := name_fault(name):
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
        for key, message in data.problems(dataset):
            self.fault(("dataset", key), message)
        if len(self.document.problems) > before:
            return None
        # Trials run in other working directories than this one.
        return dataclasses.replace(dataset, root=os.path.abspath(dataset.root)) if dataset.root else dataset

    def _budget(self) -> Budget:
        budget = self.document.section("budget", Budget, Budget())
        if budget.grace_period > budget.epochs:
            self.fault(
                ("budget", "grace_period"),
                f"must be at most the epochs {budget.epochs}, but got {budget.grace_period}",
            )
        try:
            budget.seconds()
        except ValueError as error:
            self.fault(("budget", "time_budget"), str(error))
        return budget

    def _resources(self) -> Resources:
        resources = self.document.section("resources", Resources, Resources())
        gpus = resources.gpus_per_trial or 0
        if gpus > 1 and gpus != int(gpus):
            self.fault(("resources", "gpus_per_trial"), f"must be a whole number above 1, but got {gpus}")
        return resources

    def _teachers(self, entries: Mapping[str, Entry]) -> TeachersConfig:
        teachers = self.document.section("teachers", TeachersConfig, TeachersConfig())
        self._check_storage(teachers)
        self._check_nesterov(("teachers", "recipe"), teachers.recipe)
        place = ("teachers", "expert", "checkpoint")
        checkpoint = teachers.expert.checkpoint
        if checkpoint is None or "pair" in self.faulty:
            return teachers
        names = {str(pair).split("/")[0] for pair in _values(entries.get("pair"), PAIR)}
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
            elif not Path(path).is_file():
                self.fault((*place, name), f"there is no file {path}")
        absolute = {name: os.path.abspath(path) for name, path in files.items()}
        return dataclasses.replace(teachers, expert=dataclasses.replace(teachers.expert, checkpoint=absolute))

    def _check_storage(self, teachers: TeachersConfig) -> None:
        given = self.document.data.get("teachers")
        if teachers.mode == "live" and isinstance(given, dict):
            for key in ("storage", "cache_limit"):
                if key in given:
                    self.fault(("teachers", key), "has no effect where mode is live; leave it out")
        try:
            teachers.cache_bytes()
        except ValueError as error:
            self.fault(("teachers", "cache_limit"), str(error))
        if teachers.expert.checkpoint is not None and teachers.expert.seed is not None:
            self.fault(("teachers", "expert", "seed"), "has no effect beside checkpoint; leave one of the two out")

    def _check_nesterov(self, place: tuple[str, ...], recipe: Recipe) -> None:
        if recipe.nesterov and not recipe.momentum:
            self.fault((*place, "momentum"), "must be greater than 0 where nesterov is true, but got 0")

    def _entries(self, train: Recipe) -> dict[str, Entry]:
        known = parameters(train)
        raw = self.document.data.get("search")
        if not isinstance(raw, dict) or not raw:
            self.fault(("search",), f"must say what is searched; there are: {', '.join(known)}")
            return {}
        self.document.unknown_keys(("search",), raw, known)
        entries: dict[str, Entry] = {}
        complete = True
        for name, parameter in known.items():
            if name not in raw:
                continue
            entry = parse(parameter, raw[name], functools.partial(self._search_fault, name))
            if entry is None:
                complete = False
                self.faulty.add(name)
            else:
                entries[name] = entry
        own = self.document.data.get("train")
        for name in entries:
            if isinstance(own, dict) and name in own:
                self.fault(("train", name), "stands under search too; leave one out")
        if complete and all(isinstance(entry, Constant) for entry in entries.values()):
            self.fault(("search",), "has constants only, so that there is nothing to search")
        self._check_conditions(entries, known)
        if complete:
            self._check_effects(entries, known)
        self._check_pairs(entries, known)
        return entries

    def _search_fault(self, name: str, place: tuple[str | int, ...], message: str) -> None:
        self.fault(("search", name, *place), message)

    def _check_conditions(self, entries: Mapping[str, Entry], known: Mapping[str, Parameter]) -> None:
        for name, entry in entries.items():
            for other, wanted in getattr(entry, "when", {}).items():
                place = ("search", name, "when", other)
                if other not in known:
                    self.fault(place, f"is not a parameter; there are: {', '.join(known)}")
                    continue
                if other in self.faulty:
                    continue
                listed = _values(entries.get(other), known[other])
                if not listed:
                    self.fault(place, "is a range; a condition must name a choice, subsets or a constant")
                for value in wanted:
                    if listed and not _allows(listed, value):
                        self.fault(place, f"is never {show(value)!r}; it may be {', '.join(map(show, listed))}")
        if _ordered(entries, known) is None:
            circle = [name for name, entry in entries.items() if getattr(entry, "when", None)]
            self.fault(
                ("search", circle[0], "when"),
                f"goes in a circle with the conditions of {', '.join(circle[1:] or circle)}",
            )

    def _check_effects(self, entries: Mapping[str, Entry], known: Mapping[str, Parameter]) -> None:
        """Refuses what would be searched without any effect on the trial."""
        for name, entry in entries.items():
            for other, allowed in known[name].only_with.items():
                possible = _values(entries.get(other), known[other])
                dead = [value for value in possible if not _allows(allowed, value)]
                alive = [value for value in possible if value not in dead]
                conditions = getattr(entry, "when", {}).get(other, ())
                if not dead or (conditions and not any(_allows((value,), c) for value in dead for c in conditions)):
                    continue
                if isinstance(entry, Constant) and (alive or not possible):
                    continue
                message = f"has no effect where {other} is {', '.join(map(show, dead))}; "
                message += f"add when: {{{other}: [{', '.join(map(show, alive))}]}}" if alive else "leave it out"
                self.fault(("search", name), message)

    def _check_pairs(self, entries: Mapping[str, Entry], known: Mapping[str, Parameter]) -> None:
        """Refuses unknown architectures, layers that a pair does not have, and maps that cannot be compared."""
        beta = entries.get("beta")
        if isinstance(beta, Constant) and not beta.value > 0:
            compared: Entry | None = Constant(())
        else:
            compared = entries.get("attention_layers")
        for pair in _pairs(self.document.data, entries):
            layers = {layer for chosen in _layers_with(compared, known["attention_layers"], pair) for layer in chosen}
            fault = pair_fault(pair, sorted(layers))
            if fault:
                self.fault(("search", "pair"), fault)


def _pairs(raw: Any, entries: Mapping[str, Entry]) -> list[str]:
    """The pairs that are in question; of a faulty choice, those that are pairs at all."""
    given = raw.get("search", {}).get("pair")
    if given is None or "pair" in entries:
        return list(dict.fromkeys(_values(entries.get("pair"), PAIR)))
    options = given.get("choice") if isinstance(given, dict) else None
    return [option for option in options if not PAIR.fault(option)] if isinstance(options, list) else []


def _layers_with(entry: Entry | None, parameter: Parameter, pair: str) -> list[tuple[int, ...]]:
    """The layers that may be compared in trials of a pair."""
    if isinstance(entry, Choice) and not _allows(entry.when.get("pair", (pair,)), pair):
        return [parameter.default]
    if isinstance(entry, Choice) and set(entry.when) == {"pair"}:
        return list(entry.values())
    return list(_values(entry, parameter))


def pair_fault(pair: str, layers: Sequence[int]) -> str | None:
    """Why a pair cannot be compared on these layers, or None."""
    try:
        teacher, student = (models.describe(name) for name in pair.split("/"))
    except UserError as error:
        return f"{pair}: {error}"
    for layer in layers:
        for network in (teacher, student):
            if layer not in network.layers:
                return f"{pair}: {network.name} has no layer {layer}; it has {show(network.layers)}"
        theirs, ours = teacher.taps[layer - 1].stride, student.taps[layer - 1].stride
        if theirs != ours:
            return (
                f"{pair}: the maps of layer {layer} cannot be compared; {teacher.name} has it at 1/{theirs} of the "
                f"image's size and {student.name} at 1/{ours}"
            )
    return None
