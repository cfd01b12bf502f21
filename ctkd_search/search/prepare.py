"""The teachers, trained before the first trial: side by side, on whatever the trials will use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
import torch

from ctkd_search.data import Splits
from ctkd_search.data.stream import Normalise
from ctkd_search.distill.build import load_expert, teacher_runs
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.recording import Preparation, TeacherRun, expert_run, is_prepared, prepare
from ctkd_search.distill.trainer import evaluate
from ctkd_search.errors import WorkFailed
from ctkd_search.models import describe
from ctkd_search.search.machine import Share
from ctkd_search.space import Space


def prepare_teachers(
    space: Space,
    search: str,
    splits: Splits,
    splits_ref: Any,
    teachers: Path,
    share: Share,
    say: Callable[[str], None],
) -> dict[str, float | None]:
    """Trains every teacher that is not kept from an earlier search.

    Args:
        space: The space.
        search: Name of the search, noted with what it uses.
        splits: The images.
        splits_ref: The same in Ray's object store.
        teachers: Directory of the teacher cache.
        share: What a trial gets; a teacher's training gets as much, and the cores that would otherwise be idle.
        say: Told how it goes, a line at a time.

    Returns:
        Validation accuracy of each expert by architecture.

    Raises:
        UserError: The user's own checkpoint is broken or belongs to another network.
        WorkFailed: A training failed.
    """
    cache = TeacherCache(teachers, search)
    device = torch.device(share.device)
    experts: dict[str, float | None] = {}
    runs: dict[TeacherRun, str | None] = {}
    trained_experts: dict[TeacherRun, str] = {}
    for name, config in space.teachers_by_name().items():
        own = config.teachers.expert.checkpoint_of(name)
        if own and not space.never("beta"):
            expert = load_expert(config, splits, cache, torch.device("cpu"))
            normalise = Normalise(splits.mean, splits.std)
            measured = evaluate(expert.network, splits.validation, normalise, torch.device("cpu"))
            experts[name] = measured["accuracy"]
            say(f"expert {name}: {own} (it may have been trained on images that are held out for validation here)")
        runs |= teacher_runs(
            config, splits.fingerprint, device, scratch=not space.never("alpha"), expert=not space.never("beta")
        )
        own_run = expert_run(config, splits.fingerprint, device)
        if own_run is not None and not space.never("beta"):
            trained_experts[own_run] = name
    running = {}
    threads = _threads(share, len(runs))
    for run, storage in runs.items():
        if is_prepared(run, cache, storage):
            say(f"teacher {run.architecture}: kept from an earlier search ({_reached(_accuracy(run, cache))})")
            continue
        # A generator that streams its progress, run by Ray as a task.
        task = ray.remote(_train).options(num_cpus=threads, num_gpus=share.gpus, num_returns="streaming")
        running[task.remote(run, splits_ref, str(teachers), share.device, threads, storage)] = run
    _follow(running, say)
    for run in runs:
        cache.note_use(run.shelf)
    return experts | {name: _accuracy(run, cache) for run, name in trained_experts.items()}


def _threads(share: Share, runs: int) -> int:
    """CPU threads of a teacher's training: while teachers are trained nothing else runs."""
    return max(share.cpus, share.cpus * share.concurrent // max(1, runs))


def describe_maps(space: Space, images: int, image_size: int) -> str | None:
    """What is worth knowing about the attention maps that trials will record; None if they record none.

    Args:
        space: The space.
        images: Training images.
        image_size: Their side in pixels.
    """
    if space.teachers.mode == "live" or space.never("beta"):
        return None
    width = 2 if space.teachers.storage == "float16" else 4
    total = 0
    for name in space.teachers_by_name():
        sides = [-(-image_size // tap.stride) for tap in describe(name).taps]
        total += sum(side * side for side in sides) * images * space.budget.epochs * width
    text = f"attention maps: up to {total / 1e9:.2g} GB will be recorded"
    if total > space.teachers.cache_bytes():
        text += f"; beyond teachers.cache_limit ({space.teachers.cache_limit}) they are computed in the trials"
    return text


def _follow(running: dict[Any, TeacherRun], say: Callable[[str], None]) -> None:
    """Says what the trainings report until all have ended."""
    said: dict[TeacherRun, int] = {}
    left = dict(running)
    while left:
        for generator in ray.wait(list(left), num_returns=1, timeout=1.0)[0]:
            run = left[generator]
            try:
                progress: Preparation = ray.get(next(generator))
            except StopIteration:
                del left[generator]
                continue
            except ray.exceptions.RayError as error:
                cause = str(getattr(error, "cause", None) or error).strip().splitlines()
                raise WorkFailed(
                    f"training the teacher {run.architecture} failed: {cause[-1] if cause else error!r}"
                ) from None
            if progress.done:
                say(f"teacher {run.architecture}: trained {run.epochs} epochs ({_reached(progress.accuracy)})")
            elif progress.epoch >= said.get(run, 0) + max(1, run.epochs // 4) and progress.epoch < run.epochs:
                said[run] = progress.epoch
                say(f"teacher {run.architecture}: epoch {progress.epoch} of {run.epochs}")


def _train(
    run: TeacherRun, splits: Splits, teachers: str, device: str, threads: int, storage: str | None
) -> Iterator[Preparation]:
    torch.set_num_threads(threads)
    yield from prepare(run, splits, TeacherCache(Path(teachers)), torch.device(device), storage)


def _accuracy(run: TeacherRun, cache: TeacherCache) -> float | None:
    accuracy: float | None = (cache.about(run.expert()) or {}).get("validation_accuracy")
    return accuracy


def _reached(accuracy: float | None) -> str:
    return f"{100 * accuracy:.2f} % validation accuracy" if accuracy is not None else "validation accuracy unknown"
