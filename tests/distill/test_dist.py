"""Relations between predictions: both correlations and their gradients against NumPy, and their degenerate cases."""

import numpy as np
import pytest
import torch
from support.classroom import Classroom
from support.logit_methods import ends, logit_terms
from support.oracles import draw, numpy_gradient, softmax
from support.tiny import assert_same_bits

from ctkd_search.config import MethodConfig
from ctkd_search.distill.logit_losses import relations
from ctkd_search.distill.methods.base import make_method
from ctkd_search.geometry import Geometry
from ctkd_search.space.effects import setting_of

pytestmark = pytest.mark.usefixtures("single_thread")

STUDENT, EXPERT = draw(7, 5) / 3, draw(7, 5, seed=1) / 3
LABELS = np.array([0, 3, 1, 1, 2, 4, 0])


def pearson(one, other):
    """Pearson's correlation, with the 1e-8 that the authors' code adds to the denominator."""
    one, other = one - one.mean(), other - other.mean()
    return (one * other).sum() / (np.sqrt((one**2).sum() * (other**2).sum()) + 1e-8)


def numpy_relations(student, expert, temperature):
    q, p = softmax(student / temperature), softmax(expert / temperature)
    between = np.mean([pearson(q[i], p[i]) for i in range(len(q))])
    within = np.mean([pearson(q[:, c], p[:, c]) for c in range(q.shape[1])])
    return temperature**2 * (1 - between), temperature**2 * (1 - within)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_terms_and_their_gradients_are_those_of_the_formula(temperature):
    values = {"temperature": temperature, "beta": 2.0, "gamma": 0.5}
    terms, gradients = logit_terms("dist", values, STUDENT, EXPERT, LABELS)
    between, within = numpy_relations(STUDENT, EXPERT, temperature)
    assert terms == pytest.approx(
        {
            "loss_ce": -np.log(softmax(STUDENT)[np.arange(7), LABELS]).mean(),
            "loss_between": 2.0 * between,
            "loss_within": 0.5 * within,
        },
        rel=1e-9,
    )
    for key, weight, part in (("loss_between", 2.0, 0), ("loss_within", 0.5, 1)):

        def loss(logits, weight=weight, part=part):
            return weight * numpy_relations(logits, EXPERT, temperature)[part]

        assert gradients[key] == pytest.approx(numpy_gradient(loss, STUDENT), abs=1e-5)


def test_standardised_logits_are_compared_by_their_z_scores():
    def scores(logits):
        return (logits - logits.mean(axis=1, keepdims=True)) / logits.std(axis=1, ddof=1, keepdims=True)

    terms, _ = logit_terms("dist", {"standardised": True, "temperature": 2.0}, STUDENT, EXPERT, LABELS)
    between, within = numpy_relations(scores(STUDENT), scores(EXPERT), 2.0)
    assert (terms["loss_between"], terms["loss_within"]) == pytest.approx((2 * between, 2 * within), rel=1e-5)


def test_predictions_that_do_not_vary_give_finite_gradients():
    for student, expert in (
        (torch.zeros(4, 5), torch.tensor(EXPERT[:4])),
        (torch.tensor(STUDENT[:1]), torch.ones(1, 5)),
    ):
        logits = student.double().requires_grad_()
        between, within = relations(logits, expert.double(), 4.0)
        (between + within).backward()
        assert torch.isfinite(logits.grad).all()
    # Of one image there is nothing to correlate within a class.
    assert relations(torch.tensor(STUDENT[:1]), torch.tensor(EXPERT[:1]), 1.0)[1].item() == pytest.approx(1.0)


def test_two_classes_are_always_correlated_by_1_or_minus_1():
    logits = torch.tensor(draw(6, 2) / 3, requires_grad=True)
    between, _ = relations(logits, torch.tensor(draw(6, 2, seed=1) / 3), 1.0)
    between.backward()
    assert logits.grad.abs().max().item() < 1e-6
    two, three = (setting_of("wrn-16-1/resnet8", Geometry(classes, 1, 8), 4) for classes in (2, 3))
    assert list(make_method(MethodConfig("dist")).idle(two)) == ["beta"]
    assert make_method(MethodConfig("dist")).idle(three) == {}


def test_defaults_are_the_paper_s_and_weights_of_0_need_no_expert():
    values = make_method(MethodConfig("dist")).values
    assert values == {"temperature": 4.0, "beta": 2.0, "gamma": 2.0, "standardised": False}
    assert make_method(MethodConfig("dist", {"beta": 0.0})).needs.any_expert
    assert not make_method(MethodConfig("dist", {"beta": 0.0, "gamma": 0.0})).needs.any_expert


def test_the_relations_of_a_student_that_is_the_expert_are_perfect():
    between, within = relations(torch.tensor(EXPERT), torch.tensor(EXPERT), 1.0)
    assert (between.item(), within.item()) == pytest.approx((0.0, 0.0), abs=1e-5)
    room = Classroom(MethodConfig("dist"))
    assert all(torch.isfinite(term) for term in room.terms().values())


def test_recorded_logits_teach_what_the_live_expert_does(splits, tmp_path):
    assert_same_bits(*ends("dist", {}, splits, tmp_path))
