"""The record of a search on disk: one directory, with one small file for each trial.

Every command after ``run`` reads only these records, so that none of them needs Ray, or a running MLflow server.
"""

from __future__ import annotations

import datetime
import difflib
import math
import os
import shutil
import sys
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from ctkd_search.errors import UserError
from ctkd_search.fields import As, Checked, one_of
from ctkd_search.files import write_text
from ctkd_search.metrics import ACCURACY, OBJECTIVES, RECORDING_SECONDS, WAITING_SECONDS, Metric
from ctkd_search.paths import is_file
from ctkd_search.plugins import code_hashes
from ctkd_search.records.json_files import as_json, make_record, read_plain, read_record
from ctkd_search.records.warm_start import WarmStart, asked_for, kept_starts
from ctkd_search.space.parameters import CTKD, METHOD, PAIR
from ctkd_search.versions import SEARCH_FORMAT, format_fault, versions

if TYPE_CHECKING:
    from ctkd_search.data import Splits

TEACHERS = "teachers"

SEARCHED, BASELINE, FINAL = "searched", "baseline", "final"

WAITING = "waiting"
RUNNING = "running"
PAUSED = "paused"
FINISHED = "finished"
STOPPED = "stopped early"
DIVERGED = "diverged"
FAILED = "failed"
INTERRUPTED = "interrupted"
STATUSES = (WAITING, RUNNING, PAUSED, FINISHED, STOPPED, DIVERGED, FAILED, INTERRUPTED)


def _check_values(values: dict[str, Any]) -> None:
    if fault := PAIR.fault(values.get(PAIR.name)):
        raise ValueError(f"has a {PAIR.name} that {fault}")


@dataclass
class TrialRecord:
    """One trial.

    Attributes:
        number: Its number in the search, from 1.
        values: Values of its parameters, those that have an effect.
        stored: Values of the searched parameters, as Optuna stores them.
        seed: Seed of its stream and, unless there is a `student_seed`, of its student.
        kind: ``searched``, ``baseline``, or ``final`` for the config of a final training.
        baseline: Name of the baseline that it is, or None.
        repeats: Number of the trial whose config it confirms with another seed, or None.
        optuna: Its number in Optuna's study; None if Optuna did not suggest it.
        status: ``waiting``, ``running``, ``paused``, ``finished``, ``stopped early``, ``diverged``, ``failed`` or
            ``interrupted``.
        reason: Reason why it ended or waits.
        retries: Number of restarts after a failure.
        epochs: Metrics of each epoch, in order.
        run_id: Its run in MLflow.
        student_seed: Seed of its student's initial weights alone, or None.
        test: Metrics of a final training on the test images: ``accuracy``, ``loss``, those that the space adds, and the
            number of ``images``; None before that, and for every trial of a search.
        objective: Name of the objective that it is judged by, one of `ctkd_search.metrics.OBJECTIVES`.
    """

    number: int
    values: Annotated[dict[str, Any], Checked(_check_values, {})]
    stored: dict[str, Any]
    seed: int
    kind: Annotated[str, one_of((SEARCHED, BASELINE, FINAL))] = SEARCHED
    baseline: str | None = None
    repeats: int | None = None
    optuna: int | None = None
    status: Annotated[str, one_of(STATUSES)] = WAITING
    reason: str = ""
    retries: int = 0
    epochs: Annotated[list[dict[str, Any]], As(list[dict[str, float]])] = field(default_factory=list)
    run_id: str | None = None
    student_seed: int | None = None
    test: Annotated[dict[str, Any] | None, As(dict[str, float] | None)] = None
    objective: Annotated[str, one_of(tuple(OBJECTIVES))] = ACCURACY.key

    @property
    def ended(self) -> bool:
        """Returns whether it has ended for good."""
        return self.status in (FINISHED, STOPPED, DIVERGED, FAILED)

    @property
    def idle(self) -> bool:
        """Returns whether it has ended, or is paused until it is promoted."""
        return self.ended or self.status == PAUSED

    @property
    def explores(self) -> bool:
        """Returns whether Optuna suggested it: it is neither a baseline nor a confirmation of another trial."""
        return self.kind == SEARCHED and self.repeats is None

    @property
    def is_baseline_run(self) -> bool:
        """Returns whether it is the run of a baseline, and not a confirmation of one with another seed."""
        return self.baseline is not None and self.repeats is None

    @property
    def method(self) -> str:
        """Returns the name of its method; CTKD if its record has none, as with the first versions."""
        return str(self.values.get(METHOD.name, CTKD))

    @property
    def accuracy(self) -> float:
        """Returns the validation accuracy after the last epoch; below every real one if there is none."""
        # A final training has no validation images.
        return self.epochs[-1].get("validation_accuracy", -1.0) if self.epochs else -1.0

    @property
    def metric(self) -> Metric:
        """Returns the metric that it is judged by."""
        return OBJECTIVES[self.objective]

    @property
    def value(self) -> float | None:
        """Returns its objective value after the last epoch; None if that was not measured."""
        return self.epochs[-1].get(self.objective) if self.epochs else None

    def last(self, metric: Metric) -> float | None:
        """Returns a metric after the last epoch; None if it was not measured."""
        return self.epochs[-1].get(metric.key) if self.epochs else None

    @property
    def images(self) -> int | None:
        """Returns how many validation images it was measured on; None if that was not noted."""
        return self.epochs[-1].get("validation_images") if self.epochs else None

    @property
    def score(self) -> float:
        """Returns the objective value with the sign by which higher is better; -inf if it is missing or not finite."""
        value = self.value
        return self.metric.sign * value if value is not None and math.isfinite(value) else -math.inf

    @property
    def reached(self) -> str:
        """Returns the objective value with its unit."""
        return self.metric.show(self.value)

    @property
    def seconds(self) -> float:
        """Returns the seconds of its epochs, with recording for other trials."""
        return sum(epoch["seconds"] for epoch in self.epochs)

    @property
    def own_seconds(self) -> float:
        """Returns the seconds of its epochs without those that serve other trials: recording, and waiting for it."""
        return sum(own_seconds(epoch) for epoch in self.epochs)


