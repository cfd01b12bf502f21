"""From a config to the objects that carry it out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from ctkd_search.config import TrialConfig
from ctkd_search.data.registry import Splits
from ctkd_search.data.stream import STREAM_VERSION, Normalise, Stream, derived_seed
from ctkd_search.distill.cache import TeacherCache, content_key, load_weights, put_weights
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.teachers import Expert, LiveTeachers, ScratchTeacher
from ctkd_search.distill.trainer import Trainer, evaluate
from ctkd_search.errors import UserError
from ctkd_search.models import build
from ctkd_search.models.network import TappedNetwork


@dataclass(frozen=True)
class Preparation:
    """How far the training of an expert has come.

    Attributes:
        teacher: Its architecture.
        epoch: Epochs done.
        epochs: Epochs in all.
        accuracy: Validation accuracy, once it is trained and if there are validation images.
        done: Whether it is trained and kept.
    """

    teacher: str
    epoch: int
    epochs: int
    accuracy: float | None = None
    done: bool = False


def expert_key(config: TrialConfig, fingerprint: str) -> str:
    """The name under which the expert of a config is kept: a hash of all that determines its weights."""
    return content_key(
        "expert",
        {
            "architecture": config.teacher,
            "augment": dataclasses.asdict(config.augment),
            "data": fingerprint,
            "epochs": config.epochs,
            "recipe": dataclasses.asdict(config.teachers.recipe),
            "seed": config.teachers.seed,
            "stream": [STREAM_VERSION, config.seed],
        },
    )


def make_stream(config: TrialConfig, splits: Splits, device: torch.device) -> Stream:
    """The stream of a config's training images."""
    normalise = Normalise(splits.mean, splits.std).to(device)
    return Stream(splits.train, normalise, config.augment, derived_seed("stream", config.seed), device)


def _scratch_teacher(config: TrialConfig, splits: Splits, device: torch.device) -> ScratchTeacher:
    network = build(config.teacher, splits.geometry, derived_seed("teacher", config.teachers.seed)).to(device)
    return ScratchTeacher(network, config.teachers.recipe, config.epochs)


def prepare_expert(
    config: TrialConfig, splits: Splits, cache: TeacherCache, device: torch.device
) -> Iterator[Preparation]:
    """Trains the expert of a config on the training images, unless it is already kept.

    It is the scratch teacher at the end of its training: same weights at the start, same recipe, same stream.

    Args:
        config: Any config with the teacher in question.
        splits: The data; the validation images are only looked at once it is trained.
        cache: Where it is kept.
        device: Where to compute.

    Yields:
        How far it has come, after each epoch.

    Raises:
        UserError: The user's own checkpoint is broken or belongs to another network.
    """
    own = config.teachers.expert.checkpoint_of(config.teacher)
    if own:
        network = build(config.teacher, splits.geometry, seed=0)
        put_weights(network, load_weights(Path(own)), own)
        return
    key = expert_key(config, splits.fingerprint)
    if key in cache:
        return
    stream = make_stream(config, splits, device)
    teacher = _scratch_teacher(config, splits, device)
    for epoch in range(config.epochs):
        for _ in teacher.train(stream, stream.plan(epoch), epoch):
            pass  # each step is taken as it is asked for
        yield Preparation(config.teacher, epoch + 1, config.epochs)
    accuracy = None
    if len(splits.validation):
        accuracy = evaluate(teacher.network, splits.validation, stream.normalise, device)["accuracy"]
    cache.save(
        key,
        teacher.network.state_dict(),
        {"architecture": config.teacher, "epochs": config.epochs, "validation_accuracy": accuracy},
    )
    yield Preparation(config.teacher, config.epochs, config.epochs, accuracy, done=True)


def load_expert(config: TrialConfig, splits: Splits, cache: TeacherCache) -> TappedNetwork:
    """The expert of a config, trained.

    Raises:
        UserError: It is not kept, or the user's own checkpoint is broken.
    """
    network = build(config.teacher, splits.geometry, seed=0)
    own = config.teachers.expert.checkpoint_of(config.teacher)
    if own:
        put_weights(network, load_weights(Path(own)), own)
        return network
    key = expert_key(config, splits.fingerprint)
    weights = cache.load(key)
    if weights is None:
        raise UserError(f"the expert {config.teacher} is not in {cache.directory} any more; run the search again")
    put_weights(network, weights, key)
    return network


def make_trainer(config: TrialConfig, splits: Splits, cache: TeacherCache, device: torch.device) -> Trainer:
    """Everything that one trial needs, ready for its first epoch.

    Args:
        config: What to do.
        splits: The images.
        cache: Where the expert is kept.
        device: Where to compute.
    """
    method = make_method(config.method)
    stream = make_stream(config, splits, device)
    scratch = _scratch_teacher(config, splits, device) if method.needs_scratch else None
    expert = None
    if method.expert_layers:
        expert = Expert(load_expert(config, splits, cache).to(device), method.expert_layers)
    student = build(config.student, splits.geometry, derived_seed("student", config.seed)).to(device)
    return Trainer(
        student,
        LiveTeachers(stream, config.train.batch_size, scratch, expert),
        method,
        config.train,
        config.epochs,
        splits.validation,
        stream.normalise,
        device,
    )
