"""CTKD's own terms, against NumPy."""

import dataclasses

import numpy as np
import pytest
import torch
from support.methods import with_values
from support.oracles import draw, numpy_attention, numpy_attention_map, numpy_kl
from support.tiny import CTKD

from ctkd_search.distill.lesson import Lesson, StudentOutput
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.requests import TeacherOutput

LABELS = np.array([0, 3, 1, 2, 9])
LOGITS, SCRATCH = draw(5, 10), draw(5, 10, seed=1)
MAPS = [draw(5, channels, side, side, seed=side) for channels, side in ((16, 8), (32, 4), (64, 2))]
EXPERT = [draw(5, channels, side, side, seed=10 + side) for channels, side in ((32, 8), (64, 4), (128, 2))]


def tensor(array):
    return torch.tensor(array, dtype=torch.float32)


def full_lesson():
    maps = {
        TeacherOutput("attention", layer): tensor(numpy_attention_map(features))
        for layer, features in enumerate(EXPERT, start=1)
    }
    return Lesson(torch.zeros(5, 1, 8, 8), torch.tensor(LABELS), tensor(SCRATCH), maps)


def terms(lesson=None, **values):
    output = StudentOutput(tensor(LOGITS), [tensor(features) for features in MAPS])
    found = make_method(with_values(CTKD, **values)).terms(output, lesson or full_lesson())
    return {key: term.item() for key, term in found.items()}


def numpy_cross_entropy():
    return np.mean([np.log(np.exp(row).sum()) - row[label] for row, label in zip(LOGITS, LABELS, strict=True)])


@pytest.mark.parametrize("layers", [(1, 2, 3), (3,), (2, 1)])
@pytest.mark.parametrize("step_loss", ["kl", "mse"])
@pytest.mark.parametrize(("alpha", "beta", "temperature"), [(1.0, 1000.0, 4.0), (0.3, 7.0, 1.5)])
def test_terms_are_the_weighted_losses(step_loss, layers, alpha, beta, temperature):
    found = terms(step_loss=step_loss, attention_layers=layers, alpha=alpha, beta=beta, temperature=temperature)
    step = numpy_kl(LOGITS, SCRATCH, temperature) if step_loss == "kl" else ((LOGITS - SCRATCH) ** 2).sum() / 5
    attention = sum(numpy_attention(MAPS[layer - 1], EXPERT[layer - 1]) for layer in layers)
    expected = {"loss_ce": numpy_cross_entropy(), "loss_step": alpha * step, "loss_attention": beta * attention}
    assert found == pytest.approx(expected, rel=1e-4)


def test_student_that_already_follows_both_teachers_pays_for_its_mistakes_alone():
    maps = {
        TeacherOutput("attention", layer): tensor(numpy_attention_map(features))
        for layer, features in enumerate(MAPS, start=1)
    }
    lesson = dataclasses.replace(full_lesson(), scratch_logits=tensor(LOGITS), expert_outputs=maps)
    expected = {"loss_ce": numpy_cross_entropy(), "loss_step": 0, "loss_attention": 0}
    assert terms(lesson) == pytest.approx(expected, abs=1e-5)


def test_without_alpha_no_scratch_teacher_is_needed_and_there_is_no_step_term():
    assert make_method(CTKD).needs.scratch
    assert not make_method(with_values(CTKD, alpha=0.0)).needs.scratch
    assert set(terms(alpha=0.0)) == {"loss_ce", "loss_attention"}
    assert set(terms(dataclasses.replace(full_lesson(), scratch_logits=None), alpha=0.0)) == {
        "loss_ce",
        "loss_attention",
    }


def test_without_beta_no_expert_is_needed_and_there_is_no_attention_term():
    assert make_method(CTKD).needs.attention == (1, 2, 3)
    assert make_method(with_values(CTKD, beta=0.0)).needs.expert == ()
    assert set(terms(beta=0.0)) == {"loss_ce", "loss_step"}
    assert set(terms(dataclasses.replace(full_lesson(), expert_outputs={}), beta=0.0)) == {"loss_ce", "loss_step"}


@pytest.mark.parametrize("missing", [{"scratch_logits": None}, {"expert_outputs": {}}])
def test_lesson_that_lacks_what_is_needed_is_not_passed_over_in_silence(missing):
    with pytest.raises((AttributeError, KeyError, TypeError)):
        terms(dataclasses.replace(full_lesson(), **missing))
