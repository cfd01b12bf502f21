"""Decoupled knowledge distillation: both parts against NumPy, the sum that they are parts of, and the warm-up."""

import numpy as np
import pytest
import torch
from support.oracles import draw, numpy_kl, softmax

from ctkd_search.config import MethodConfig
from ctkd_search.distill.lesson import Lesson, StudentOutput
from ctkd_search.distill.losses import decoupled_divergences, softened_divergence
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.requests import LOGITS

pytestmark = pytest.mark.usefixtures("single_thread")

TEMPERATURES = pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
CLASSES = pytest.mark.parametrize("classes", [2, 3, 10, 100])


def room(classes):
    labels = np.random.default_rng(2).integers(classes, size=7)
    return draw(7, classes), draw(7, classes, seed=1), labels


def numpy_parts(student, expert, labels, temperature):
    """Target and non-target divergence of each image, without the square of the temperature."""
    target, others = [], []
    for z_s, z_e, label in zip(student, expert, labels, strict=True):
        p, q = softmax(z_e[None] / temperature)[0], softmax(z_s[None] / temperature)[0]
        b_p, b_q = np.array([p[label], 1 - p[label]]), np.array([q[label], 1 - q[label]])
        target.append((b_p * np.log(b_p / b_q)).sum())
        rest_p, rest_q = np.delete(p, label) / (1 - p[label]), np.delete(q, label) / (1 - q[label])
        others.append((rest_p * np.log(rest_p / rest_q)).sum())
    return np.array(target), np.array(others)


def labelled(labels):
    return Lesson(torch.zeros(len(labels)), torch.tensor(labels))


def found(student, expert, labels, temperature):
    parts = decoupled_divergences(torch.tensor(student), torch.tensor(expert), labelled(labels), temperature)
    return [part.item() for part in parts]


@CLASSES
@TEMPERATURES
def test_both_parts_are_the_paper_s(classes, temperature):
    student, expert, labels = room(classes)
    expected = [temperature**2 * part.mean() for part in numpy_parts(student, expert, labels, temperature)]
    assert found(student, expert, labels, temperature) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@TEMPERATURES
def test_hinton_s_divergence_is_the_first_and_the_share_of_the_other_classes_of_the_second(temperature):
    student, expert, labels = room(10)
    rest = 1 - softmax(expert / temperature)[np.arange(7), labels]
    # The parts of each image from the code under test; their sum from NumPy, and from the loss of KD.
    each = [found(student[[i]], expert[[i]], labels[[i]], temperature) for i in range(7)]
    recomposed = np.mean([target + rest[i] * others for i, (target, others) in enumerate(each)])
    assert recomposed == pytest.approx(numpy_kl(student, expert, temperature), rel=1e-6)
    assert recomposed == pytest.approx(
        softened_divergence(torch.tensor(student), torch.tensor(expert), temperature).item(), rel=1e-6
    )


def test_gradient_of_both_parts_is_that_of_finite_differences():
    student, expert, labels = room(5)
    for part in (0, 1):
        assert torch.autograd.gradcheck(
            lambda logits, part=part: decoupled_divergences(logits, torch.tensor(expert), labelled(labels), 4.0)[part],
            torch.tensor(student, requires_grad=True),
        )


def test_an_expert_that_is_sure_gives_finite_parts_and_gradients():
    student = torch.tensor([[0.0, 200.0, -200.0], [300.0, 0.0, 1.0]], requires_grad=True)
    expert, labels = torch.tensor([[500.0, 0.0, 0.0], [-500.0, 500.0, 0.0]]), labelled([0, 1])
    sum(decoupled_divergences(student, expert, labels, 1.0)).backward()
    assert torch.isfinite(student.grad).all()


def test_terms_are_weighed_and_grow_over_the_first_epochs():
    student, expert, labels = room(10)
    values = {"temperature": 3.0, "alpha": 0.5, "beta": 6.0, "warmup_share": 0.5}
    method = make_method(MethodConfig("dkd", values))
    lesson = Lesson(torch.zeros(7, 1, 8, 8), torch.tensor(labels), None, {LOGITS: torch.tensor(expert)})
    target, others = (9.0 * part.mean() for part in numpy_parts(student, expert, labels, 3.0))
    for epoch, warmth in enumerate([0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]):
        method.begin_epoch(epoch, 8)
        terms = {
            key: term.item() for key, term in method.terms(StudentOutput(torch.tensor(student), []), lesson).items()
        }
        assert terms == pytest.approx(
            {
                "loss_ce": -np.log(softmax(student)[np.arange(7), labels]).mean(),
                "loss_target": warmth * 0.5 * target,
                "loss_others": warmth * 6.0 * others,
            },
            rel=1e-6,
        )


def test_the_defaults_are_the_paper_s_and_nothing_is_asked_for_without_weights():
    assert make_method(MethodConfig("dkd")).values == {
        "temperature": 4.0,
        "alpha": 1.0,
        "beta": 8.0,
        "warmup_share": pytest.approx(20 / 240),
        "standardised": False,
    }
    assert not make_method(MethodConfig("dkd", {"alpha": 0.0, "beta": 0.0})).needs.any_expert
    cold = make_method(MethodConfig("dkd", {"warmup_share": 0.0}))
    cold.begin_epoch(0, 10)
    assert cold.warmth == 1.0
