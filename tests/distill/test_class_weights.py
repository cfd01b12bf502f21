"""Class weights: from the numbers of images, in the cross-entropy against a plain loop, and in every training."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from support.classroom import METHODS, Classroom, defaults
from support.oracles import draw, softmax
from support.tiny import CPU, TINY, assert_same_bits, both_trained_by, changed, copied, prepared_trainer, tiny_splits

from ctkd_search.distill.class_weights import class_weights
from ctkd_search.distill.lesson import Lesson, StudentOutput, plain_lessons
from ctkd_search.distill.losses import F, cross_entropy
from ctkd_search.distill.recording import make_stream, scratch_run, start_teacher
from ctkd_search.distill.step import StepPool, StudentStep
from ctkd_search.recipe import Recipe

pytestmark = pytest.mark.usefixtures("single_thread")
LABELS, PARTNERS, SHARES = [0, 3, 1, 1, 2], [2, 2, 1, 0, 3], [0.3, 1.0, 0.5, 0.0, 0.9]
WEIGHTS = [0.5, 4.0, 1.0, 2.5]
MIXED = pytest.mark.parametrize("mixed", [False, True])
SMOOTHING = pytest.mark.parametrize("smoothing", [0.0, 0.2])


def lesson_of(mixed, smoothing, weights=WEIGHTS):
    both = {"partners": torch.tensor(PARTNERS), "shares": torch.tensor(SHARES, dtype=torch.float64)} if mixed else {}
    weights = torch.tensor(weights, dtype=torch.float64)
    return Lesson(torch.zeros(5), torch.tensor(LABELS), smoothing=smoothing, class_weights=weights, **both)


def plain_loss(logits, mixed, smoothing):
    """The mean over the images of the cross-entropy with each class of the label, by its share and its weight."""
    loss, gradient = 0.0, np.zeros_like(logits)
    for number, own in enumerate(logits):
        predicted = softmax(own[None])[0]
        parts = [(LABELS[number], SHARES[number]), (PARTNERS[number], 1 - SHARES[number])]
        for label, share in parts if mixed else [(LABELS[number], 1.0)]:
            target = (1 - smoothing) * np.eye(4)[label] + smoothing / 4
            weight = share * WEIGHTS[label] / len(logits)
            loss -= weight * (target * np.log(predicted)).sum()
            gradient[number] += weight * (predicted - target)
    return loss, gradient


@MIXED
@SMOOTHING
def test_weighted_cross_entropy_and_its_gradient_are_those_of_a_plain_loop(mixed, smoothing):
    expected, gradient = plain_loss(draw(5, 4), mixed, smoothing)
    logits = torch.tensor(draw(5, 4), requires_grad=True)
    found = cross_entropy(logits, lesson_of(mixed, smoothing))
    found.backward()
    assert found.item() == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(logits.grad, gradient, rtol=1e-9, atol=1e-12)


def test_without_smoothing_it_is_torch_s_own_for_probabilities():
    logits, weights = torch.tensor(draw(5, 4)), torch.tensor(WEIGHTS, dtype=torch.float64)
    targets = torch.zeros(5, 4, dtype=torch.float64)
    for number, (own, partner, share) in enumerate(zip(LABELS, PARTNERS, SHARES, strict=True)):
        targets[number, own] += share
        targets[number, partner] += 1 - share
    expected = F.cross_entropy(logits, targets, weight=weights)
    torch.testing.assert_close(cross_entropy(logits, lesson_of(True, 0.0)), expected)
    expected = F.cross_entropy(logits, F.one_hot(torch.tensor(LABELS), 4).double(), weight=weights)
    torch.testing.assert_close(cross_entropy(logits, lesson_of(False, 0.0)), expected)


@MIXED
@SMOOTHING
def test_equal_weights_change_nothing(mixed, smoothing):
    logits, lesson = torch.tensor(draw(5, 4)), lesson_of(mixed, smoothing, [1.0] * 4)
    without = cross_entropy(logits, dataclasses.replace(lesson, class_weights=None))
    torch.testing.assert_close(cross_entropy(logits, lesson), without)


def splits_with(*counts, classes=None):
    splits = tiny_splits()
    labels = np.repeat(np.arange(len(counts)), counts)
    images = dataclasses.replace(splits.train, pixels=splits.train.pixels[: len(labels)], labels=labels)
    return dataclasses.replace(splits, train=images, classes=tuple("abcdefghij"[: classes or len(counts)]))


def weights_of(splits, augment=TINY.augment, **settings):
    return class_weights(Recipe(**settings), splits, augment, CPU)


def test_balanced_weights_are_scikit_learn_s():
    splits = splits_with(20, 12, 5, 3)
    expected = compute_class_weight("balanced", classes=np.arange(4), y=splits.train.labels)
    np.testing.assert_allclose(weights_of(splits, class_weights="balanced"), expected, rtol=1e-6)


@pytest.mark.parametrize("beta", [0.5, 0.99, 0.999999999])
def test_effective_weights_are_those_of_the_paper_with_a_mean_of_1_over_the_images(beta):
    counts = np.array([20, 12, 5, 3])
    found = weights_of(splits_with(*counts), class_weights="effective", effective_beta=beta).numpy()
    # The sum 1 + beta + ... + beta^(n - 1), which the paper's quotient is, without its rounding near 1.
    paper = np.array([1 / sum(beta**power for power in range(count)) for count in counts])
    np.testing.assert_allclose(found, paper * counts.sum() / (counts * paper).sum(), rtol=1e-6)
    assert (counts * found).sum() / counts.sum() == pytest.approx(1)


def test_effective_weights_go_from_equal_ones_to_the_balanced_ones():
    splits = splits_with(20, 12, 5, 3)
    balanced = weights_of(splits, class_weights="balanced")
    low, high = (weights_of(splits, class_weights="effective", effective_beta=beta) for beta in (1e-9, 1 - 1e-9))
    torch.testing.assert_close(low, torch.ones(4))
    torch.testing.assert_close(high, balanced)


@pytest.mark.parametrize("kind", ["balanced", "effective"])
def test_a_class_without_images_leaves_the_weights_of_the_others_as_they_are(kind):
    found = weights_of(splits_with(20, 12, 5, classes=4), class_weights=kind)
    assert found.isfinite().all()
    torch.testing.assert_close(found[:3], weights_of(splits_with(20, 12, 5), class_weights=kind))


@pytest.mark.parametrize("kind", ["balanced", "effective"])
def test_weights_of_classes_that_are_shown_equally_often_are_equal(kind):
    sampled = dataclasses.replace(TINY.augment, sampling="balanced")
    assert weights_of(splits_with(20, 12, 5, 3), sampled, class_weights=kind).tolist() == [1.0] * 4


def test_given_weights_are_used_as_they_are_and_none_are_none():
    splits = splits_with(20, 12, 5, 3)
    assert weights_of(splits, class_weights=(1.0, 2.0, 0.5, 8.0)).tolist() == [1.0, 2.0, 0.5, 8.0]
    assert weights_of(splits) is None


@METHODS
def test_class_weights_reach_the_loss_of_every_method(name):
    room = Classroom(defaults(name))
    weights = torch.linspace(0.2, 3.0, room.geometry[0])
    lesson = room.lesson()
    output = StudentOutput(*room.network(lesson.images))
    weighted = dataclasses.replace(lesson, class_weights=weights)
    plain, moved = room.method.terms(output, lesson), room.method.terms(output, weighted)
    assert not torch.equal(plain["loss_ce"], moved["loss_ce"])
    # Fresh rooms, because a step of some methods draws what it computes.
    room, expected = Classroom(defaults(name)), Classroom(defaults(name))
    step = StudentStep(room.network, room.method, room.recipe, CPU, class_weights=weights)
    terms = expected.method.terms(StudentOutput(*expected.network(lesson.images)), weighted)
    assert step(lesson)["loss"].item() == pytest.approx(12 * sum(terms.values()).item(), rel=1e-6)


def weighted(config, **settings):
    return both_trained_by(dataclasses.replace(config.train, **settings), config)


def test_a_teacher_learns_from_weighted_images():
    splits, plain = tiny_splits(), TINY
    stream = make_stream(splits, TINY.augment, 0, CPU)
    lessons = list(plain_lessons(stream, stream.plan(0), 16))[:2]
    given = weighted(TINY, class_weights=tuple(float(number + 1) for number in range(10)))
    found = [
        list(start_teacher(scratch_run(one, "data", CPU, 40), splits, CPU).train(lessons, 0, 2))
        for one in (plain, given)
    ]
    assert torch.equal(*(steps[0][0] for steps in found))
    assert not torch.equal(*(steps[1][0] for steps in found))


def test_recorded_equals_live_with_weighted_classes_for_another_batch_size(splits, cache):
    live = changed(weighted(TINY, class_weights="balanced"), "train.batch_size", 7)
    recorded = changed(changed(live, "teachers.mode", "recorded"), "teachers.storage", "float32")
    trainers = [prepared_trainer(config, splits, cache) for config in (live, recorded)]
    losses = [[trainer.run_epoch()["loss"] for _ in range(TINY.epochs)] for trainer in trainers]
    assert losses[0] == losses[1]
    assert_same_bits(*(copied(trainer.student) for trainer in trainers))


def test_a_step_used_again_takes_the_weights_of_the_next_trial(splits, cache):
    one, other = (weighted(TINY, class_weights="effective", effective_beta=beta, average=0.0) for beta in (0.3, 0.9))
    pool = StepPool()

    def losses(config, steps):
        from ctkd_search.distill.build import make_trainer

        trainer = make_trainer(config, splits, cache, CPU, steps=steps)
        return [trainer.run_epoch()["loss"] for _ in range(2)], trainer.step

    first, second = losses(one, pool), losses(other, pool)
    assert first[1] is second[1]
    assert second[0] == losses(other, None)[0] != first[0]
    assert losses(TINY, pool)[1] is not first[1]
