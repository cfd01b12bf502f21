"""Transformed teacher matching: the weighted divergence and its gradient against NumPy, and what a power means."""

import numpy as np
import pytest
import torch
from support.logit_methods import ends, logit_terms
from support.oracles import draw, numpy_gradient, softmax
from support.tiny import assert_same_bits

from ctkd_search.config import MethodConfig
from ctkd_search.distill.logit_losses import transformed_divergence
from ctkd_search.distill.losses import softened_divergence
from ctkd_search.distill.methods.base import make_method

pytestmark = pytest.mark.usefixtures("single_thread")

STUDENT, EXPERT = draw(7, 5), draw(7, 5, seed=1)
LABELS = np.array([0, 3, 1, 1, 2, 4, 0])


def numpy_matching(student, expert, gamma, weighted):
    powers = softmax(expert) ** gamma
    sums = powers.sum(axis=1)
    p, q = powers / sums[:, None], softmax(student)
    divergences = (p * np.log(p / q)).sum(axis=1)
    return np.mean(sums * divergences if weighted else divergences)


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("gamma", [0.1, 0.2, 1.0, 2.0])
def test_the_term_and_its_gradient_are_those_of_the_formula(gamma, weighted):
    values = {"gamma": gamma, "weight": 3.0, "weighted": weighted}
    terms, gradients = logit_terms("wttm", values, STUDENT, EXPERT, LABELS)
    assert terms == pytest.approx(
        {
            "loss_ce": -np.log(softmax(STUDENT)[np.arange(7), LABELS]).mean(),
            "loss_matching": 3.0 * numpy_matching(STUDENT, EXPERT, gamma, weighted),
        },
        rel=1e-9,
    )
    expected = numpy_gradient(lambda logits: 3.0 * numpy_matching(logits, EXPERT, gamma, weighted), STUDENT)
    assert gradients["loss_matching"] == pytest.approx(expected, abs=1e-5)


def test_a_power_is_a_temperature_of_the_expert_alone():
    student, expert = torch.tensor(STUDENT), torch.tensor(EXPERT)
    found = transformed_divergence(student, expert, 0.25, weighted=False)
    assert found.item() == pytest.approx(softened_divergence(student, expert / 4, 1.0).item(), rel=1e-9)
    same = transformed_divergence(student, expert, 1.0, weighted=True)
    assert same.item() == pytest.approx(softened_divergence(student, expert, 1.0).item(), rel=1e-9)


def test_an_image_of_which_the_expert_is_unsure_counts_for_more():
    student = torch.tensor([[0.0, 2.0, 1.0, -1.0]])
    sure, unsure = torch.tensor([[40.0, 0.0, 0.0, 0.0]]), torch.zeros(1, 4)
    ratios = [
        (transformed_divergence(student, z, 0.2, True) / transformed_divergence(student, z, 0.2, False)).item()
        for z in (sure, unsure)
    ]
    # Between 1 and classes^(1 - gamma).
    assert ratios == pytest.approx([1 + 3 * np.exp(-8.0), 4**0.8], rel=1e-5)


def test_an_expert_that_is_sure_gives_finite_terms_and_gradients():
    student = torch.tensor([[0.0, 200.0, -200.0]], requires_grad=True)
    transformed_divergence(student, torch.tensor([[500.0, 0.0, 0.0]]), 0.2, True).backward()
    assert torch.isfinite(student.grad).all()


def test_defaults_are_the_authors_example_and_a_weight_of_0_needs_no_expert():
    assert make_method(MethodConfig("wttm")).values == {"gamma": 0.2, "weight": 4.0, "weighted": True}
    assert not make_method(MethodConfig("wttm", {"weight": 0.0})).needs.any_expert


def test_recorded_logits_teach_what_the_live_expert_does(splits, tmp_path):
    assert_same_bits(*ends("wttm", {}, splits, tmp_path))
