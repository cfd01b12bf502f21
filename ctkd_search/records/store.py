"""The record of a search on disk: one directory, with one small file for each trial.

Every command after ``run`` reads from here alone, so that none of them needs Ray, or an MLflow server that is up.
"""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import json
import math
import shutil
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctkd_search import __version__
from ctkd_search.errors import UserError
from ctkd_search.files import write_text
from ctkd_search.metrics import ACCURACY, OBJECTIVES, RECORDING_SECONDS, WAITING_SECONDS, Metric
from ctkd_search.space.parameters import CTKD, METHOD
from ctkd_search.versions import SEARCH_FORMAT, format_fault, versions

if TYPE_CHECKING:
    from ctkd_search.data import Splits

TEACHERS = "teachers"

SEARCHED, BASELINE, FINAL = "searched", "baseline", "final"

WAITING = "waiting"
RUNNING = "running"
FINISHED = "finished"
STOPPED = "stopped early"
DIVERGED = "diverged"
FAILED = "failed"
INTERRUPTED = "interrupted"


@dataclass
class TrialRecord:
    """One trial.

    Attributes:
        number: Its number in the search, from 1.
        values: The values of its parameters, those that have an effect.
        stored: The values of the searched parameters, as Optuna stores them.
        seed: Seed of its stream and, unless `student_seed` says otherwise, of its student.
        kind: ``searched``, ``baseline``, or ``final`` for the config of a final training.
        baseline: Which baseline it is, or None.
        repeats: The trial whose config it confirms with another seed, or None.
        optuna: Its number in Optuna's study; None if Optuna was not asked.
        status: ``waiting``, ``running``, ``finished``, ``stopped early``, ``diverged``, ``failed`` or ``interrupted``.
        reason: Why it ended, or why it waits.
        retries: How often it was taken up again after a failure.
        epochs: Metrics of each epoch, in order.
        run_id: Its run in MLflow.
        student_seed: Seed of its student's initial weights alone, or None.
        test: What a final training measured on the test images: ``accuracy``, ``loss``, what was asked for beside them,
            and how many ``images``; None before that, and for every trial of a search.
        objective: What it is judged by, one of `ctkd_search.metrics.OBJECTIVES`.
    """

    number: int
    values: dict[str, Any]
    stored: dict[str, Any]
    seed: int
    kind: str = SEARCHED
    baseline: str | None = None
    repeats: int | None = None
    optuna: int | None = None
    status: str = WAITING
    reason: str = ""
    retries: int = 0
    epochs: list[dict[str, Any]] = field(default_factory=list)
    run_id: str | None = None
    student_seed: int | None = None
    test: dict[str, Any] | None = None
    objective: str = ACCURACY.key

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in (FINISHED, STOPPED, DIVERGED, FAILED)

    @property
    def explores(self) -> bool:
        """Whether it was suggested by Optuna: no baseline, and no confirmation of another trial."""
        return self.kind == SEARCHED and self.repeats is None

    @property
    def is_baseline_run(self) -> bool:
        """Whether it is the run of a baseline, and not a confirmation of one with another seed."""
        return self.baseline is not None and self.repeats is None

    @property
    def method(self) -> str:
        """How its student was taught; searches that knew of no method but CTKD said nothing of it."""
        return str(self.values.get(METHOD.name, CTKD))

    @property
    def accuracy(self) -> float:
        """Validation accuracy after the last epoch; below every real one if there is none."""
        # A final training holds no images out.
        return self.epochs[-1].get("validation_accuracy", -1.0) if self.epochs else -1.0

    @property
    def metric(self) -> Metric:
        """What it is judged by."""
        return OBJECTIVES[self.objective]

    @property
    def value(self) -> float | None:
        """What it is judged by, after the last epoch; None if that was not measured."""
        return self.epochs[-1].get(self.objective) if self.epochs else None

    def last(self, metric: Metric) -> float | None:
        """What was measured after the last epoch; None if it was not."""
        return self.epochs[-1].get(metric.key) if self.epochs else None

    @property
    def images(self) -> int | None:
        """Returns how many validation images it was measured on; None in records of earlier versions."""
        return self.epochs[-1].get("validation_images") if self.epochs else None

    @property
    def score(self) -> float:
        """The same so that more is better; below every real one where there is none, or none that is finite."""
        value = self.value
        return self.metric.sign * value if value is not None and math.isfinite(value) else -math.inf

    @property
    def reached(self) -> str:
        """The same as people read it."""
        return self.metric.show(self.value)

    @property
    def seconds(self) -> float:
        """Time spent in its epochs, recording for other trials included."""
        return sum(epoch["seconds"] for epoch in self.epochs)

    @property
    def own_seconds(self) -> float:
        """Time spent in its epochs but for what other trials profit from: recording experts, and waiting for that."""
        return sum(own_seconds(epoch) for epoch in self.epochs)


