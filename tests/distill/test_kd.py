"""Knowledge distillation: the loss against NumPy, and the expert's logits, live and recorded."""

import dataclasses

import numpy as np
import pytest
import torch
from support.methods import with_values
from support.tiny import assert_same_bits, prepared_trainer
from test_recorded import BASE, live

from ctkd_search.config import MethodConfig
from ctkd_search.data import load_train
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.lesson import Lesson, StudentOutput
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.requests import LOGITS

pytestmark = pytest.mark.usefixtures("single_thread")

KD = dataclasses.replace(BASE, method=MethodConfig("kd", {"temperature": 3.0, "weight": 0.7}))
RANDOM = np.random.default_rng(0)
STUDENT, EXPERT = RANDOM.normal(size=(5, 4)), RANDOM.normal(size=(5, 4))
LABELS = np.array([0, 3, 1, 1, 2])


@pytest.fixture(scope="module")
def splits():
    whole = load_train(KD.dataset)
    return dataclasses.replace(whole, train=whole.train[np.arange(300)], validation=whole.validation[np.arange(50)])


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def terms(**values):
    lesson = Lesson(torch.zeros(5, 1, 8, 8), torch.tensor(LABELS), None, {LOGITS: torch.tensor(EXPERT)})
    found = make_method(with_values(MethodConfig("kd", {"temperature": 3.0, "weight": 0.7}), **values)).terms(
        StudentOutput(torch.tensor(STUDENT), []), lesson
    )
    return {name: term.item() for name, term in found.items()}


def test_the_loss_is_hintons():
    p, q = softmax(EXPERT / 3.0), softmax(STUDENT / 3.0)
    expected = {
        "loss_ce": 0.3 * -np.log(softmax(STUDENT)[np.arange(5), LABELS]).mean(),
        "loss_kd": 0.7 * 9.0 * (p * np.log(p / q)).sum(axis=1).mean(),
    }
    assert terms() == pytest.approx(expected, rel=1e-12)


def test_without_weight_it_is_the_student_alone_and_needs_no_expert():
    method = make_method(MethodConfig("kd", {"temperature": 3.0, "weight": 0.0}))
    assert method.needs.expert == ()
    assert terms(weight=0.0) == {
        "loss_ce": pytest.approx(-np.log(softmax(STUDENT)[np.arange(5), LABELS]).mean(), rel=1e-12)
    }


def test_recorded_logits_teach_what_the_live_expert_does(splits, tmp_path):
    ends = []
    for config in (KD, live(KD)):
        trainer = prepared_trainer(config, splits, TeacherCache(tmp_path, "a test"))
        losses = [trainer.run_epoch()["loss"] for _ in range(config.epochs)]
        ends.append([losses, trainer.student.state_dict()])
    assert_same_bits(*ends)


def test_only_logits_are_kept_where_no_trial_looks_at_maps(splits, tmp_path):
    prepared_trainer(KD, splits, TeacherCache(tmp_path, "a test")).run_epoch()
    assert [path.name for path in tmp_path.glob("maps-*/*.rec")] == ["maps-float32-0000-logits.rec"]


def test_logits_are_kept_beside_the_maps_that_other_trials_look_at(splits, tmp_path):
    prepared_trainer(BASE, splits, TeacherCache(tmp_path, "a test")).run_epoch()
    kept = sorted(path.name for path in tmp_path.glob("maps-*/*.rec"))
    assert kept == [f"maps-float32-0000-{what}.rec" for what in (1, 2, 3, "logits")]
