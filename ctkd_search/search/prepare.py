"""The training of the teachers before the first trial, at the same time and on the trials' devices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch

from ctkd_search.config import TrialConfig
from ctkd_search.data import Splits
from ctkd_search.data.stream import Normalise
from ctkd_search.distill.asked import (
    AugmentedTeacher,
    ExpertKey,
    asked_of_experts,
    augmented_teacher,
    bytes_of,
    passes_of_teachers,
)
from ctkd_search.distill.build import load_expert, teacher_runs
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.evaluation import evaluate
from ctkd_search.distill.expert import Ensemble
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.missing import MissingRecordings
from ctkd_search.distill.recording import Preparation, TeacherRun, Wanted, expert_runs, is_prepared, prepare
from ctkd_search.distill.requests import LOGITS, Needs, TeacherOutput
from ctkd_search.distill.weights import accuracy_line, load_own_expert
from ctkd_search.errors import WorkFailed
from ctkd_search.geometry import Geometry
from ctkd_search.models import describe, maps
from ctkd_search.records.store import TrialRecord
from ctkd_search.resources import Share, teacher_gpus, teacher_threads
from ctkd_search.search.failures import cause_of
from ctkd_search.search.tasks import ray_task
from ctkd_search.space.comparisons import each_needs
from ctkd_search.space.definition import Space
from ctkd_search.text import amount, percent

_KINDS = {
    "logits": "logits",
    "attention": "attention maps",
    "statistics": "channel statistics",
    "embedding": "embeddings",
}


@dataclass(frozen=True)
class Need:
    """The needs of trials with a common config.

    Attributes:
        config: The config.
        needs: Everything that any of them needs of its teachers.
    """

    config: TrialConfig
    needs: Needs


def needs_of_space(space: Space) -> list[Need]:
    """Returns the needs of the trials that Optuna may suggest."""
    return [Need(config, needs) for config, needs in each_needs(space)]


def need_of(config: TrialConfig) -> Need:
    """Returns the needs of a trial with this config."""
    return Need(config, make_method(config.method).needs)


def needs_left(
    space: Space, records: Iterable[TrialRecord], config_of: Callable[[TrialRecord], TrialConfig]
) -> list[Need]:
    """Returns the needs of all trials that are left before the confirmation, or in one that was interrupted.

    Args:
        space: The space.
        records: The trials so far. Baselines have methods, and confirmations seeds, that Optuna's trials have not.
        config_of: Returns the config of a trial.
    """
    others = [trial for trial in records if not trial.explores and not trial.ended]
    return [*needs_of_space(space), *(need_of(config_of(trial)) for trial in others)]


def prepare_teachers(
    needs: Sequence[Need],
    named: Mapping[AugmentedTeacher, str],
    search: str,
    splits: Splits,
    splits_ref: Any,
    teachers: Path,
    share: Share,
    say: Callable[[str], None],
    check_time: Callable[[], None],
) -> dict[str, float | None]:
    """Trains every teacher that is not in the teacher cache.

    Args:
        needs: The needs of the trials.
        named: Names of their teachers.
        search: Name of the search, recorded with the cache entries that it uses.
        splits: The images.
        splits_ref: The images in Ray's object store.
        teachers: Directory of the teacher cache.
        share: The share of a trial; the training of a teacher gets as much, a whole GPU in place of a part of one, and
            the cores that would otherwise be idle.
        say: Prints a line.
        check_time: Called about once a second while they are trained; raises if they are to be trained no longer.

    Returns:
        Validation accuracy of each expert by its name, or by its architecture if it is the user's own; of several with
        different seeds, that of the first.

    Raises:
        UserError: The user's own checkpoint is broken or belongs to another network.
        WorkFailed: A training failed.
    """
    cache = TeacherCache(teachers, search)
    device = torch.device(share.device)
    accuracies: dict[str, float | None] = {}
    runs: dict[TeacherRun, Wanted] = {}
    experts: dict[str, TrialConfig] = {}
    for need in needs:
        config = need.config
        own = config.teachers.expert.checkpoint_of(config.teacher) is not None
        name = config.teacher if own else named[augmented_teacher(config)]
        if need.needs.any_expert and name not in experts:
            experts[name] = config
            accuracies |= _own_experts(config, splits, say)
        for run, wanted in teacher_runs(config, splits.fingerprint, device, need.needs, len(splits.train)).items():
            runs[run] = runs.get(run, Wanted()) | wanted
    of_ensembles = _member_names(experts, splits, device)

    def name_of(run: TeacherRun) -> str:
        if run in of_ensembles:
            return of_ensembles[run]
        name = named[AugmentedTeacher(run.architecture, run.augment)]
        return f"{name} (seed {run.seed})" if run.seed else name

    missing = {run: wanted for run, wanted in runs.items() if not is_prepared(run, cache, wanted)}
    for run in (run for run in runs if run not in missing):
        say(f"teacher {name_of(run)}: taken from the teacher cache{_reached(_accuracy(run, cache))}")
    threads = teacher_threads(share, len(missing))
    # A generator that streams its progress, run by Ray as a task.
    task = ray_task(_train, teacher_gpus(share), threads, num_returns="streaming")
    left = {}
    for run, wanted in missing.items():
        left[task.remote(run, splits_ref, str(teachers), share.device, threads, wanted)] = run
    try:
        _follow(left, name_of, say, check_time)
    finally:
        # In a Ray that outlives this work they would go on. Each has kept its finished epochs.
        for generator in left:
            ray.cancel(generator)
    for run in runs:
        cache.note_use(run.entry)
    for name, config in experts.items():
        members = expert_runs(config, splits.fingerprint, device, len(splits.train))
        if len(members) > 1 and len(splits.validation):
            judge = ray_task(_ensemble_accuracy, teacher_gpus(share), threads)
            try:
                found = ray.get(judge.remote(config, splits_ref, str(teachers), share.device, threads))
            except ray.exceptions.RayError as error:
                raise WorkFailed(f"judging the ensemble of {len(members)} experts failed: {cause_of(error)}") from None
            accuracies[name] = found
            say(f"the ensemble of {len(members)} experts: {percent(found)} validation accuracy")
        elif members[0] is not None:
            accuracies[name] = _accuracy(members[0], cache)
    return accuracies


def _own_experts(config: TrialConfig, splits: Splits, say: Callable[[str], None]) -> dict[str, float | None]:
    """Loads and judges the user's own experts of a config; returns the accuracy of each by its architecture."""
    accuracies: dict[str, float | None] = {}
    for architecture, checkpoint in config.teachers.expert.members(config.teacher):
        if checkpoint is None:
            continue
        expert = load_own_expert(checkpoint, architecture, splits.geometry)
        say(str(expert))
        accuracies[architecture] = None
        if len(splits.validation):
            normalise = Normalise(splits.mean, splits.std)
            found = evaluate(expert.network, splits.validation, normalise, torch.device("cpu"))["accuracy"]
            accuracies[architecture] = found
            held = len(splits.validation)
            say(accuracy_line(architecture, found, held, held, len(splits.classes)))
    return accuracies