@dataclass
class SearchRecord:
    """A search, or a final training, as a whole.

    Attributes:
        name: Its name.
        id: What tells it from every other search, of the same name too.
        space: The space's content, overrides included; of a final training, all that determines it.
        again: The command that goes on with it.
        started: When, in ISO 8601.
        versions: Versions of what it ran with.
        hardware: What it ran on, in words; empty if that was not noted.
        fingerprint: Hash of the training images.
        classes: Names of the classes.
        tracking_uri: Where MLflow keeps its runs, without secrets.
        run_id: Its parent run in MLflow.
        experts: Validation accuracy of each expert trained for it, by architecture.
        costs: What each student costs, as far as the space asks.
        warm_start: The earlier search whose results it began from, or None.
        model: The registered model, as a ``models:`` URI.
        finished: Whether every trial has ended, and MLflow has everything.
        geometry: Classes, channels and image size.
        resize: See `ctkd_search.data.Splits`.
        mean: Mean of each channel that the images are normalised with, in pixel values.
        std: Standard deviation of each channel, likewise.
        teachers: Whether its teachers are recorded or live; None until that is settled.
        format: The version of what is kept of it on disk.
    """

    name: str
    id: str
    space: dict[str, Any]
    again: str
    started: str
    versions: dict[str, str]
    fingerprint: str
    classes: list[str]
    tracking_uri: str
    hardware: str = ""
    run_id: str | None = None
    experts: dict[str, float | None] = field(default_factory=dict)
    costs: dict[str, dict[str, float]] = field(default_factory=dict)
    warm_start: str | None = None
    model: str | None = None
    finished: bool = False
    geometry: list[int] | None = None
    resize: int | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    teachers: str | None = None
    format: int = SEARCH_FORMAT


def new_record(name: str, content: dict[str, Any], splits: Splits, warm_start: str | None = None) -> SearchRecord:
    """The record of something that begins now; how to go on with it, and where MLflow is, is noted later.

    Args:
        name: Its name.
        content: What it is: a space's content, or all that determines a final training.
        splits: The images.
        warm_start: The earlier search whose results it begins from.
    """
    return SearchRecord(
        name=name,
        id=uuid.uuid4().hex,
        space=content,
        again="",
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        versions=versions(),
        fingerprint=splits.fingerprint,
        classes=list(splits.classes),
        tracking_uri="",
        warm_start=warm_start,
        geometry=list(splits.geometry),
        resize=splits.resize,
        mean=list(splits.mean),
        std=list(splits.std),
    )


