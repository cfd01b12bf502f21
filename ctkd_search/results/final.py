"""Final training: the best config, on training and validation images, to the end. The only reader of the test split."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ctkd_search import data
from ctkd_search.config import TrialConfig
from ctkd_search.data.stream import Normalise
from ctkd_search.distill.build import load_expert, make_trainer, teacher_runs
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.recording import prepare
from ctkd_search.distill.trainer import Trainer, diverged, evaluate
from ctkd_search.errors import UserError, WorkFailed
from ctkd_search.files import atomic, make_directory, write_text
from ctkd_search.mlflow_store import Mlflow, store_uri
from ctkd_search.results.leaderboard import percent
from ctkd_search.results.model import log_student
from ctkd_search.results.served import ServedStudent
from ctkd_search.results.store import TEACHERS
from ctkd_search.results.students import STUDENT_FILE
from ctkd_search.versions import versions


def choose_device(wanted: str | None) -> torch.device:
    """The device of that name, or the best there is.

    Raises:
        UserError: A GPU was asked for and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda was asked for, but torch finds no GPU; leave it out to use the CPU")
    return torch.device(wanted or ("cuda" if torch.cuda.is_available() else "cpu"))


def train_final(
    name: str,
    config: TrialConfig,
    fingerprint: str | None,
    trials_dir: Path,
    tracking_uri: str | None,
    device: torch.device,
    say: Callable[[str], None],
) -> None:
    """Trains a config on everything but the test split, and reads the test split once, at the end.

    The teachers are trained anew, because they too may now learn from the validation images; they are kept for next
    time.

    Args:
        name: The space that the config came from.
        config: The config.
        fingerprint: Hash of the training images that the config was found on, or None if it is not known.
        trials_dir: Where the teacher cache is and the student goes.
        tracking_uri: MLflow, or None for the store in `trials_dir`.
        device: Where to compute.
        say: Told how it goes, a line at a time.

    Raises:
        UserError: The data or MLflow is not as it must be.
        WorkFailed: The training diverged, or MLflow failed after it.
    """
    if device.type == "cpu":
        torch.set_num_threads(os.cpu_count() or 1)
    make_directory(trials_dir)
    mlflow = Mlflow(store_uri(tracking_uri, trials_dir), name, trials_dir / "artifacts")
    searched = data.load_train(config.dataset)
    if fingerprint is not None and searched.fingerprint != fingerprint:
        say("warning: these are not the training images that the config was found on")
    splits = searched.with_validation()
    say(f"data: {len(splits.train):,} images, training and validation together")
    cache = TeacherCache(trials_dir / TEACHERS, f"{name} (final training)")
    method = make_method(config.method)
    if method.expert_layers and config.teachers.expert.checkpoint_of(config.teacher):
        load_expert(config, splits, cache, device)  # a broken checkpoint is said before anything is trained
    runs = teacher_runs(
        config, splits.fingerprint, device, scratch=method.needs_scratch, expert=bool(method.expert_layers)
    )
    for run, storage in runs.items():
        for progress in prepare(run, splits, cache, device, storage):
            if _worth_saying(progress.epoch, progress.epochs) and not progress.done:
                say(f"teacher {run.architecture}: epoch {progress.epoch} of {progress.epochs}")
        cache.note_use(run.shelf)
    # One training reads each epoch's maps once: they are not worth keeping.
    trainer = make_trainer(config, splits, cache, device, keep_maps=False)
    history = _train(trainer, say)
    served = ServedStudent(trainer.student.cpu(), splits.mean, splits.std)
    # Before anything else can go wrong: the test images may be broken, and MLflow away.
    directory = _keep_student(trials_dir / name, served, config, splits)
    say(f"student kept in {directory}")
    test = data.load_test(config.dataset)
    measured = evaluate(served.student, test, Normalise(splits.mean, splits.std), torch.device("cpu"))
    say(f"test accuracy {percent(measured['accuracy'])} on {len(test):,} images")
    _keep_result(directory, config, splits, measured, len(test))
    epochs = [*history[:-1], {**history[-1], **{f"test_{key}": value for key, value in measured.items()}}]
    try:
        run_id = mlflow.log_run(f"{name}: final training", _flat(config), epochs)
        model = log_student(
            served,
            splits.train.pixels[:4],
            mlflow,
            run_id,
            f"ctkd-{name}-final",
            classes=splits.classes,
            architecture=config.student,
        )
    except Exception as error:  # whatever MLflow, its server or its store raises: the student is safe
        reason = str(error).strip().splitlines()[0][:200]
        raise WorkFailed(f"the student is in {directory}, but MLflow did not take it ({reason})") from None
    say(f"registered in MLflow as {model}")


def _train(trainer: Trainer, say: Callable[[str], None]) -> list[dict[str, float]]:
    history = []
    for epoch in range(1, trainer.epochs + 1):
        metrics = trainer.run_epoch()
        history.append(metrics)
        if diverged(metrics):
            raise WorkFailed(f"the loss was no longer a finite number in epoch {epoch}; lower train.lr in the config")
        if _worth_saying(epoch, trainer.epochs):
            say(
                f"epoch {epoch} of {trainer.epochs}: loss {metrics['loss']:.4f}, training accuracy "
                f"{percent(metrics['train_accuracy'])}, {metrics['images_per_second']:,.0f} images/s"
            )
    return history


def _worth_saying(epoch: int, epochs: int) -> bool:
    return epoch == epochs or epoch % max(1, epochs // 10) == 0


def _keep_student(parent: Path, served: ServedStudent, config: TrialConfig, splits: data.Splits) -> Path:
    """Writes the student into a new directory, and returns it; earlier ones stay."""
    number = 1
    while (parent / f"final-{number}").exists():
        number += 1
    directory = make_directory(parent / f"final-{number}")
    with atomic(directory / STUDENT_FILE) as temporary:
        torch.save(
            {
                "student": served.student.state_dict(),
                "architecture": config.student,
                "geometry": list(splits.geometry),
                "classes": list(splits.classes),
                "mean": list(splits.mean),
                "std": list(splits.std),
            },
            temporary,
        )
    return directory


def _keep_result(
    directory: Path, config: TrialConfig, splits: data.Splits, measured: dict[str, float], images: int
) -> None:
    """Writes what the final training came to beside the student."""
    result = {
        "test_accuracy": measured["accuracy"],
        "test_loss": measured["loss"],
        "test_images": images,
        "train_images": len(splits.train),
        "config": config.as_dict(),
        "versions": versions(),
    }
    write_text(directory / "result.json", json.dumps(result, indent=1) + "\n")


def _flat(config: TrialConfig) -> dict[str, Any]:
    """The config as MLflow parameters: dotted names, plain values."""

    def walk(prefix: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            return {prefix: value}
        parts = (walk(f"{prefix}.{key}".lstrip("."), inner) for key, inner in value.items())
        return {name: inner for part in parts for name, inner in part.items() if inner is not None}

    return walk("", dataclasses.asdict(config))
