"""The experts, trained before the first trial: side by side, on whatever the trials will use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
import torch

from ctkd_search.config import TrialConfig
from ctkd_search.data import Splits
from ctkd_search.distill.build import Preparation, expert_key, load_expert, prepare_expert
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.errors import WorkFailed
from ctkd_search.search.machine import Share


def prepare_experts(
    configs: Mapping[str, TrialConfig],
    splits: Splits,
    splits_ref: Any,
    teachers: Path,
    share: Share,
    say: Callable[[str], None],
) -> dict[str, float | None]:
    """Trains every expert that is not kept from an earlier search.

    Args:
        configs: For each teacher architecture, the config of some trial that has it.
        splits: The images.
        splits_ref: The same in Ray's object store.
        teachers: Directory of the teacher cache.
        share: What a trial gets; an expert's training gets as much.
        say: Told how it goes, a line at a time.

    Returns:
        Validation accuracy of each expert by architecture; None for the user's own.

    Raises:
        UserError: The user's own checkpoint is broken or belongs to another network.
        WorkFailed: A training failed.
    """
    cache = TeacherCache(teachers)
    accuracies: dict[str, float | None] = {}
    running: dict[Any, str] = {}
    for name, config in configs.items():
        own = config.teachers.expert.checkpoint_of(name)
        if own:
            load_expert(config, splits, cache)
            accuracies[name] = None
            say(f"expert {name}: {own} (it may have been trained on images that are held out for validation here)")
            continue
        key = expert_key(config, splits.fingerprint)
        if key in cache:
            accuracies[name] = cache.describe(key).get("validation_accuracy")
            say(f"expert {name}: kept from an earlier search ({_reached(accuracies[name])})")
            continue
        # A generator that streams its progress, run by Ray as a task.
        remote = ray.remote(_train).options(num_cpus=share.cpus, num_gpus=share.gpus, num_returns="streaming")
        running[remote.remote(config, splits_ref, str(teachers), share.device, share.cpus)] = name
    said: dict[str, float] = {}
    for name, progress in _follow(running):
        if progress.done:
            accuracies[name] = progress.accuracy
            say(f"expert {name}: trained {progress.epochs} epochs ({_reached(progress.accuracy)})")
        elif progress.epoch >= said.get(name, 0) + max(1, progress.epochs // 4):
            said[name] = progress.epoch
            say(f"expert {name}: epoch {progress.epoch} of {progress.epochs}")
    return accuracies


def _follow(running: dict[Any, str]) -> Iterator[tuple[str, Preparation]]:
    """What the trainings report, in the order in which they report it."""
    while running:
        for generator in ray.wait(list(running), num_returns=1, timeout=1.0)[0]:
            name = running[generator]
            try:
                yield name, ray.get(next(generator))
            except StopIteration:
                del running[generator]
            except ray.exceptions.RayError as error:
                cause = str(getattr(error, "cause", None) or error).strip().splitlines()
                raise WorkFailed(f"training the expert {name} failed: {cause[-1] if cause else error!r}") from None


def _train(config: TrialConfig, splits: Splits, teachers: str, device: str, threads: int) -> Iterator[Preparation]:
    torch.set_num_threads(threads)
    yield from prepare_expert(config, splits, TeacherCache(Path(teachers)), torch.device(device))


def _reached(accuracy: float | None) -> str:
    return f"{100 * accuracy:.2f} % validation accuracy" if accuracy is not None else "validation accuracy unknown"
