"""From a config to the objects that carry it out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ctkd_search.config import TrialConfig
from ctkd_search.data.dataset import Splits
from ctkd_search.data.stream import Stream, derived_seed
from ctkd_search.distill.asked import Asked, ExpertKey, anchor_epoch
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.class_weights import class_weights
from ctkd_search.distill.engine import place, resolve_precision
from ctkd_search.distill.expert import Ensemble, Expert
from ctkd_search.distill.methods.base import Method, make_method
from ctkd_search.distill.recorded import Source, TeacherRecording
from ctkd_search.distill.recording import (
    TeacherRun,
    Wanted,
    expert_runs,
    file_hash,
    kept_expert,
    make_stream,
    scratch_run,
    start_teacher,
)
from ctkd_search.distill.requests import LOGITS, Needs, TeacherOutput
from ctkd_search.distill.step import GraphMemory, StepPool, StudentStep, make_step
from ctkd_search.distill.teachers import LiveTeachers, RecordedTeachers, Teachers
from ctkd_search.distill.trainer import Trainer
from ctkd_search.distill.training_network import Context
from ctkd_search.distill.weights import load_own_expert
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.models import build, code_of, describe
from ctkd_search.models.network import TappedNetwork


def teacher_runs(
    config: TrialConfig, data: str, device: torch.device, needs: Needs, images: int
) -> dict[TeacherRun, Wanted]:
    """Returns the teacher trainings that trials with a config's teacher need before they begin.

    Args:
        config: The config.
        data: Fingerprint of the training images.
        device: Device that the teachers are trained on.
        needs: Union of the needs of the trials.
        images: Number of training images; see `scratch_run`.

    Returns:
        The records to keep of each training, besides its last weights.
    """
    runs: dict[TeacherRun, Wanted] = {}
    for run in filter(None, expert_runs(config, data, device, images) if needs.any_expert else []):
        anchors = {anchor_epoch(share, run.epochs) for share in needs.anchors}
        # An anchor at the end of the training is the expert itself, which is kept in any case.
        runs[run] = Wanted(anchors=tuple(sorted(anchors - {run.epochs})))
    if needs.any_scratch and config.teachers.mode != "live":
        scratch = scratch_run(config, data, device, images)
        runs[scratch] = runs.get(scratch, Wanted()) | Wanted(config.teachers.storage, average=needs.average)
    return runs


def anchor_of(epoch: int, epochs: int, anchors: Sequence[float], trained: int) -> int:
    """Returns the number of epochs of its training after which the expert teaches in an epoch of the student.

    Args:
        epoch: The student's epoch, from 0.
        epochs: Epochs of the student, no fewer than anchors.
        anchors: Shares of the expert's training, each for an equal stretch of the student's epochs.
        trained: Epochs of the expert's training.
    """
    return anchor_epoch(anchors[epoch * len(anchors) // epochs], trained)


def load_expert(
    config: TrialConfig, splits: Splits, cache: TeacherCache, device: torch.device, anchor: int | None = None
) -> Expert | Ensemble:
    """Returns the expert of a config, on a device; an ensemble of them if the config has one.

    Args:
        config: The config.
        splits: The images.
        cache: The teacher cache.
        device: Device that it computes on.
        anchor: Number of epochs of its training after which its weights are taken; None for its end.

    Raises:
        UserError: The user's own checkpoint is broken or belongs to another network, or has no anchors.
    """
    precision = resolve_precision(config.teachers.recipe.precision, device)
    runs = expert_runs(config, splits.fingerprint, device, len(splits.train))
    experts = []
    for member, run in zip(config.teachers.expert.members(config.teacher), runs, strict=True):
        if run is not None:
            network = kept_expert(run, splits, cache, device, anchor)
        elif anchor is None:
            network = load_own_expert(str(member.checkpoint), member.architecture, splits.geometry).network
        else:
            raise UserError(
                f"method {config.method.name} needs the expert's weights at several epochs of its training, and "
                f"{member.checkpoint} contains one set of weights; leave out teachers.expert.checkpoint, or the method"
            )
        experts.append(Expert(place(network, device), precision))
    return experts[0] if len(experts) == 1 else Ensemble(experts)


def make_trainer(
    config: TrialConfig,
    splits: Splits,
    cache: TeacherCache,
    device: torch.device,
    keep_maps: bool = True,
    steps: StepPool | None = None,
    asked: Asked | None = None,
    student: TappedNetwork | None = None,
) -> Trainer:
    """Returns the trainer of one trial, ready for its first epoch.

    Args:
        config: The trial's config.
        splits: The images.
        cache: The teacher cache.
        device: Device to compute on.
        keep_maps: Whether the expert's outputs are recorded, because other trials will need them too.
        steps: Steps of earlier trials in this process, one of which may be reused.
        asked: Outputs that all trials of the search need of each expert, to be recorded together.
        student: A network that is trained in the place of the config's student; it has its feature maps. Not with
            steps of earlier trials.
    """
    method = make_method(config.method)
    stream = make_stream(splits, config.augment, config.seed, device)
    experts = Experts(config, splits, cache, device, method.needs.anchors, asked or {})
    limit = config.teachers.cache_bytes() if keep_maps else 0
    teachers = _teachers(config, splits, cache, stream, method.needs, experts, limit)

    def fresh() -> StudentStep:
        memory = steps.memory if steps else None
        weights = class_weights(config.train, splits, config.augment, device)
        return new_step(
            config,
            method,
            splits.geometry,
            splits.train.labels,
            device,
            lambda: experts.load(config.epochs - 1).network,
            memory,
            weights,
            student,
        )

    if steps is None:
        step = fresh()
    else:
        # The learning rate is set in each step. A graph has captured the rest of the recipe, the training network,
        # which may depend on the teacher and the images, an expert that is part of it, and the form of the labels and
        # of the expert's outputs: all of these but logits have other sizes with another teacher.
        recipe = config.train.structure()
        own_network = type(method).training_network is not Method.training_network
        around = (config.teacher, splits.fingerprint) if own_network else None
        inside = experts.identity(config.epochs - 1) if method.needs.network else None
        sized_by = config.teacher if any(output != LOGITS for output in method.needs.expert) else None
        seen = config.augment.mixes, config.teachers.storage, config.teachers.map_form, sized_by
        structure = (config.student, splits.geometry, recipe, around, inside, seen, method.structure())
        step = steps.take(structure, fresh)
    judged = (splits.validation, stream.normalise, config.metrics)
    return Trainer(step, teachers, config.epochs, *judged, config.seed_of_student, config.ranking_horizon)


def new_step(
    config: TrialConfig,
    method: Method,
    geometry: Geometry,
    labels: np.ndarray,
    device: torch.device,
    expert: Callable[[], TappedNetwork],
    memory: GraphMemory | None = None,
    weights: Tensor | None = None,
    student: TappedNetwork | None = None,
) -> StudentStep:
    """Returns the training step of a config's student with its initial weights, in its method's training network.

    Args:
        config: The config.
        method: The config's method, which belongs to the step from now on: training changes its numbers.
        geometry: Classes, channels and size of the images.
        labels: Class of each training image, shape (images,).
        device: Device to compute on.
        expert: Returns the expert's network, for methods whose training network contains it.
        memory: Memory that captured steps share.
        weights: Weight of each class in the cross-entropy, on the device; None for 1.
        student: The student; None for the config's with its initial weights.
    """
    seed = config.seed_of_student
    student = place(student or build(config.student, geometry, derived_seed("student", seed)), device)
    teacher, own = (describe(name, geometry) for name in (config.teacher, config.student))
    context = Context(teacher, own, geometry, seed, expert, labels)
    network = place(method.training_network(student, context), device)
    return make_step(network, method, config.train, device, memory, weights)


def _teachers(
    config: TrialConfig,
    splits: Splits,
    cache: TeacherCache,
    stream: Stream,
    needs: Needs,
    experts: Experts,
    limit: int,
) -> Teachers:
    count = len(splits.train)
    run = scratch_run(config, splits.fingerprint, stream.device, count) if needs.any_scratch else None
    if config.teachers.mode == "live":
        scratch = start_teacher(run, splits, stream.device, needs.average) if run else None
        if needs.expert:
            experts.load(0)  # a checkpoint of the user's that is broken is refused before anything is trained
        load = experts.load if needs.expert else None
        return LiveTeachers(stream, config.train.batch_size, scratch, load, needs.expert)
    recording = TeacherRecording(
        stream,
        splits,
        cache,
        scratch=run,
        storage=config.teachers.storage,
        maps=config.teachers.map_form,
        architecture=config.teacher,
        expert=lambda epoch: Source(experts.identity(epoch), lambda: experts.load(epoch), experts.asked(epoch)),
        outputs=needs.expert,
        limit=limit,
        epochs=config.epochs,
        average=needs.average,
    )
    return RecordedTeachers(stream, config.train.batch_size, recording, needs.expert)


class Experts:
    """The experts of a config along the epochs: one, or one for each anchor.

    Args:
        config: The config.
        splits: The images.
        cache: The teacher cache.
        device: Device that they compute on.
        anchors: Shares of the expert's training at which its weights are taken; empty for its end.
        asked: Outputs that all trials need of each expert.
    """

    def __init__(
        self,
        config: TrialConfig,
        splits: Splits,
        cache: TeacherCache,
        device: torch.device,
        anchors: tuple[float, ...],
        asked: Asked,
    ) -> None:
        self.config = config
        self.splits = splits
        self.cache = cache
        self.device = device
        if len(anchors) > config.epochs:
            raise UserError(
                f"anchors must be at most the trial's epochs, because each teaches for one epoch at least, but got "
                f"{len(anchors)} anchors and epochs {config.epochs}"
            )
        self.anchors = anchors
        self._asked = asked
        self._runs = expert_runs(config, splits.fingerprint, device, len(splits.train))
        self._loaded: tuple[int | None, Expert | Ensemble] | None = None

    def _anchor(self, epoch: int) -> int | None:
        """Returns the anchor of an epoch of the student, as epochs of the expert's training; None for its end."""
        if not self.anchors:
            return None
        epochs = self.config.epochs  # of every teacher's training too
        anchor = anchor_of(epoch, epochs, self.anchors, epochs)
        return anchor if anchor < epochs else None

    def asked(self, epoch: int) -> tuple[TeacherOutput, ...]:
        """Returns the outputs that all trials need of the expert of an epoch."""
        return self._asked.get(ExpertKey(self.config.teacher, self.config.seed, self._anchor(epoch)), ())

    def identity(self, epoch: int) -> str:
        """Returns all that determines an epoch's expert: its training, or its weights and precision, as a text."""
        anchor = self._anchor(epoch)
        after = "" if anchor is None else f" after {anchor} epochs"
        members = zip(self._runs, self._own, strict=True)
        return " and ".join(own if run is None else f"{run.entry}{after}" for run, own in members)

    @functools.cached_property
    def _own(self) -> list[str]:
        """Returns all that determines each member that is the user's own file, as a text; empty for the others."""
        precision = resolve_precision(self.config.teachers.recipe.precision, self.device)
        found = []
        for architecture, file in self.config.teachers.expert.members(self.config.teacher):
            code = code_of(architecture)
            words = [architecture, *([code] if code else [])]
            found.append(" ".join([*words, file_hash(Path(file)), precision]) if file else "")
        return found

    def load(self, epoch: int) -> Expert | Ensemble:
        """Returns the expert of an epoch."""
        anchor = self._anchor(epoch)
        if self._loaded is None or self._loaded[0] != anchor:
            expert = load_expert(self.config, self.splits, self.cache, self.device, anchor)
            self._loaded = anchor, expert
        return self._loaded[1]
