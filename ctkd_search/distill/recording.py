"""Recording teachers once, so that every trial can replay them.

Neither teacher depends on the student, so for one stream both return the same outputs in every trial. One training of
the teacher architecture yields its logits at every position of the stream (those of the scratch teacher) and, by its
last weights, the expert.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ctkd_search.config import Augment, TrialConfig
from ctkd_search.data.dataset import Splits
from ctkd_search.data.file_stream import stream_of
from ctkd_search.data.stream import Normalise, Stream, derived_seed, joins_last, stream_version
from ctkd_search.distill.cache import TeacherCache, content_hash
from ctkd_search.distill.class_weights import class_weights
from ctkd_search.distill.engine import place, resolve_precision
from ctkd_search.distill.evaluation import evaluate
from ctkd_search.distill.lesson import plain_lessons
from ctkd_search.distill.teachers import ScratchTeacher
from ctkd_search.distill.top_logits import pack_logits
from ctkd_search.errors import UserError, WorkFailed
from ctkd_search.leases.lease import holder, try_acquire
from ctkd_search.models import build, code_of
from ctkd_search.models.network import TappedNetwork
from ctkd_search.recipe import Recipe
from ctkd_search.storage import Storage

_TEACHER = "teacher"
TRAINING = "training"
_POLL_SECONDS = 1.0
# Logits that are packed together: 32 MB of float32. Those of a whole epoch may be larger than the device's memory.
_PACKED_AT_ONCE = 1 << 23


@dataclass(frozen=True)
class TeacherRun:
    """One training of a teacher from scratch: all that determines its outputs and its weights.

    Attributes:
        architecture: Name of the network.
        recipe: Its training recipe, with the precision resolved.
        epochs: Epochs of the training.
        seed: Seed of its initial weights.
        stream_seed: Seed of the stream that it is trained on.
        augment: Augmentation of that stream.
        data: Fingerprint of the training images.
        code: Version of the library, or hash of the user's code, that makes the network; None for our own.
        joined: Whether a single image at the end of an epoch joins the batch before it.
    """

    architecture: str
    recipe: Recipe
    epochs: int
    seed: int
    stream_seed: int
    augment: Augment
    data: str
    code: str | None = None
    joined: bool = False

    @property
    def entry(self) -> str:
        """Returns the name of its cache entry."""
        described = {**self.content(), "augment": self.augment.given(), "stream": stream_version(self.augment)}
        return f"{_TEACHER}-{content_hash(described)}"

    def content(self) -> dict[str, Any]:
        """Returns all fields as plain values; ``code`` only if set, and ``joined`` only if true.

        So the names of entries stay those of earlier versions, which did not have the two fields.
        """
        left_out = {"code"} if self.code is None else set()
        if not self.joined:
            left_out.add("joined")
        known = {**dataclasses.asdict(self), "recipe": self.recipe.described()}
        return {key: value for key, value in known.items() if key not in left_out}

    def expert(self) -> str:
        """Returns the name of the record of its last weights."""
        return f"{self.entry}/expert"

    def logits(self, epoch: int, storage: Storage) -> str:
        """Returns the name of the record of its logits in an epoch."""
        return f"{self.entry}/logits-{storage}-{epoch:04d}"

    def average(self, epoch: int, storage: Storage) -> str:
        """Returns the name of the record of the logits of its running average in an epoch."""
        return f"{self.entry}/average-{storage}-{epoch:04d}"

    def anchor(self, epoch: int) -> str:
        """Returns the name of the record of its weights after `epoch` epochs."""
        return f"{self.entry}/weights-{epoch:04d}"

    def state(self) -> str:
        """Returns the name of the record of its state while it is being trained."""
        return f"{self.entry}/state"


class Wanted(NamedTuple):
    """Records to keep of a teacher's training, besides its last weights.

    Attributes:
        storage: Storage of its logits; None if they are not kept.
        anchors: Numbers of epochs after which its weights are kept too.
        average: Whether the logits of the running average of its weights are stored beside its own.
    """

    storage: Storage | None = None
    anchors: tuple[int, ...] = ()
    average: bool = False

    def records(self, run: TeacherRun, epochs: int) -> list[str]:
        """Returns the names of the records of a run's first epochs."""
        storage, names = self.storage, (run.logits, *([run.average] if self.average else []))
        logits = [] if storage is None else [name(epoch, storage) for name in names for epoch in range(epochs)]
        return [*logits, *(run.anchor(anchor) for anchor in self.anchors if anchor <= epochs)]

    def __or__(self, other: Wanted) -> Wanted:
        """Returns the union of two."""
        anchors = tuple(sorted({*self.anchors, *other.anchors}))
        return Wanted(self.storage or other.storage, anchors, self.average or other.average)


