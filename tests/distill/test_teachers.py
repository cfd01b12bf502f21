"""Live teachers: nothing flows from the student into them, and what they say depends on the stream alone."""

import dataclasses

import pytest
import torch
from support.plain_training import plain_training
from support.tiny import (
    CPU,
    OTHER_RECIPE,
    RECIPE,
    TINY,
    assert_same_bits,
    both_trained_by,
    changed,
    copied,
    prepared_trainer,
)

from ctkd_search.distill.build import load_expert, make_trainer
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.losses import attention_map
from ctkd_search.distill.requests import TeacherOutput

pytestmark = pytest.mark.usefixtures("single_thread")

STUDENT_THINGS = {
    "method.alpha": 0.1,
    "method.beta": 0.0,
    "method.step_loss": "mse",
    "method.temperature": 1.0,
    "method.attention_layers": (2,),
    "student": "wrn-16-1",
    "train.batch_size": 7,
    "train.lr": 0.01,
    "train.momentum": 0.5,
    "train.nesterov": True,
    "train.weight_decay": 0.1,
    "train.milestones": (),
    "train.gamma": 0.5,
}


def trained(config, splits, cache):
    """A trainer after all its epochs."""
    trainer = prepared_trainer(config, splits, cache)
    for _ in range(config.epochs):
        trainer.run_epoch()
    return trainer


def lessons(config, splits, cache):
    """Every lesson of every epoch, joined by position; no student listens."""
    teachers = prepared_trainer(config, splits, cache).teachers
    heard = [lesson for epoch in range(config.epochs) for lesson in teachers.lessons(epoch)]
    said = {
        "images": torch.cat([lesson.images for lesson in heard]),
        "labels": torch.cat([lesson.labels for lesson in heard]),
        "scratch_logits": torch.cat([lesson.scratch_logits for lesson in heard]),
    }
    return heard, said, copied(teachers.scratch.network)


@pytest.mark.parametrize("key", STUDENT_THINGS)
def test_scratch_teacher_does_not_depend_on_anything_of_the_student_s(key, splits, cache):
    expected = copied(trained(TINY, splits, cache).teachers.scratch.network)
    found = copied(trained(changed(TINY, key, STUDENT_THINGS[key]), splits, cache).teachers.scratch.network)
    assert_same_bits(found, expected)


# At a rate at which rounding does not grow.
@pytest.mark.parametrize("recipe", [dataclasses.replace(RECIPE, lr=0.02), OTHER_RECIPE], ids=["a recipe", "another"])
def test_scratch_teacher_is_trained_as_a_plain_loop_trains_it(recipe, splits, cache):
    config = both_trained_by(recipe, changed(TINY, "method.beta", 0.0))
    network, _, said, _ = plain_training(config, splits)
    _, heard, weights = lessons(config, splits, cache)
    torch.testing.assert_close(weights, copied(network), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(heard["scratch_logits"], torch.cat(said), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("teacher_batch", [16, 40, 9])
@pytest.mark.parametrize("student_batch", [1, 7, 8, 39, 128])
def test_lessons_say_the_same_at_each_position_whatever_the_student_s_batch_size(
    splits, cache, teacher_batch, student_batch
):
    config = changed(changed(TINY, "method.beta", 0.0), "teachers.recipe.batch_size", teacher_batch)
    _, expected, expected_weights = lessons(changed(config, "train.batch_size", teacher_batch), splits, cache)
    heard, found, weights = lessons(changed(config, "train.batch_size", student_batch), splits, cache)
    assert_same_bits(found, expected)
    assert_same_bits(weights, expected_weights)
    sizes = [min(student_batch, 40 - start) for start in range(0, 40, student_batch)]
    if sizes[-1] == 1 < student_batch:  # a single last image joins the batch before it
        sizes[-2:] = [student_batch + 1]
    sizes *= config.epochs
    assert [len(lesson.labels) for lesson in heard] == sizes
    assert [len(lesson.scratch_logits) for lesson in heard] == sizes


def test_lesson_s_logits_are_those_before_the_step_that_learns_from_it(splits, cache):
    teachers, untouched = (prepared_trainer(TINY, splits, cache).teachers for _ in range(2))
    lesson = next(teachers.lessons(0))
    before, after = (one.scratch.network.train()(lesson.images)[0].detach() for one in (untouched, teachers))
    torch.testing.assert_close(lesson.scratch_logits, before)
    assert not torch.allclose(lesson.scratch_logits, after, atol=1e-3)


def test_lesson_s_maps_are_those_of_the_expert_in_evaluation_mode(splits, cache):
    trainer = prepared_trainer(changed(TINY, "method.attention_layers", (3, 1)), splits, cache)
    expert = load_expert(TINY, splits, cache, CPU).network
    for lesson in trainer.teachers.lessons(0):
        with torch.no_grad():
            _, maps = expert(lesson.images)
        assert_same_bits(
            dict(lesson.expert_outputs),
            {TeacherOutput("attention", layer): attention_map(maps[layer - 1]) for layer in (3, 1)},
        )


def test_lessons_carry_no_graph(splits, cache):
    for lesson in prepared_trainer(TINY, splits, cache).teachers.lessons(0):
        said = [lesson.images, lesson.scratch_logits, *lesson.expert_outputs.values()]
        assert not any(tensor.requires_grad or tensor.is_inference() for tensor in said)


def test_expert_is_not_changed_by_training(splits, cache):
    trainer = prepared_trainer(TINY, splits, cache)
    network = trainer.teachers.expert(0).network
    before = copied(network)
    for _ in range(TINY.epochs):
        trainer.run_epoch()
        assert not any(module.training for module in network.modules())
    assert_same_bits(copied(network), before)
    assert [parameter.grad for parameter in network.parameters()] == [None] * len(list(network.parameters()))


def test_teachers_that_are_not_needed_are_not_made(splits, tmp_path):
    alone = changed(changed(TINY, "method.alpha", 0.0), "method.beta", 0.0)
    trainer = make_trainer(alone, splits, TeacherCache(tmp_path / "nowhere"), CPU)
    assert trainer.teachers.scratch is None
    assert trainer.teachers.expert is None
    assert not (tmp_path / "nowhere").exists()
    for lesson in trainer.teachers.lessons(0):
        assert lesson.scratch_logits is None
        assert lesson.expert_outputs == {}


def test_another_teachers_seed_gives_another_scratch_teacher(splits, cache):
    config = changed(TINY, "method.beta", 0.0)
    _, first, _ = lessons(config, splits, cache)
    _, second, _ = lessons(changed(config, "teachers.seed", 1), splits, cache)
    assert torch.equal(first["images"], second["images"])
    assert not torch.equal(first["scratch_logits"], second["scratch_logits"])
