"""The student alone: label smoothing against NumPy and against torch's own."""

import dataclasses

import numpy as np
import pytest
import torch
from support.oracles import draw, softmax

from ctkd_search.config import MethodConfig
from ctkd_search.distill.lesson import Lesson, StudentOutput
from ctkd_search.distill.losses import F, cross_entropy
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.requests import Needs

pytestmark = pytest.mark.usefixtures("single_thread")

LOGITS, LABELS = draw(5, 4), np.array([0, 3, 1, 1, 2])
LESSON = Lesson(torch.zeros(5, 1, 8, 8), torch.tensor(LABELS))


def loss(smoothing):
    method = make_method(MethodConfig("none", {"label_smoothing": smoothing}))
    assert method.needs == Needs()
    return {key: term.item() for key, term in method.terms(StudentOutput(torch.tensor(LOGITS), []), LESSON).items()}


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
def test_the_labels_are_smoothed_as_the_paper_says(smoothing):
    labels = (1 - smoothing) * np.eye(4)[LABELS] + smoothing / 4
    expected = -(labels * np.log(softmax(LOGITS))).sum(axis=1).mean()
    assert loss(smoothing) == {"loss_ce": pytest.approx(expected, rel=1e-12)}


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
def test_loss_and_gradient_are_those_of_torch_s_own(smoothing):
    gradients = []
    for of in (
        lambda logits: cross_entropy(logits, dataclasses.replace(LESSON, smoothing=torch.tensor(smoothing))),
        lambda logits: F.cross_entropy(logits, torch.tensor(LABELS), label_smoothing=smoothing),
    ):
        logits = torch.tensor(LOGITS, requires_grad=True)
        of(logits).backward()
        gradients.append(logits.grad)
    torch.testing.assert_close(*gradients)


def test_without_smoothing_it_is_what_every_method_is_without_its_weights():
    assert make_method(MethodConfig("none", {"label_smoothing": 0.0})).canonical() == MethodConfig("none")
    assert make_method(MethodConfig("ctkd", {"alpha": 0.0, "beta": 0.0})).canonical() == MethodConfig("none")
    assert make_method(MethodConfig("none", {"label_smoothing": 0.1})).canonical() == MethodConfig(
        "none", {"label_smoothing": 0.1}
    )
