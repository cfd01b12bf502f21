"""From a config to the objects that carry it out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from ctkd_search.config import TrialConfig
from ctkd_search.data.registry import Splits
from ctkd_search.data.stream import Stream, derived_seed
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.engine import place, resolve_precision
from ctkd_search.distill.methods.base import Method, make_method
from ctkd_search.distill.recording import (
    TeacherRecording,
    TeacherRun,
    expert_run,
    file_hash,
    kept_expert,
    make_stream,
    scratch_run,
    start_teacher,
)
from ctkd_search.distill.step import StepPool, StudentStep, make_step
from ctkd_search.distill.teachers import Expert, LiveTeachers, RecordedTeachers, Teachers
from ctkd_search.distill.trainer import Trainer
from ctkd_search.distill.weights import load_weights, put_weights
from ctkd_search.models import build, code_of


def teacher_runs(
    config: TrialConfig, data: str, device: torch.device, *, scratch: bool, expert: bool
) -> dict[TeacherRun, str | None]:
    """The teacher trainings that trials like a config's need before they begin.

    Args:
        config: The config.
        data: Fingerprint of the training images.
        device: Where the teachers are trained.
        scratch: Whether any of the trials needs the scratch teacher.
        expert: Whether any of them needs the expert.

    Returns:
        For each training, the type in which its logits are kept; None if only its last weights matter.
    """
    runs: dict[TeacherRun, str | None] = {}
    own = expert_run(config, data, device)
    if expert and own is not None:
        runs[own] = None
    if scratch and config.teachers.mode == "recorded":
        runs[scratch_run(config, data, device)] = config.teachers.storage
    return runs


def load_expert(
    config: TrialConfig,
    splits: Splits,
    cache: TeacherCache,
    device: torch.device,
    layers: tuple[int, ...] | None = None,
) -> Expert:
    """The expert of a config, on a device.

    Raises:
        UserError: The user's own checkpoint is broken or belongs to another network.
    """
    own = config.teachers.expert.checkpoint_of(config.teacher)
    run = expert_run(config, splits.fingerprint, device)
    if run is None:
        network = build(config.teacher, splits.geometry, seed=0, published=False)
        put_weights(network, load_weights(Path(str(own))), str(own))
    else:
        network = kept_expert(run, splits, cache, device)
    return Expert(place(network, device), config.teachers.recipe.precision, layers)


def make_trainer(
    config: TrialConfig,
    splits: Splits,
    cache: TeacherCache,
    device: torch.device,
    keep_maps: bool = True,
    steps: StepPool | None = None,
) -> Trainer:
    """Everything that one trial needs, ready for its first epoch.

    Args:
        config: What to do.
        splits: The images.
        cache: Where the teachers are kept.
        device: Where to compute.
        keep_maps: Whether attention maps are worth keeping, because other trials will need them too.
        steps: Steps of earlier trials in this process, from which one may be used again.
    """
    method = make_method(config.method)
    stream = make_stream(splits, config.augment, config.seed, device)
    teachers = _teachers(config, splits, cache, stream, method, config.teachers.cache_bytes() if keep_maps else 0)

    def fresh() -> StudentStep:
        student = place(build(config.student, splits.geometry, derived_seed("student", config.seed_of_student)), device)
        return make_step(student, method, config.train, device, steps.memory if steps else None)

    if steps is None:
        step = fresh()
    else:
        # The learning rate is set each epoch; the rest of the recipe is part of what a graph has captured.
        recipe = dataclasses.replace(config.train, lr=1.0)
        step = steps.take((config.student, splits.geometry, recipe, method.structure()), fresh, method)
        step.recipe = config.train
    return Trainer(step, teachers, config.epochs, splits.validation, stream.normalise, config.metrics)


def _teachers(
    config: TrialConfig, splits: Splits, cache: TeacherCache, stream: Stream, method: Method, limit: int
) -> Teachers:
    run = scratch_run(config, splits.fingerprint, stream.device) if method.needs_scratch else None
    layers = method.expert_layers
    if config.teachers.mode == "live":
        scratch = start_teacher(run, splits, stream.device) if run else None
        expert = load_expert(config, splits, cache, stream.device, layers) if layers else None
        return LiveTeachers(stream, config.train.batch_size, scratch, expert)
    recording = TeacherRecording(
        stream,
        splits,
        cache,
        scratch=run,
        storage=config.teachers.storage,
        architecture=config.teacher,
        expert=lambda: load_expert(config, splits, cache, stream.device),
        expert_id=_expert_id(config, splits, stream.device) if layers else None,
        layers=layers,
        limit=limit,
    )
    return RecordedTeachers(stream, config.train.batch_size, recording, layers)


def _expert_id(config: TrialConfig, splits: Splits, device: torch.device) -> str:
    """What tells the maps of an expert from others: its training, or its weights and the precision it computes in."""
    run = expert_run(config, splits.fingerprint, device)
    if run:
        return run.shelf
    own = str(config.teachers.expert.checkpoint_of(config.teacher))
    precision = resolve_precision(config.teachers.recipe.precision, device)
    code = code_of(config.teacher)
    return " ".join([config.teacher, *([code] if code else []), file_hash(Path(own)), precision])
