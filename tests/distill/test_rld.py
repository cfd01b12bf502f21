"""Refined logits: both parts and their gradients against NumPy, wrong experts, mixed labels and the warm-up."""

import numpy as np
import pytest
import torch
from support.logit_methods import ends, logit_terms
from support.oracles import draw, numpy_gradient, softmax
from support.tiny import assert_same_bits

from ctkd_search.config import MethodConfig
from ctkd_search.distill.lesson import Lesson
from ctkd_search.distill.logit_losses import refined_divergences
from ctkd_search.distill.methods.base import make_method
from ctkd_search.geometry import Geometry
from ctkd_search.space.effects import setting_of

pytestmark = pytest.mark.usefixtures("single_thread")

STUDENT, EXPERT = draw(9, 6), draw(9, 6, seed=1)
# The expert is right about some, and takes the right class for the least probable of one.
LABELS = np.concatenate([EXPERT[:3].argmax(axis=1), [0, 2, 4, 1, 5], EXPERT[8:].argmin(axis=1)])


def numpy_parts(student, expert, labels, confidence, temperature):
    """Both divergences of each image, with the squares of their temperatures."""
    found = []
    for z_s, z_e, label in zip(student, expert, labels, strict=True):
        p, q = softmax(z_e[None] / confidence)[0], softmax(z_s[None] / confidence)[0]
        sure, own = np.array([p.max(), 1 - p.max()]), np.array([q[label], 1 - q[label]])
        below = z_e < z_e[label]
        correlation = 0.0
        if below.any():
            p_b, q_b = (softmax(z[below][None] / temperature)[0] for z in (z_e, z_s))
            correlation = (p_b * np.log(p_b / q_b)).sum()
        found.append((confidence**2 * (sure * np.log(sure / own)).sum(), temperature**2 * correlation))
    return np.array(found).T


@pytest.mark.parametrize(("confidence", "temperature"), [(1.0, 4.0), (2.0, 1.0), (4.0, 4.0)])
def test_terms_and_their_gradients_are_those_of_the_formula(confidence, temperature):
    values = {"confidence_temperature": confidence, "temperature": temperature, "alpha": 0.5, "beta": 6.0}
    terms, gradients = logit_terms("rld", values, STUDENT, EXPERT, LABELS)
    parts = numpy_parts(STUDENT, EXPERT, LABELS, confidence, temperature).mean(axis=1)
    assert terms == pytest.approx(
        {
            "loss_ce": -np.log(softmax(STUDENT)[np.arange(9), LABELS]).mean(),
            "loss_confidence": 0.5 * parts[0],
            "loss_correlation": 6.0 * parts[1],
        },
        rel=1e-6,
    )
    for key, weight, part in (("loss_confidence", 0.5, 0), ("loss_correlation", 6.0, 1)):

        def loss(logits, weight=weight, part=part):
            return weight * numpy_parts(logits, EXPERT, LABELS, confidence, temperature)[part].mean()

        assert gradients[key] == pytest.approx(numpy_gradient(loss, STUDENT), abs=1e-5)


def test_classes_that_a_wrong_expert_prefers_teach_nothing():
    student = torch.tensor(STUDENT[:1], requires_grad=True)
    expert = torch.tensor([[3.0, 1.0, 5.0, 0.0, 1.0, -2.0]], dtype=torch.float64)
    lesson = Lesson(torch.zeros(1), torch.tensor([1]))
    refined_divergences(student, expert, lesson, 1.0, 4.0)[1].backward()
    # 0 and 2 are preferred to 1, and 4 is equal to it.
    assert (student.grad[0] != 0).tolist() == [False, False, False, True, False, True]


def test_a_right_class_that_the_expert_takes_for_the_last_gives_no_correlation():
    student = torch.tensor(STUDENT[8:], requires_grad=True)
    part = refined_divergences(
        student, torch.tensor(EXPERT[8:]), Lesson(torch.zeros(1), torch.tensor(LABELS[8:])), 1.0, 4.0
    )[1]
    part.backward()
    assert part.item() == 0
    assert (student.grad == 0).all()


def test_an_expert_that_is_sure_gives_finite_parts_and_gradients():
    student = torch.tensor([[0.0, 200.0, -200.0], [300.0, 0.0, 1.0]], requires_grad=True)
    expert = torch.tensor([[500.0, 0.0, 0.0], [-500.0, 500.0, 0.0]])
    sum(refined_divergences(student, expert, Lesson(torch.zeros(2), torch.tensor([0, 1])), 1.0, 1.0)).backward()
    assert torch.isfinite(student.grad).all()


def test_a_mixed_image_has_the_parts_of_both_classes_by_their_shares():
    partners, shares = LABELS[::-1].copy(), np.linspace(0.1, 0.9, 9)
    lesson = Lesson(torch.zeros(9), torch.tensor(LABELS), partners=torch.tensor(partners), shares=torch.tensor(shares))
    found = refined_divergences(torch.tensor(STUDENT), torch.tensor(EXPERT), lesson, 1.0, 4.0)
    own, other = (numpy_parts(STUDENT, EXPERT, labels, 1.0, 4.0) for labels in (LABELS, partners))
    assert [part.item() for part in found] == pytest.approx(
        (shares * own + (1 - shares) * other).mean(axis=1), rel=1e-6
    )


def test_both_parts_grow_over_the_first_epochs():
    whole, _ = logit_terms("rld", {"warmup_share": 0.5}, STUDENT, EXPERT, LABELS, epoch=7, epochs=8)
    for epoch, warmth in enumerate([0.25, 0.5, 0.75, 1.0, 1.0]):
        terms, _ = logit_terms("rld", {"warmup_share": 0.5}, STUDENT, EXPERT, LABELS, epoch=epoch, epochs=8)
        for key in ("loss_confidence", "loss_correlation"):
            assert terms[key] == pytest.approx(warmth * whole[key], rel=1e-9)


def test_two_classes_leave_nothing_below_the_right_one():
    two = setting_of("wrn-16-1/resnet8", Geometry(2, 1, 8), 100)
    assert set(make_method(MethodConfig("rld")).idle(two)) == {"beta", "temperature"}
    lesson = Lesson(torch.zeros(6), torch.tensor([0, 1, 0, 1, 0, 1]))
    part = refined_divergences(torch.tensor(draw(6, 2)), torch.tensor(draw(6, 2, seed=1)), lesson, 1.0, 4.0)[1]
    assert part.item() == 0


def test_defaults_are_the_authors_and_weights_of_0_need_no_expert():
    assert make_method(MethodConfig("rld")).values == {
        "temperature": 4.0,
        "confidence_temperature": 1.0,
        "alpha": 1.0,
        "beta": 8.0,
        "warmup_share": pytest.approx(20 / 240),
        "standardised": False,
    }
    assert not make_method(MethodConfig("rld", {"alpha": 0.0, "beta": 0.0})).needs.any_expert


def test_standardised_logits_are_compared_by_their_z_scores():
    def scores(logits):
        return (logits - logits.mean(axis=1, keepdims=True)) / logits.std(axis=1, ddof=1, keepdims=True)

    terms, _ = logit_terms("rld", {"standardised": True}, STUDENT, EXPERT, LABELS)
    parts = numpy_parts(scores(STUDENT), scores(EXPERT), LABELS, 1.0, 4.0).mean(axis=1)
    assert (terms["loss_confidence"], terms["loss_correlation"]) == pytest.approx((parts[0], 8 * parts[1]), rel=1e-5)


def test_recorded_logits_teach_what_the_live_expert_does(splits, tmp_path):
    assert_same_bits(*ends("rld", {}, splits, tmp_path))