@dataclass
class SearchRecord:
    """A search, or a final training, as a whole.

    Attributes:
        name: Its name.
        id: Unique text of the search, even among searches of one name.
        space: The space's content, overrides included; of a final training, all that determines it.
        again: Command that resumes it.
        started: Time of its start, in ISO 8601.
        versions: Versions of the software that it ran with.
        hardware: Description of the machines that it ran on; empty if that was not noted.
        fingerprint: Hash of the training images.
        classes: Names of the classes.
        tracking_uri: MLflow's tracking URI, without secrets.
        run_id: Its parent run in MLflow.
        experts: Validation accuracy of each expert trained for it, by architecture; where several augmentations are
            searched, by `Space.named_teacher`.
        costs: Costs of each student that are objectives or limits of the space.
        warm_start: Earlier searches that it began from.
        model: The registered model, as a ``models:`` URI.
        finished: Whether every trial has ended, and MLflow has everything.
        geometry: Classes, channels and image size.
        resize: See `ctkd_search.data.Splits`.
        mean: Mean of each channel that the images are normalised with, in pixel values.
        std: Standard deviation of each channel, in pixel values.
        teachers: ``recorded`` or ``live``; None until that is decided.
        precision: What ``precision: auto`` came to; None until that is known, or where no recipe has it.
        code: Hash of the file of each method of the user's own, by the method's name.
        format: Version of the format of its files.
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
    warm_start: list[WarmStart] = field(default_factory=list)
    model: str | None = None
    finished: bool = False
    geometry: list[int] | None = None
    resize: int | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    teachers: str | None = None
    precision: Literal["float32", "bfloat16"] | None = None
    code: dict[str, str] = field(default_factory=dict)
    format: int = SEARCH_FORMAT


def new_record(
    name: str, content: dict[str, Any], splits: Splits, methods: Iterable[str], warm_start: Sequence[str] = ()
) -> SearchRecord:
    """Returns the record of a new search or final training; its command to resume and MLflow's URI are set later.

    Args:
        name: Its name.
        content: A space's content, or all that determines a final training.
        splits: The images.
        methods: The methods of its trials.
        warm_start: Names of the earlier searches that it begins from, as the user gave them.
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
        warm_start=asked_for(list(warm_start)),
        code=code_hashes(methods),
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
        """Returns the default directory of its report."""
        return self.path / "report"

    @property
    def study(self) -> Path:
        """Returns the path of the journal of Optuna's study."""
        return self.path.resolve() / "study.log"

    @property
    def states(self) -> Path:
        """Returns the directory of the trials' states."""
        return self.path.resolve() / "states"

    def exists(self) -> bool:
        """Returns whether a search of that name was started.

        Raises:
            UserError: Its directory cannot be read.
        """
        return is_file(self.path / "search.json")

    def clear(self) -> None:
        """Removes the files of a search that ended before its first trial."""
        for directory in (self.path / "records", self.states):
            shutil.rmtree(directory, ignore_errors=True)
        self.study.unlink(missing_ok=True)

    def write(self, search: SearchRecord) -> None:
        """Writes the search's own record."""
        write_text(self.path / "search.json", as_json(search))

    def write_trial(self, trial: TrialRecord) -> None:
        """Writes the record of one trial."""
        write_text(self.path / "records" / f"{trial.number:05d}.json", as_json(trial))

    def search(self) -> SearchRecord:
        """Reads the search's own record.

        Raises:
            UserError: There is no such search, its record is damaged, or another version has written it.
        """
        known = names(self.root)
        if "/" in self.name:
            last = Path(self.name).name
            meant = f"did you mean {last}?" if last in known else "name its directory with --trials-dir"
            what = "file" if os.path.isfile(self.name) else "path"
            raise UserError(f"{self.name} is a {what}, not the name of a search; {meant}")
        if not self.exists():
            near = difflib.get_close_matches(Path(self.name).stem, known, n=1)
            file = f"; {self.name} is a file, not the name of a search" if os.path.isfile(self.name) else ""
            raise UserError(
                f"there is no search {self.name!r} in {self.root}; there are: {', '.join(known) or 'none yet'}{file}"
                f"{f'; did you mean {near[0]}?' if near else ''}"
            )
        path = self.path / "search.json"
        content = read_plain(path)
        writer = content.get("versions")
        fault = format_fault(
            content.get("format"), SEARCH_FORMAT, writer.get("ctkd-search") if isinstance(writer, dict) else None
        )
        if fault:
            raise UserError(f"the search in {self.path} {fault}, or start it again under another --name")
        kept = kept_starts(path, content.get("warm_start"))
        return make_record(path, {**content, "warm_start": kept}, SearchRecord)

    def trials(self) -> list[TrialRecord]:
        """Reads every trial, in the order in which they began.

        Raises:
            UserError: A record is damaged.
        """
        return [read_record(path, TrialRecord) for path in self._records()]

    def readable_trials(self) -> list[TrialRecord]:
        """Reads the trials for display; names records that cannot be read on standard error."""
        found = []
        for path in self._records():
            try:
                found.append(read_record(path, TrialRecord))
            except UserError as error:
                print(f"left out: {error}", file=sys.stderr)
        return found

    def _records(self) -> list[Path]:
        return sorted((self.path / "records").glob("*.json"))