class SearchFolder:
    """The directory of one search.

    Args:
        root: The directory of all searches.
        name: The search.
    """

    def __init__(self, root: Path, name: str) -> None:
        self.root = root
        self.name = name
        self.path = root / name

    @property
    def report(self) -> Path:
        """Where its report stands unless another place is asked for."""
        return self.path / "report"

    @property
    def study(self) -> Path:
        """The SQLite file of Optuna's study."""
        return self.path.resolve() / "study.db"

    @property
    def states(self) -> Path:
        """Where trials keep their states."""
        return self.path.resolve() / "states"

    def exists(self) -> bool:
        """Whether a search of that name was started."""
        return (self.path / "search.json").is_file()

    def clear(self) -> None:
        """Removes what a search that came to nothing has left."""
        for directory in (self.path / "records", self.states):
            shutil.rmtree(directory, ignore_errors=True)
        for path in self.path.glob("study.db*"):
            path.unlink()

    def write(self, search: SearchRecord) -> None:
        """Keeps the search's own record."""
        write_text(self.path / "search.json", _dump(search))

    def write_trial(self, trial: TrialRecord) -> None:
        """Keeps one trial."""
        write_text(self.path / "records" / f"{trial.number:05d}.json", _dump(trial))

    def search(self) -> SearchRecord:
        """Reads the search's own record.

        Raises:
            UserError: There is no such search, its record is broken, or another version has kept it.
        """
        if not self.exists():
            known = names(self.root)
            near = difflib.get_close_matches(Path(self.name).stem, known, n=1)
            file = f"; {self.name} is a file, and no search's name" if Path(self.name).is_file() else ""
            raise UserError(
                f"there is no search {self.name!r} in {self.root}; there are: {', '.join(known) or 'none yet'}{file}"
                f"{f'; did you mean {near[0]}?' if near else ''}"
            )
        path = self.path / "search.json"
        content = _read(path)
        writer = content.get("versions")
        fault = format_fault(
            content.get("format"), SEARCH_FORMAT, writer.get("ctkd-search") if isinstance(writer, dict) else None
        )
        if fault:
            raise UserError(f"the search kept in {self.path} {fault}, or begin it again under another --name")
        return _made(path, content, SearchRecord)

    def trials(self) -> list[TrialRecord]:
        """Reads every trial, in the order in which they began.

        Raises:
            UserError: A record is broken.
        """
        return [_load(path, TrialRecord) for path in self._records()]

    def readable_trials(self) -> list[TrialRecord]:
        """Reads the trials for a command that only looks; says on standard error which records cannot be read."""
        found = []
        for path in self._records():
            try:
                found.append(_load(path, TrialRecord))
            except UserError as error:
                print(f"left out: {error}", file=sys.stderr)
        return found

    def _records(self) -> list[Path]:
        return sorted((self.path / "records").glob("*.json"))


def own_seconds(epoch: Mapping[str, Any]) -> float:
    """Seconds of an epoch but for those in which experts were recorded for all trials, or waited for."""
    return float(epoch["seconds"] - epoch.get(RECORDING_SECONDS, 0.0) - epoch.get(WAITING_SECONDS, 0.0))


def names(root: Path) -> list[str]:
    """The searches in a directory."""
    return sorted(path.parent.name for path in root.glob("*/search.json"))


def ranked(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Trials by what they are judged by, best first; of equals, the one that began first."""
    return sorted(trials, key=lambda trial: (-trial.score, trial.number))


def best(trials: Sequence[TrialRecord]) -> TrialRecord | None:
    """The best of the explored trials that finished; of none finished, of those that ran.

    A trial that diverged has no student to speak of.
    """
    candidates = contenders(trials)
    return candidates[0] if candidates else None


def contenders(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """The explored trials that may be the best one, best first."""
    explored = [trial for trial in trials if trial.explores and trial.epochs and trial.status != DIVERGED]
    return ranked([trial for trial in explored if trial.status == FINISHED] or explored)


def differences(old: Any, new: Any, place: str = "") -> list[str]:
    """Where two plain values differ, a line each."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = sorted({*old, *new})
        inner = (differences(old.get(key), new.get(key), f"{place}.{key}".lstrip(".")) for key in keys)
        return [line for lines in inner for line in lines]
    return [] if old == new else [f"{place}: {old!r} before, {new!r} now"]


def _dump(record: Any) -> str:
    def strict(value: Any) -> Any:
        # JSON has no NaN; a diverged trial's losses are kept as text.
        if isinstance(value, float) and not math.isfinite(value):
            return {"number": str(value)}
        if isinstance(value, dict):
            return {key: strict(inner) for key, inner in value.items()}
        return [strict(inner) for inner in value] if isinstance(value, list | tuple) else value

    return json.dumps(strict(dataclasses.asdict(record)), indent=1, allow_nan=False) + "\n"


def _load(path: Path, form: Any) -> Any:
    return _made(path, _read(path), form)


def _read(path: Path) -> dict[str, Any]:
    """Reads a record as plain values, so that its format can be told before anything is made of it."""

    def number(value: Any) -> Any:
        if isinstance(value, dict) and value.keys() == {"number"}:
            return float(value["number"])
        if isinstance(value, dict):
            return {key: number(inner) for key, inner in value.items()}
        return [number(inner) for inner in value] if isinstance(value, list) else value

    try:
        content = number(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the record {path} ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is no record of ctkd-search: it contains a {type(content).__name__}")
    return content


def _made(path: Path, content: dict[str, Any], form: Any) -> Any:
    try:
        return form(**content)
    except TypeError as error:
        raise UserError(f"{path} is no record of ctkd-search {__version__} ({error})") from None