@dataclass(frozen=True)
class Preparation:
    """The progress of a teacher's training.

    Attributes:
        epoch: Epochs done.
        epochs: Epochs in all.
        accuracy: Validation accuracy, once it is trained and if there are validation images.
        done: Whether it is trained and kept.
        owner: The process that trains it, if that is another one.
    """

    epoch: int
    epochs: int
    accuracy: float | None = None
    done: bool = False
    owner: str | None = None


def scratch_run(config: TrialConfig, data: str, device: torch.device, images: int) -> TeacherRun:
    """Returns the training of a config's scratch teacher, and of its expert too unless the config names another.

    Args:
        config: The config.
        data: Fingerprint of the training images.
        device: Device that the teacher is trained on.
        images: Number of training images.
    """
    recipe = config.teachers.recipe
    return TeacherRun(
        architecture=config.teacher,
        recipe=dataclasses.replace(recipe, precision=resolve_precision(recipe.precision, device)),
        epochs=config.epochs,
        seed=config.teachers.seed,
        stream_seed=config.seed,
        augment=config.augment,
        data=data,
        code=code_of(config.teacher),
        joined=joins_last(images, recipe.batch_size),
    )


def expert_runs(config: TrialConfig, data: str, device: torch.device, images: int) -> list[TeacherRun | None]:
    """Returns the training whose last weights are the expert, of each member of an ensemble; None for a user's file.

    The first member of the pair's own architecture is the expert as it would be alone: the scratch teacher at its end,
    unless there is a seed.
    """
    expert = config.teachers.expert
    alone = scratch_run(config, data, device, images)
    if expert.seed is not None:
        alone = _independent(alone, expert.seed)
    seed = config.teachers.seed if expert.seed is None else expert.seed
    found: list[TeacherRun | None] = []
    for number, member in enumerate(expert.members(config.teacher)):
        if member.checkpoint is not None:
            found.append(None)
        elif member.architecture == config.teacher and alone not in found:
            found.append(alone)
        else:
            other = dataclasses.replace(alone, architecture=member.architecture, code=code_of(member.architecture))
            found.append(_independent(other, derived_seed("member of the ensemble", seed, number)))
    return found


def _independent(run: TeacherRun, seed: int) -> TeacherRun:
    """Returns a training with other initial weights and another stream."""
    return dataclasses.replace(run, seed=seed, stream_seed=derived_seed("expert", seed))


def make_stream(splits: Splits, augment: Augment, seed: int, device: torch.device) -> Stream:
    """Returns the stream of a data set's training images."""
    normalise = Normalise(splits.mean, splits.std).to(device)
    return stream_of(splits.train, normalise, augment, derived_seed("stream", seed), device)


def start_teacher(run: TeacherRun, splits: Splits, device: torch.device, averaged: bool = False) -> ScratchTeacher:
    """Returns a run's teacher before its first step, with a running average of its weights if asked for."""
    network = build(run.architecture, splits.geometry, derived_seed("teacher", run.seed))
    weights = class_weights(run.recipe, splits, run.augment, device)
    return ScratchTeacher(place(network, device), run.recipe, run.epochs, run.seed, weights, averaged)


def is_prepared(run: TeacherRun, cache: TeacherCache, wanted: Wanted) -> bool:
    """Returns whether a run is kept: its last weights, and the other records wanted of it."""
    return all(name in cache for name in (run.expert(), *wanted.records(run, run.epochs)))


def prepare(
    run: TeacherRun, splits: Splits, cache: TeacherCache, device: torch.device, wanted: Wanted
) -> Iterator[Preparation]:
    """Trains a teacher and records it, unless that is done already.

    A training that was interrupted resumes after its last finished epoch. The validation accuracy after each epoch is
    kept with the last weights, and the seconds of each epoch in the cache's index.

    One process trains it at a time. Another that needs it too waits, and takes over if the first one ends before it is
    done.

    Args:
        run: The training.
        splits: The data; the teacher does not depend on the validation images.
        cache: The teacher cache.
        device: Device to compute on.
        wanted: Records to keep besides the last weights.

    Yields:
        Its progress, after each epoch, and once more at the end; while another process trains it, once a second.
        Nothing if it is kept already.

    Raises:
        WorkFailed: The training diverged.
    """
    directory = cache.directory / run.entry
    while not is_prepared(run, cache, wanted):
        lease = try_acquire(directory, TRAINING, f"the training of teacher {run.architecture}")
        if lease is None:
            yield Preparation(0, run.epochs, owner=str(holder(directory, TRAINING) or ""))
            time.sleep(_POLL_SECONDS)
            continue
        with lease:
            # Another process may have finished it before the lease was acquired.
            if not is_prepared(run, cache, wanted):
                yield from _train(run, splits, cache, device, wanted)
        return
    _remove_leftover(run, cache)


def _remove_leftover(run: TeacherRun, cache: TeacherCache) -> None:
    """Removes the state of a finished training whose process was killed just before it did that itself."""
    if run.state() not in cache:
        return
    lease = try_acquire(cache.directory / run.entry, TRAINING, f"the training of teacher {run.architecture}")
    if lease is None:
        return  # it is being trained again, to keep more of it
    with lease:
        kept = cache.read_state(run.state())
        if kept is not None and kept["epoch"] == run.epochs:
            cache.remove(run.state())


