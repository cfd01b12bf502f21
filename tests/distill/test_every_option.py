"""Every key of a trial's config changes what comes out of the trial."""

import dataclasses

import numpy as np
import pytest
import torch
from support.methods import with_values

from ctkd_search.config import (
    Augment,
    DatasetConfig,
    Erasing,
    Jitter,
    MethodConfig,
    RandAugment,
    TeachersConfig,
    TrialConfig,
)
from ctkd_search.data import load_train
from ctkd_search.distill.build import make_trainer, teacher_runs
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.recording import prepare
from ctkd_search.distill.requests import Needs
from ctkd_search.metrics import CLOCKS
from ctkd_search.recipe import Recipe

BASE = TrialConfig(
    dataset=DatasetConfig("digits", validation=0.15),
    epochs=2,
    teacher="wrn-10-1",
    student="resnet8",
    method=MethodConfig(
        "ctkd", {"step_loss": "kl", "temperature": 4.0, "alpha": 1.0, "beta": 5.0, "attention_layers": (1, 2)}
    ),
    augment=Augment(crop=1, flip=False),
    # A milestone in the middle and momentum that both forms can take, so that each key has something to change.
    train=Recipe(batch_size=16, lr=0.02, milestones=(0.5,), precision="float32"),
    teachers=TeachersConfig(recipe=Recipe(batch_size=16, lr=0.02, milestones=(0.5,), precision="float32")),
)
OTHER_RECIPE = {
    "batch_size": 8,
    "lr": 0.05,
    "momentum": 0.5,
    "nesterov": True,
    "weight_decay": 0.05,
    "milestones": (),
    "gamma": 0.5,
    "label_smoothing": 0.2,
    "class_weights": "balanced",
    "precision": "bfloat16",
    "optimizer": "adamw",
    "decay": "weights",
    "clip": 0.01,
    "schedule": "cosine",
    "warmup": 1.0,
}
CHANGES = {
    "dataset.validation": 0.4,
    "dataset.split_seed": 1,
    "epochs": 3,
    "metrics": ("ece",),
    "teacher": "wrn-16-1",
    "student": "wrn-10-1",
    "method.step_loss": "mse",
    "method.temperature": 1.0,
    "method.alpha": 0.1,
    "method.beta": 50.0,
    "method.attention_layers": (1, 3),
    "augment.crop": 2,
    "augment.flip": True,
    "augment.randaugment": RandAugment(1, 9),
    "augment.trivialaugment": True,
    "augment.jitter": Jitter(brightness=0.4),
    "augment.erasing": Erasing(0.5),
    "augment.mixup": 0.5,
    "augment.cutmix": 1.0,
    "augment.sampling": "balanced",
    "seed": 1,
    "student_seed": 1,
    "teachers.seed": 1,
    "teachers.mode": "live",  # keeps the scratch teacher's logits exact, where recorded ones are rounded
    "teachers.storage": "float32",
    "teachers.map_size": 2,
    "teachers.map_storage": "uint8",
    "teachers.expert.seed": 1,
    "teachers.expert.ensemble": 2,
    **{f"train.{key}": value for key, value in OTHER_RECIPE.items()},
    "train.average": 1.0,
    **{f"teachers.recipe.{key}": value for key, value in OTHER_RECIPE.items()},
}
# Chosen by the data set's own tests: where the images come from, not what is done with them. An expert of the user's
# own, and what the cache may hold, are tested with the cache. The objective is for those who compare trainings.
ELSEWHERE = {
    "dataset.name",
    "dataset.root",
    "dataset.image_size",
    "dataset.channels",
    "dataset.verify",
    "dataset.resize",
    "dataset.loading",
    "dataset.stored_side",
    "dataset.stored_as",
    "dataset.workers",
    "dataset.extra",
    "dataset.skip_broken",
    "dataset.options",
    "dataset.test",
    "augment.resized_crop",
    "augment.mix_probability",
    "teachers.cache_limit",
    "teachers.trajectory_limit",
    "teachers.expert.checkpoint",
    "method.name",
    "objective",
}


def changed(config, key, value):
    first, _, rest = key.partition(".")
    if isinstance(config, MethodConfig):
        return with_values(config, **{first: value})
    old = getattr(config, first)
    new = changed(old, rest, value) if rest else value
    return dataclasses.replace(config, **{first: new})


def keys(value, prefix=""):
    if not isinstance(value, dict):
        return {prefix}
    return {key for name, inner in value.items() for key in keys(inner, f"{prefix}.{name}".lstrip("."))}


def outcome(config, directory):
    splits = load_train(config.dataset)
    splits = dataclasses.replace(splits, train=splits.train[np.arange(48)], validation=splits.validation[np.arange(40)])
    cache, device = TeacherCache(directory), torch.device("cpu")
    for run, storage in teacher_runs(
        config, splits.fingerprint, device, Needs(scratch=True, network=True), len(splits.train)
    ).items():
        for _ in prepare(run, splits, cache, device, storage):
            pass
    trainer = make_trainer(config, splits, cache, device)
    history = [trainer.run_epoch() for _ in range(config.epochs)]
    return [{k: v for k, v in epoch.items() if k not in CLOCKS} for epoch in history]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return outcome(BASE, tmp_path_factory.mktemp("teachers"))


def test_every_key_is_covered():
    assert keys(BASE.nested()) == set(CHANGES) | ELSEWHERE


def test_the_outcome_repeats(base, tmp_path):
    assert outcome(BASE, tmp_path) == base


@pytest.mark.parametrize("key", CHANGES)
def test_changing_a_key_changes_the_outcome(key, base, tmp_path):
    assert outcome(changed(BASE, key, CHANGES[key]), tmp_path) != base
