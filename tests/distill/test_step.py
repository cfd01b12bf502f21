"""Steps that are used again from trial to trial, and the capture of a step where there is a GPU."""

import copy
import dataclasses
import math

import pytest
import torch
from support.methods import with_values
from support.tiny import CPU, TINY, assert_same_bits, changed, copied, prepare_teachers

from ctkd_search.config import MethodConfig
from ctkd_search.distill import optimizers
from ctkd_search.distill.build import make_trainer
from ctkd_search.distill.lesson import Lesson, StudentOutput
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.requests import ATTENTION, LOGITS, TeacherOutput
from ctkd_search.distill.step import (
    CapturedStep,
    GraphMemory,
    StepPool,
    StudentStep,
    clone_lesson,
    copy_lesson,
    has_form,
    make_step,
)
from ctkd_search.distill.top_logits import KeptLogits

pytestmark = pytest.mark.usefixtures("single_thread")
RECORDED = changed(TINY, "teachers.mode", "recorded")
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def trained(config, splits, cache, steps=None, device=CPU):
    prepare_teachers(config, splits, cache)
    trainer = make_trainer(config, splits, cache, device, steps=steps)
    losses = [trainer.run_epoch()["loss"] for _ in range(config.epochs)]
    return losses, copied(trainer.student), trainer


OTHER_NUMBERS = {"method.temperature": 2.0, "method.alpha": 0.1, "method.beta": 3.0, "train.lr": 0.02}


def test_a_step_used_again_trains_as_a_new_one(splits, cache):
    other = RECORDED
    for key, value in OTHER_NUMBERS.items():
        other = changed(other, key, value)
    pool = StepPool()
    first = trained(RECORDED, splits, cache, pool)
    second = trained(other, splits, cache, pool)
    third = trained(RECORDED, splits, cache, pool)
    assert first[2].step is second[2].step is third[2].step
    for again, alone in ((second, trained(other, splits, cache)), (third, trained(RECORDED, splits, cache))):
        assert again[0] == alone[0]
        assert_same_bits(again[1], alone[1])


def test_the_first_gradient_of_a_step_used_again_is_not_dampened(splits, cache):
    config, pool = changed(RECORDED, "train.optimizer_options", {"dampening": 0.9}), StepPool()
    found = [trained(config, splits, cache, pool) for _ in range(2)]
    assert found[0][2].step is found[1][2].step
    assert found[1][0] == found[0][0] != trained(RECORDED, splits, cache)[0]


STRUCTURE = {
    "student": "wrn-10-1",
    "method.step_loss": "mse",
    "method.attention_layers": (1, 2),
    "method.alpha": 0.0,
    "method.beta": 0.0,
    "train.batch_size": 8,
    "train.momentum": 0.5,
    "train.nesterov": True,
    "train.weight_decay": 0.1,
    "train.precision": "bfloat16",
}


@pytest.mark.parametrize("key", STRUCTURE)
def test_a_trial_of_another_structure_has_a_step_of_its_own(key, splits, cache):
    pool = StepPool()
    one = trained(RECORDED, splits, cache, pool)
    other = trained(changed(RECORDED, key, STRUCTURE[key]), splits, cache, pool)
    assert one[2].step is not other[2].step
    assert other[0] == trained(changed(RECORDED, key, STRUCTURE[key]), splits, cache)[0]


@pytest.mark.parametrize("name", ["dml", "fitnets"])
def test_what_is_built_around_a_student_for_one_teacher_serves_no_other(name, splits, cache):
    pool = StepPool()
    wide, narrow = (
        changed(changed(RECORDED, "method", MethodConfig(name)), "teacher", teacher)
        for teacher in ("wrn-10-2", "wrn-10-1")
    )
    first = trained(wide, splits, cache, pool)
    second = trained(narrow, splits, cache, pool)
    assert first[2].step is not second[2].step
    assert second[0] == trained(narrow, splits, cache)[0]
    assert trained(wide, splits, cache, pool)[2].step is first[2].step


