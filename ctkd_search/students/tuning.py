"""Fine-tuning of an int8 student with the lessons of its own trial, through the roundings of its file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from ctkd_search.analysis.standing import find_trial
from ctkd_search.config import TrialConfig
from ctkd_search.data import Splits
from ctkd_search.distill.build import make_trainer, teacher_runs
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.engine import PRECISIONS, Precision, resolve_precision
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.recording import is_prepared
from ctkd_search.distill.trainer import Trainer, diverged
from ctkd_search.distill.training_network import load_own_state
from ctkd_search.errors import UserError, WorkFailed
from ctkd_search.recipe import Recipe
from ctkd_search.records.states import state_path, student_state
from ctkd_search.records.store import TEACHERS, SearchFolder
from ctkd_search.records.trial_configs import config_of
from ctkd_search.space.reader import kept_space
from ctkd_search.students.fake_quantised import FakeQuantised, Parts
from ctkd_search.students.formats import OUTPUT, onnx_model
from ctkd_search.students.served import Metadata, ServedStudent, seen
from ctkd_search.text import percent

if TYPE_CHECKING:
    from onnx import ModelProto

# Learning rate at the beginning of a tuning, as a share of the recipe's peak; it falls to 0.
TUNING_LR = 0.02
_IMAGES, _LOGITS, _EMBEDDING = "normalised", "logits", "embedding"


class _Opened(nn.Module):
    """A served student that returns its parts beside its probabilities."""

    def __init__(self, served: ServedStudent, embedding: bool) -> None:
        super().__init__()
        self.served, self.embedding = served, embedding

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Returns probabilities, normalised images, logits, the embedding if there is one, and the maps."""
        shown = seen(self.served.normalise, images)
        if self.embedding:
            logits, maps, embedding = self.served.student.with_embedding(shown)
            return torch.softmax(logits, dim=1), shown, logits, embedding, *maps
        logits, maps = self.served.student(shown)
        return torch.softmax(logits, dim=1), shown, logits, *maps


def opened_model(served: ServedStudent, metadata: Metadata) -> tuple[ModelProto, Parts]:
    """Returns the ONNX graph of a student whose inner tensors have known names, and these names."""
    with torch.inference_mode():
        shape = (1, metadata.channels, metadata.image_size, metadata.image_size)
        _, maps = served.student(torch.zeros(shape))
    embedding = served.student.output_layer is not None
    named = tuple(f"map_{number}" for number in range(1, len(maps) + 1))
    parts = Parts(_IMAGES, _LOGITS, named, _EMBEDDING if embedding else None)
    inner = [_IMAGES, _LOGITS, *([_EMBEDDING] if embedding else []), *named]
    model = onnx_model(_Opened(served, embedding).eval(), metadata, [OUTPUT, *inner])
    kept = [output for output in model.graph.output if output.name == OUTPUT]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    return model, parts


class Lessons(NamedTuple):
    """All that a trial's lessons are made from.

    Attributes:
        config: Its config.
        state: Its state after the last epoch.
        splits: The images.
        cache: The teacher cache.
        device: Device to compute on.
    """

    config: TrialConfig
    state: Mapping[str, Any]
    splits: Splits
    cache: TeacherCache
    device: torch.device


