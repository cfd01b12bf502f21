"""Mixed and smoothed labels: the cross-entropy against a plain loop, and in every method."""

import dataclasses

import numpy as np
import pytest
import torch
from support.classroom import METHODS, Classroom, defaults
from support.oracles import draw, softmax
from support.tiny import CPU, TINY, changed, tiny_splits

from ctkd_search.config import Augment, MethodConfig
from ctkd_search.distill import optimizers
from ctkd_search.distill.lesson import Lesson, StudentOutput, plain_lessons
from ctkd_search.distill.losses import F, cross_entropy, decoupled_divergences
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.recording import make_stream, scratch_run, start_teacher
from ctkd_search.distill.step import StudentStep, clone_lesson, copy_lesson

pytestmark = pytest.mark.usefixtures("single_thread")

LABELS, PARTNERS, SHARES = [0, 3, 1, 1, 2], [2, 2, 1, 0, 3], [0.3, 1.0, 0.5, 0.0, 0.9]
SMOOTHING = pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])


def lesson_of(labels=LABELS, partners=None, shares=None, smoothing=0.0):
    mixed = (
        {}
        if partners is None
        else {"partners": torch.tensor(partners), "shares": torch.tensor(shares, dtype=torch.float64)}
    )
    return Lesson(torch.zeros(len(labels)), torch.tensor(labels), smoothing=smoothing, **mixed)


def plain_loss(logits, smoothing):
    """The mean over the images of -sum of q log p, and its gradient (p - q) / images."""
    loss, gradient = 0.0, np.zeros_like(logits)
    for number, own in enumerate(logits):
        label = np.zeros(4)
        label[LABELS[number]] += SHARES[number]
        label[PARTNERS[number]] += 1 - SHARES[number]
        label = (1 - smoothing) * label + smoothing / 4
        predicted = softmax(own[None])[0]
        loss -= (label * np.log(predicted)).sum() / len(logits)
        gradient[number] = (predicted - label) / len(logits)
    return loss, gradient


@SMOOTHING
def test_cross_entropy_with_mixed_labels_and_its_gradient_are_those_of_a_plain_loop(smoothing):
    expected, gradient = plain_loss(draw(5, 4), smoothing)
    logits = torch.tensor(draw(5, 4), requires_grad=True)
    found = cross_entropy(logits, lesson_of(LABELS, PARTNERS, SHARES, smoothing))
    found.backward()
    assert found.item() == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(logits.grad, gradient, rtol=1e-9, atol=1e-12)


@SMOOTHING
def test_without_mixing_it_is_torch_s_own(smoothing):
    logits = torch.tensor(draw(5, 4))
    expected = F.cross_entropy(logits, torch.tensor(LABELS), label_smoothing=smoothing)
    torch.testing.assert_close(cross_entropy(logits, lesson_of(smoothing=smoothing)), expected)
    torch.testing.assert_close(cross_entropy(logits, lesson_of(smoothing=torch.tensor(smoothing))), expected)
    assert torch.equal(cross_entropy(logits, lesson_of()), F.cross_entropy(logits, torch.tensor(LABELS)))


def test_divergences_of_a_mixed_image_are_those_of_both_classes_by_their_shares():
    student, expert = torch.tensor(draw(5, 4)), torch.tensor(draw(5, 4, seed=1))
    expected = np.zeros(2)
    for number, share in enumerate(SHARES):
        one = (student[[number]], expert[[number]])
        for labels, weight in ((LABELS, share), (PARTNERS, 1 - share)):
            parts = decoupled_divergences(*one, lesson_of(labels[number : number + 1]), 3.0)
            expected += weight * np.array([part.item() for part in parts]) / 5
    found = decoupled_divergences(student, expert, lesson_of(LABELS, PARTNERS, SHARES), 3.0)
    assert [part.item() for part in found] == pytest.approx(expected, rel=1e-9)


def test_gradient_of_mixed_divergences_is_that_of_finite_differences():
    expert, lesson = torch.tensor(draw(5, 4, seed=1)), lesson_of(LABELS, PARTNERS, SHARES)
    assert torch.autograd.gradcheck(
        lambda logits: decoupled_divergences(logits, expert, lesson, 4.0), torch.tensor(draw(5, 4), requires_grad=True)
    )


@METHODS
def test_terms_of_mixed_images_are_those_of_both_classes_by_their_shares(name):
    lesson = Classroom(defaults(name)).lesson()

    def terms(one):
        # A new one each time, because a method may remember what it has seen.
        room = Classroom(defaults(name))
        return room.method.terms(StudentOutput(*room.network(lesson.images)), one)

    partners = lesson.labels.roll(1)
    both = [terms(one) for one in (lesson, dataclasses.replace(lesson, labels=partners))]
    found = terms(dataclasses.replace(lesson, partners=partners, shares=torch.full((12,), 0.3)))
    assert found.keys() == both[0].keys()
    for key, term in found.items():
        torch.testing.assert_close(term, 0.3 * both[0][key] + 0.7 * both[1][key], rtol=1e-5, atol=1e-6)
    assert any(not torch.allclose(both[0][key], both[1][key]) for key in found)


def mixed_lessons():
    stream = make_stream(tiny_splits(), Augment(crop=1, mixup=0.5), 0, CPU)
    return list(plain_lessons(stream, stream.plan(0), TINY.train.batch_size))