@pytest.mark.parametrize("name", ["at", "pkt", "kd"])
def test_a_step_serves_other_teachers_where_it_hears_logits_alone(name, splits, cache):
    pool = StepPool()
    wide, narrow = (
        trained(changed(changed(RECORDED, "method", MethodConfig(name)), "teacher", teacher), splits, cache, pool)[
            2
        ].step
        for teacher in ("wrn-10-2", "wrn-10-1")
    )
    assert (wide is narrow) == (name == "kd")


def test_a_lesson_of_another_form_is_told_from_those_that_a_graph_takes():
    def lesson(images=4, side=8, kept=2):
        logits = KeptLogits(
            torch.zeros(images, kept), torch.zeros(images, kept, dtype=torch.int64), torch.zeros(images, 3)
        )
        outputs = {TeacherOutput(ATTENTION, 1): torch.zeros(images, side * side), LOGITS: logits}
        return Lesson(torch.zeros(images, 1, 8, 8), torch.zeros(images, dtype=torch.int64), expert_outputs=outputs)

    assert has_form(lesson(), lesson())
    others = lesson(images=3), lesson(side=4), lesson(side=1), lesson(kept=3)
    assert not any(has_form(other, lesson()) or has_form(lesson(), other) for other in others)
    fewer = dataclasses.replace(lesson(), expert_outputs={LOGITS: lesson().expert_outputs[LOGITS]})
    assert not has_form(fewer, lesson())
    assert not has_form(lesson(), fewer)


def test_a_pool_keeps_those_used_last(splits, cache):
    pool = StepPool(most=2)
    configs = [changed(RECORDED, "train.batch_size", size) for size in (16, 8, 4)]
    first, second, third = (trained(config, splits, cache, pool)[2].step for config in configs)
    assert trained(configs[2], splits, cache, pool)[2].step is third
    assert trained(configs[1], splits, cache, pool)[2].step is second
    assert trained(configs[0], splits, cache, pool)[2].step is not first


def test_numbers_in_tensors_give_the_same_terms(splits, cache):
    prepare_teachers(RECORDED, splits, cache)
    trainer = make_trainer(RECORDED, splits, cache, CPU)
    lesson = next(trainer.teachers.lessons(0))
    output = StudentOutput(*trainer.student(lesson.images))
    plain, tensors = (make_method(RECORDED.method) for _ in range(2))
    tensors.numbers_to(CPU)
    assert all(isinstance(getattr(tensors, name), torch.Tensor) for name in ("temperature", "alpha", "beta"))
    for name, value in plain.terms(output, lesson).items():
        torch.testing.assert_close(tensors.terms(output, lesson)[name], value, rtol=1e-6, atol=0)
    other = make_method(with_values(RECORDED.method, alpha=0.25, temperature=2.0, beta=7.0))
    memory = tensors.alpha
    tensors.take_numbers(other)
    assert tensors.alpha is memory
    for name, value in other.terms(output, lesson).items():
        torch.testing.assert_close(tensors.terms(output, lesson)[name], value, rtol=1e-6, atol=0)


def test_a_lesson_is_copied_into_the_memory_of_another(splits, cache):
    prepare_teachers(RECORDED, splits, cache)
    first, second, *_ = make_trainer(RECORDED, splits, cache, CPU).teachers.lessons(0)
    kept = clone_lesson(first)
    memory = kept.images.data_ptr()
    copy_lesson(second, kept)
    assert kept.images.data_ptr() == memory
    assert kept.images.is_contiguous(memory_format=torch.channels_last)
    for field in dataclasses.fields(kept):
        assert_same_bits(getattr(kept, field.name), getattr(second, field.name))


def test_momentum_is_taken_up_in_place(splits, cache):
    step = trained(RECORDED, splits, cache)[2].step
    state = copy.deepcopy(step.state_dict()["optimizer"])
    memory = [buffer.data_ptr() for buffer in momentum(step)]
    expected = [buffer.clone() for buffer in momentum(step)]
    for buffer in momentum(step):
        buffer.fill_(1)
    optimizers.put_state(step.optimizer, state)
    assert [buffer.data_ptr() for buffer in momentum(step)] == memory
    assert_same_bits(momentum(step), expected)
    optimizers.put_state(step.optimizer, {})
    assert not any(buffer.any() for buffer in momentum(step))