def _member_names(experts: Mapping[str, TrialConfig], splits: Splits, device: torch.device) -> dict[TeacherRun, str]:
    """Returns the name of each training of an ensemble that is not that of a teacher which is alone too."""
    found: dict[TeacherRun, str] = {}
    for config in experts.values():
        members = expert_runs(config, splits.fingerprint, device, len(splits.train))
        for number, run in enumerate(members, start=1):
            if len(members) > 1 and run is not None:
                found.setdefault(run, f"{run.architecture} ({number} of {len(members)} in the ensemble)")
    return found


def _ensemble_accuracy(config: TrialConfig, splits: Splits, teachers: str, device: str, threads: int) -> float:
    """Returns the validation accuracy of an ensemble, whose members are trained."""
    torch.set_num_threads(threads)
    at = torch.device(device)
    expert = load_expert(config, splits, TeacherCache(Path(teachers)), at)
    assert isinstance(expert, Ensemble)  # the caller has counted its members
    normalise = Normalise(splits.mean, splits.std).to(at)
    return evaluate(expert.classifier(), splits.validation, normalise, at)["accuracy"]


def asked_of(needs: Sequence[Need]) -> dict[ExpertKey, tuple[TeacherOutput, ...]]:
    """Returns the outputs of each expert that trials request along each stream, to be recorded together."""
    return asked_of_experts((need.config, need.needs) for need in needs)


def missing_recordings(needs: Sequence[Need], splits: Splits, teachers: Path, share: Share) -> MissingRecordings:
    """Returns a counter of the outputs of experts that trials have yet to record.

    Args:
        needs: The needs of the trials.
        splits: The images.
        teachers: Directory of the teacher cache.
        share: The share of a trial.
    """
    trials = [(need.config, need.needs) for need in needs]
    return MissingRecordings(trials, splits, TeacherCache(teachers), torch.device(share.device))