def test_lessons_of_mixed_images_have_the_labels_of_both():
    stream, lessons = make_stream(tiny_splits(), Augment(crop=1, mixup=0.5), 0, CPU), mixed_lessons()
    plan = stream.plan(0)
    labels = stream.labels[plan.order]
    assert torch.equal(torch.cat([lesson.labels for lesson in lessons]), labels)
    assert torch.equal(torch.cat([lesson.partners for lesson in lessons]), labels[plan.mixing.partners])
    assert torch.equal(torch.cat([lesson.shares for lesson in lessons]), plan.mixing.shares)


def test_a_teacher_learns_from_the_mixed_labels():
    run, splits = scratch_run(TINY, "data", CPU, 40), tiny_splits()
    first, second, *_ = mixed_lessons()
    plain = dataclasses.replace(first, partners=None, shares=None)
    mixed, unmixed, wanted = (start_teacher(run, splits, CPU) for _ in range(3))
    (found,) = list(mixed.train([first, second], 0, 2))[1]
    assert not torch.equal(list(unmixed.train([plain, second], 0, 2))[1][0], found)
    wanted.network.train()
    optimizers.set_lr(wanted.optimizer, run.recipe.lr)
    cross_entropy(wanted.network(first.images)[0].float(), first).backward()
    wanted.optimizer.step()
    with torch.no_grad():
        assert torch.equal(wanted.network(second.images)[0], found)


def test_mixed_labels_are_copied_with_a_lesson():
    first, second, *_ = mixed_lessons()
    kept = clone_lesson(first)
    assert torch.equal(kept.shares, first.shares)
    memory = kept.shares.data_ptr(), kept.partners.data_ptr()
    copy_lesson(second, kept)
    assert memory == (kept.shares.data_ptr(), kept.partners.data_ptr())
    for name in ("images", "labels", "partners", "shares"):
        assert torch.equal(getattr(kept, name), getattr(second, name))


def test_training_accuracy_counts_the_class_of_the_image_itself():
    room = Classroom(defaults("none"))
    lesson = room.lesson()
    predicted = room.network(lesson.images)[0].argmax(dim=1)
    mixed = dataclasses.replace(
        lesson, labels=predicted, partners=(predicted + 1) % room.geometry[0], shares=torch.zeros(12)
    )
    assert room.step()(mixed)["train_accuracy"] == 12


@METHODS
def test_the_recipe_s_smoothing_reaches_the_loss_of_every_method(name):
    room = Classroom(defaults(name))
    lesson = room.lesson()
    output = StudentOutput(*room.network(lesson.images))
    plain, smoothed = (
        room.method.terms(output, dataclasses.replace(lesson, smoothing=smoothing)) for smoothing in (0.0, 0.2)
    )
    assert room.method.learns_labels
    moved = {key for key in plain if not torch.equal(plain[key], smoothed[key])}
    assert "loss_ce" in moved
    # A fresh room, because a step of some methods draws what it computes.
    room = Classroom(defaults(name))
    step = StudentStep(room.network, room.method, dataclasses.replace(room.recipe, label_smoothing=0.2), CPU)
    expected = Classroom(defaults(name))
    output = StudentOutput(*expected.network(lesson.images))
    terms = expected.method.terms(output, dataclasses.replace(lesson, smoothing=0.2))
    assert step(lesson)["loss"].item() == pytest.approx(12 * sum(terms.values()).item(), rel=1e-6)


@pytest.mark.parametrize(
    "config",
    [
        MethodConfig("kd", {"weight": 1.0}),
        MethodConfig("rco", {"weight": 1.0}),
        MethodConfig("fitnets", {"training": "stages", "weight": 1.0, "hint_layers": (1,)}),
    ],
    ids=lambda config: config.name,
)
def test_a_method_without_labels_in_its_loss_says_so(config):
    room = Classroom(config)
    lesson = room.lesson()
    output = StudentOutput(*room.network(lesson.images))
    terms = room.method.terms(output, lesson)
    others = room.method.terms(output, dataclasses.replace(lesson, labels=lesson.labels.roll(1), smoothing=0.3))
    assert not room.method.learns_labels
    torch.testing.assert_close(terms, others, rtol=0, atol=0)


def test_the_smoothing_of_the_method_none_takes_the_place_of_the_recipe_s():
    lesson = dataclasses.replace(lesson_of(), smoothing=0.5)
    output = StudentOutput(torch.tensor(draw(5, 4)), [])
    own = make_method(MethodConfig("none", {"label_smoothing": 0.1})).terms(output, lesson)
    assert own == {"loss_ce": cross_entropy(output.logits, lesson_of(smoothing=0.1))}
    without = make_method(MethodConfig("none", {"label_smoothing": 0.0})).terms(output, lesson)
    assert without == {"loss_ce": cross_entropy(output.logits, lesson)}


def test_a_teacher_learns_from_smoothed_labels():
    smoothed = dataclasses.replace(TINY.teachers.recipe, label_smoothing=0.3)
    config, splits = changed(TINY, "teachers.recipe", smoothed), tiny_splits()
    lessons = mixed_lessons()[:2]
    found = [
        list(start_teacher(scratch_run(one, "data", CPU, 40), splits, CPU).train(lessons, 0, 2))
        for one in (TINY, config)
    ]
    assert torch.equal(*(steps[0][0] for steps in found))
    assert not torch.equal(*(steps[1][0] for steps in found))


def test_a_recipe_without_smoothing_has_the_name_that_it_had_before():
    run = scratch_run(TINY, "data", CPU, 40)
    assert "label_smoothing" not in run.content()["recipe"]
    smoothed = dataclasses.replace(run, recipe=dataclasses.replace(run.recipe, label_smoothing=0.1))
    assert smoothed.content()["recipe"]["label_smoothing"] == 0.1
    assert smoothed.entry != run.entry
