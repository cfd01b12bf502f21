"""Trials of recorded teachers: what they come to, to be compared with live ones."""

import dataclasses

import torch

from ctkd_search.config import Augment, DatasetConfig, MethodConfig, TeachersConfig, TrialConfig
from ctkd_search.distill.build import make_trainer, teacher_runs
from ctkd_search.distill.recording import prepare
from ctkd_search.distill.requests import Needs
from ctkd_search.recipe import Recipe
from support.methods import with_values

CPU = torch.device("cpu")

EPOCHS = 2

TEACHER_RECIPE = Recipe(batch_size=24, lr=0.05, precision="float32")

BASE = TrialConfig(
    dataset=DatasetConfig("digits", validation=0.15),
    epochs=EPOCHS,
    teacher="wrn-10-1",
    student="resnet8",
    method=MethodConfig(
        "ctkd", {"step_loss": "kl", "temperature": 4.0, "alpha": 0.5, "beta": 5.0, "attention_layers": (1, 2, 3)}
    ),
    augment=Augment(crop=1, flip=False),
    train=Recipe(batch_size=24, lr=0.05, precision="float32"),
    teachers=TeachersConfig(recipe=TEACHER_RECIPE, storage="float32"),
)


def varied(batch_size=24, teachers=None, **method):
    return dataclasses.replace(
        BASE,
        method=with_values(BASE.method, **method),
        train=dataclasses.replace(BASE.train, batch_size=batch_size),
        teachers=dataclasses.replace(BASE.teachers, **(teachers or {})),
    )


def live(config):
    return dataclasses.replace(config, teachers=dataclasses.replace(config.teachers, mode="live"))


def prepare_all(config, splits, cache):
    steps = 0
    for run, storage in teacher_runs(
        config, splits.fingerprint, CPU, Needs(scratch=True, network=True), len(splits.train)
    ).items():
        steps += len(list(prepare(run, splits, cache, CPU, storage)))
    return steps


def losses_of(trainer):
    lessons = (lesson for epoch in range(trainer.epochs) for lesson in trainer.teachers.lessons(epoch))
    return [trainer.step(lesson)["loss"].item() for lesson in lessons]


def trained(config, splits, cache):
    """The loss of every step, the student's last weights, and what there was to say."""
    prepare_all(config, splits, cache)
    trainer = make_trainer(config, splits, cache, CPU)
    steps, notes = [], []
    for epoch in range(config.epochs):
        steps += [trainer.step(lesson)["loss"].item() for lesson in trainer.teachers.lessons(epoch)]
        notes += trainer.teachers.notes()
    return steps, [value.clone() for value in trainer.student.state_dict().values()], notes


def assert_same(one, other):
    assert one[0] == other[0]
    assert all(torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))