def _train(
    run: TeacherRun, splits: Splits, cache: TeacherCache, device: torch.device, wanted: Wanted
) -> Iterator[Preparation]:
    """Trains a teacher that no other process trains; see `prepare`."""
    cache.index.describe(run.entry, {"kind": "teacher", **run.content()})
    stream = make_stream(splits, run.augment, run.stream_seed, device)
    teacher = start_teacher(run, splits, device, wanted.average)
    accuracies = _resume(run, cache, wanted, teacher)
    for epoch in range(len(accuracies), run.epochs):
        started = time.perf_counter()
        size = run.recipe.batch_size
        lessons = plain_lessons(stream, stream.plan(epoch), size)
        taught = teacher.train(lessons, epoch, stream.steps(size))
        packed = []
        for logits in _joined(taught):
            if not all(numbers.isfinite().all() for numbers in logits):
                raise WorkFailed(
                    f"the teacher {run.architecture} diverged in epoch {epoch + 1} of its training; lower "
                    "teachers.recipe.lr"
                )
            if wanted.storage is not None:
                packed.append([pack_logits(numbers, wanted.storage) for numbers in logits])
        # Not in a record: two writers of one record write the same content, but take different times.
        cache.index.took(run.entry, epoch, time.perf_counter() - started)
        if wanted.storage is not None:
            for name, rows in zip((run.logits, run.average), zip(*packed, strict=True), strict=False):
                cache.write(name(epoch, wanted.storage), np.concatenate(rows))
        if epoch + 1 in wanted.anchors:
            cache.write_state(run.anchor(epoch + 1), teacher.network.state_dict())
        accuracies.append(_validation_accuracy(teacher, splits, stream))
        cache.write_state(run.state(), {"epoch": epoch + 1, "teacher": teacher.state_dict(), "accuracies": accuracies})
        yield Preparation(epoch + 1, run.epochs)
    if accuracies[-1] is None:
        accuracies[-1] = _validation_accuracy(teacher, splits, stream)
    accuracy = accuracies[-1]
    about = {"validation_accuracy": accuracy, "validation_accuracies": accuracies}
    cache.write_state(run.expert(), teacher.network.state_dict(), about)
    cache.remove(run.state())
    yield Preparation(run.epochs, run.epochs, accuracy, done=True)


def _joined(taught: Iterable[list[Tensor]]) -> Iterator[list[Tensor]]:
    """Joins the logits of an epoch's batches, so many at a time that packing them takes little memory of the device."""
    waiting: list[list[Tensor]] = []
    held = 0
    for logits in taught:
        waiting.append(logits)
        held += logits[0].numel()
        if held >= _PACKED_AT_ONCE:
            yield [torch.cat(parts) for parts in zip(*waiting, strict=True)]
            waiting, held = [], 0
    if waiting:
        yield [torch.cat(parts) for parts in zip(*waiting, strict=True)]


def _validation_accuracy(teacher: ScratchTeacher, splits: Splits, stream: Stream) -> float | None:
    """Returns the teacher's accuracy on the validation images; None if there are none, as in a final training."""
    if not len(splits.validation):
        return None
    return evaluate(teacher.network, splits.validation, stream.normalise, stream.device)["accuracy"]


def _resume(run: TeacherRun, cache: TeacherCache, wanted: Wanted, teacher: ScratchTeacher) -> list[float | None]:
    """Loads the state of an interrupted training; returns the validation accuracy of each epoch done."""
    kept = cache.read_state(run.state())
    if kept is None:
        return []
    done: int = kept["epoch"]
    if not all(name in cache for name in wanted.records(run, done)):
        return []
    if wanted.average and "average" not in kept["teacher"]:
        return []
    teacher.load_state_dict(kept["teacher"])
    # States of earlier versions have no accuracies.
    return list(kept.get("accuracies", [None] * done))


def file_hash(path: Path) -> str:
    """Returns a hash of a user's own file."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read the weights {path}: {error.strerror or error}") from None


def kept_expert(
    run: TeacherRun, splits: Splits, cache: TeacherCache, device: torch.device, anchor: int | None = None
) -> TappedNetwork:
    """Returns a run's network with its last weights, or those after `anchor` epochs; trains it if they are missing."""
    name, wanted = (run.expert(), Wanted()) if anchor is None else (run.anchor(anchor), Wanted(anchors=(anchor,)))
    weights: dict[str, Any] | None = cache.read_state(name)
    if weights is None:
        for _ in prepare(run, splits, cache, device, wanted):
            pass
        weights = cache.read_state(name)
        if weights is None:
            raise OSError(f"the weights just recorded in {cache.directory} cannot be read back")
    network = build(run.architecture, splits.geometry, seed=0, published=False)
    network.load_state_dict(weights)
    return network