def seconds_of_teachers(needs: Sequence[Need], splits: Splits, teachers: Path, share: Share) -> float:
    """Returns the seconds for which the teachers of trials were trained, as far as they were recorded.

    Args:
        needs: The needs of the trials.
        splits: The images.
        teachers: Directory of the teacher cache.
        share: The share of a trial.
    """
    cache, device = TeacherCache(teachers), torch.device(share.device)
    runs = dict.fromkeys(
        run
        for need in needs
        for run in teacher_runs(need.config, splits.fingerprint, device, need.needs, len(splits.train))
    )
    return sum(sum(cache.index.seconds(run.entry).values()) for run in runs)


def describe_recordings(needs: Sequence[Need], images: int, geometry: Geometry) -> str | None:
    """Returns a line about the recordings of the experts; None if trials record nothing.

    Args:
        needs: The needs of the trials; at least one.
        images: Number of training images.
        geometry: Classes, channels and size of the images.
    """
    teachers = needs[0].config.teachers
    streams = dict.fromkeys(need.config.seed for need in needs)
    passes = [
        (name, each)
        for seed in streams
        for (name, _), found in passes_of_teachers(
            (need.config, need.needs) for need in needs if need.config.seed == seed
        ).items()
        for each in found
    ]
    if teachers.mode == "live" or not passes:
        return None
    shapes = {name: [(shape.channels, shape.side**2) for shape in maps(name, geometry)] for name, _ in passes}
    widths = {name: describe(name, geometry).embedding for name in shapes}
    total = images * sum(
        each.epochs * bytes_of(each, shapes[name], geometry.classes, widths[name], teachers.storage, teachers.map_form)
        for name, each in passes
    )
    kinds = dict.fromkeys(output.kind for _, each in passes for output in (LOGITS, *each.outputs))
    *first, last = (_KINDS[kind] for kind in kinds)
    what = f"{', '.join(first)} and {last}" if first else last
    text = f"the experts' {what} are recorded in one pass over each epoch, up to {total / 1e9:.2g} GB"
    if total > teachers.cache_bytes():
        text += f"; beyond teachers.cache_limit ({teachers.cache_limit}) they are computed in the trials"
    return text


def _follow(
    left: dict[Any, TeacherRun],
    name_of: Callable[[TeacherRun], str],
    say: Callable[[str], None],
    check_time: Callable[[], None],
) -> None:
    """Prints the progress of the trainings that are left until all have ended, and removes those that have."""
    printed: dict[TeacherRun, int] = {}
    awaited: dict[TeacherRun, str] = {}
    while left:
        check_time()
        for generator in ray.wait(list(left), num_returns=1, timeout=1.0)[0]:
            run = left[generator]
            try:
                progress: Preparation = ray.get(next(generator))
            except StopIteration:
                del left[generator]
                continue
            except ray.exceptions.RayError as error:
                raise WorkFailed(f"training the teacher {run.architecture} failed: {cause_of(error)}") from None
            if progress.owner is not None:
                if awaited.get(run) != progress.owner:
                    awaited[run] = progress.owner
                    say(f"teacher {name_of(run)}: waiting for {progress.owner or 'another process'} to train it")
            elif progress.done:
                say(f"teacher {name_of(run)}: trained {amount(run.epochs, 'epoch')}{_reached(progress.accuracy)}")
            elif progress.epoch >= printed.get(run, 0) + max(1, run.epochs // 4) and progress.epoch < run.epochs:
                printed[run] = progress.epoch
                say(f"teacher {name_of(run)}: epoch {progress.epoch} of {run.epochs}")


def _train(
    run: TeacherRun, splits: Splits, teachers: str, device: str, threads: int, wanted: Wanted
) -> Iterator[Preparation]:
    torch.set_num_threads(threads)
    yield from prepare(run, splits, TeacherCache(Path(teachers)), torch.device(device), wanted)


def _accuracy(run: TeacherRun, cache: TeacherCache) -> float | None:
    accuracy: float | None = (cache.about(run.expert()) or {}).get("validation_accuracy")
    return accuracy


def _reached(accuracy: float | None) -> str:
    """Returns an expert's accuracy as text; an empty text where no images were held out to measure it."""
    return f" ({100 * accuracy:.2f} % validation accuracy)" if accuracy is not None else ""