def lessons_of(folder: SearchFolder, wanted: str | None, splits: Splits, epochs: int) -> Lessons:
    """Returns the lessons of a trial, whose teachers have been recorded.

    Args:
        folder: The search.
        wanted: Number of the trial; None for the winner.
        splits: The images of the search.
        epochs: Epochs of the tuning.

    Raises:
        UserError: Its teachers were live, are not in the cache any more, or taught for fewer epochs.
    """
    search = folder.search()
    trial = find_trial(folder.readable_trials(), wanted)
    config = config_of(kept_space(search.space, search.teachers), trial)
    if epochs > config.epochs:
        raise UserError(
            f"--tune-epochs must be at most the {config.epochs} epochs that the teachers of the search {search.name!r} "
            f"were recorded for, but got {epochs}"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cache = TeacherCache(folder.root / TEACHERS, search.name)
    needs = make_method(config.method).needs
    if config.teachers.mode == "live" and needs.any_scratch:
        raise UserError(
            f"--tune-epochs needs recorded teachers, and those of the search {search.name!r} were live; search again "
            "with teachers.mode: recorded"
        )
    configs = _resolved(config, search.precision or resolve_precision("auto", device))
    missing = [_missing(each, splits, cache, device) for each in configs]
    if all(missing):
        raise UserError(
            f"--tune-epochs needs the teachers of the search {search.name!r}, and {', '.join(missing[0])} as trained "
            f"for a {device.type} is not in {folder.root / TEACHERS}; tune where the search ran, or leave it out"
        )
    config = configs[missing.index([])]
    state = student_state(state_path(folder.states, trial.number), trial.number)
    assert state is not None  # its student was read from it
    return Lessons(config, state, splits, cache, device)


def _resolved(config: TrialConfig, likely: Precision) -> list[TrialConfig]:
    """Returns a config with the precisions that its teachers may have been trained in, the likely one first."""
    recipe = config.teachers.recipe
    if recipe.precision != "auto":
        return [config]
    ordered = sorted(PRECISIONS, key=lambda each: each != likely)
    recipes = [dataclasses.replace(recipe, precision=each) for each in ordered]
    return [dataclasses.replace(config, teachers=dataclasses.replace(config.teachers, recipe=each)) for each in recipes]


def _missing(config: TrialConfig, splits: Splits, cache: TeacherCache, device: torch.device) -> list[str]:
    """Returns the architectures of a config's teachers that are not in the cache."""
    runs = teacher_runs(config, splits.fingerprint, device, make_method(config.method).needs, len(splits.train))
    return sorted({run.architecture for run, parts in runs.items() if not is_prepared(run, cache, parts)})


def tuning_recipe(recipe: Recipe, epochs: int, tuned: int) -> Recipe:
    """Returns the recipe of a tuning in the last epochs of a training: a small learning rate that falls to 0.

    Args:
        recipe: The recipe of the training.
        epochs: Its epochs.
        tuned: Number of epochs of the tuning.
    """
    # A linear schedule over all epochs has come to tuned / epochs of its peak when the tuning begins.
    lr = TUNING_LR * recipe.lr * epochs / tuned
    return dataclasses.replace(recipe, lr=lr, schedule="linear", warmup=0.0, average=0.0, precision="float32")


def tune(network: FakeQuantised, lessons: Lessons, epochs: int, say: Callable[[str], None]) -> None:
    """Trains a fake-quantised student with the lessons of the last epochs of its trial.

    Args:
        network: The student; its weights change.
        lessons: The lessons.
        epochs: Number of epochs.
        say: Prints a line after every epoch.

    Raises:
        UserError: The trial's method cannot train the graph.
        WorkFailed: The tuning diverged.
    """
    config, state = lessons.config, lessons.state
    recipe = tuning_recipe(config.train, config.epochs, epochs)
    config = dataclasses.replace(config, train=recipe, ranking_horizon=0.0, metrics=())
    trainer = _trainer(config, network, lessons)
    load_own_state(trainer.step.network, trainer.step.student, dict(state.get("around", {})))
    trainer.teachers.load_state_dict(state["teachers"])
    trainer.epoch = config.epochs - epochs
    for number in range(1, epochs + 1):
        metrics = trainer.run_epoch()
        if diverged(metrics):
            raise WorkFailed("the tuning of the int8 student diverged; leave --tune-epochs out")
        say(f"tuned {number} of {epochs} epochs: {percent(metrics['validation_accuracy'])} validation accuracy")
    network.to("cpu")


def _trainer(config: TrialConfig, network: FakeQuantised, lessons: Lessons) -> Trainer:
    try:
        return make_trainer(config, lessons.splits, lessons.cache, lessons.device, student=network)
    except UserError as error:
        raise UserError(
            f"method {config.method.name} cannot tune an int8 student: {error}; leave --tune-epochs out"
        ) from None