def own_seconds(epoch: Mapping[str, Any]) -> float:
    """Returns the seconds of an epoch without those of recording experts for all trials, or of waiting for that."""
    return float(epoch["seconds"] - epoch.get(RECORDING_SECONDS, 0.0) - epoch.get(WAITING_SECONDS, 0.0))


def names(root: Path) -> list[str]:
    """Returns the names of the searches in a directory."""
    return sorted(path.parent.name for path in root.glob("*/search.json"))


def ranked(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Returns trials sorted by their objective, best first; of equals, the one that began first."""
    return sorted(trials, key=lambda trial: (-trial.score, trial.number))


def best(trials: Sequence[TrialRecord]) -> TrialRecord | None:
    """Returns the best of the explored trials that finished; if none has, of those that ran.

    A trial that diverged has no usable student.
    """
    candidates = contenders(trials)
    return candidates[0] if candidates else None


def contenders(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Returns the explored trials that may be the best one, best first."""
    explored = [trial for trial in trials if trial.explores and trial.epochs and trial.status != DIVERGED]
    return ranked([trial for trial in explored if trial.status == FINISHED] or explored)


def differences(old: Any, new: Any, place: str = "", words: tuple[str, str] = ("before", "now")) -> list[str]:
    """Returns the differences of two plain values, a line each; `words` say which value is whose."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = sorted({*old, *new}, key=str)
        inner = (differences(old.get(key), new.get(key), f"{place}.{key}".lstrip("."), words) for key in keys)
        return [line for lines in inner for line in lines]
    return [] if old == new else [f"{place}: {old!r} {words[0]}, {new!r} {words[1]}"]