def momentum(step):
    return [kept["momentum_buffer"] for kept in step.optimizer.state_dict()["state"].values()]


@pytest.mark.parametrize("optimizer", ["sgd", "lamb"])
def test_a_step_that_goes_on_has_the_rate_of_its_schedule_and_not_that_of_the_last_step(optimizer, splits, cache):
    config = changed(changed(RECORDED, "train.optimizer", optimizer), "train.lr", 0.1)
    prepare_teachers(config, splits, cache)
    before, after = (make_trainer(config, splits, cache, CPU).step for _ in range(2))
    before.set_lr(math.nextafter(0.1, 0.0))
    after.load_state_dict(before.state_dict())
    assert [float(group["lr"]) for group in after.optimizer.param_groups] == pytest.approx([after.lr], abs=0)


def test_a_step_is_plain_without_a_gpu(splits, cache):
    prepare_teachers(RECORDED, splits, cache)
    trainer = make_trainer(RECORDED, splits, cache, CPU)
    assert type(make_step(trainer.student, make_method(RECORDED.method), RECORDED.train, CPU)) is StudentStep


@GPU
def test_a_captured_step_trains_as_a_plain_one(splits, cache):
    device = torch.device("cuda")
    pool = StepPool()
    weights = tuple(0.5 + number for number in range(10))
    weighted = [changed(RECORDED, "train.class_weights", given) for given in (weights, weights[::-1], "balanced")]
    for config in (RECORDED, changed(RECORDED, "method.alpha", 0.3), *weighted):
        losses, _, trainer = trained(config, splits, cache, pool, device)
        assert isinstance(trainer.step, CapturedStep)
        assert trainer.notes() == []
        plain = make_trainer(config, splits, cache, device)
        plain.step._refused = "for comparison"
        expected = [plain.run_epoch()["loss"] for _ in range(config.epochs)]
        assert losses == pytest.approx(expected, rel=1e-3)


@GPU
def test_a_method_that_waits_for_the_gpu_is_not_captured_and_trains_as_a_plain_one(splits, cache, monkeypatch):
    device, pool = torch.device("cuda"), StepPool()
    expected, _, _ = trained(RECORDED, splits, cache, StepPool(), device)
    own = type(make_method(RECORDED.method))
    terms = own.terms

    def waiting(self, output, lesson):
        found = terms(self, output, lesson)
        assert all(math.isfinite(term.item()) for term in found.values())
        return found

    monkeypatch.setattr(own, "terms", waiting)
    losses, _, trainer = trained(RECORDED, splits, cache, pool, device)
    assert losses == pytest.approx(expected, rel=1e-3)
    (note,) = trainer.notes()
    assert note.startswith("the student's step could not be captured as a CUDA graph (")
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    assert torch.cuda.get_sync_debug_mode() == 0
    # It was found before anything was captured, so that other methods are captured still.
    monkeypatch.setattr(own, "terms", terms)
    other = changed(RECORDED, "method.step_loss", "mse")
    _, _, trainer = trained(other, splits, cache, pool, device)
    assert trainer.step._graph is not None


def test_after_a_capture_that_broke_off_nothing_is_captured(monkeypatch):
    class Broken:
        def __init__(self, *_, **__):
            pass

        def __enter__(self):
            pass

        def __exit__(self, *exception):
            raise RuntimeError("operation would make the legacy stream depend on a capturing stream")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", object)
    monkeypatch.setattr(torch.cuda, "graph", Broken)
    memory, done = GraphMemory(), []
    with pytest.raises(RuntimeError, match="legacy stream"):
        memory.capture(lambda: done.append(1))
    with pytest.raises(RuntimeError, match="an earlier capture broke off"):
        memory.capture(lambda: done.append(2))
    assert done == [1]
