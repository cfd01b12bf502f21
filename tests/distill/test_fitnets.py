"""FitNets: the hint loss against NumPy, and the two ways of training."""

import dataclasses

import numpy as np
import pytest
import torch
from support.methods import with_values
from support.oracles import draw, numpy_kl, softmax
from support.tiny import TINY, assert_same_bits, copied, prepared_trainer

from ctkd_search.config import MethodConfig
from ctkd_search.distill.lesson import Lesson, StudentOutput
from ctkd_search.distill.losses import hint
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.requests import LOGITS, TeacherOutput
from ctkd_search.distill.training_network import Context
from ctkd_search.geometry import Geometry
from ctkd_search.models import build, describe

pytestmark = pytest.mark.usefixtures("single_thread")

GEOMETRY = Geometry(10, 1, 8)
VALUES = MethodConfig("fitnets", {"hint_weight": 7.0, "hint_layers": (1, 3)})
STAGES = with_values(VALUES, training="stages", hint_share=0.5, temperature=3.0, weight=0.7)


def training_network(values, teacher="wrn-10-2"):
    """The student with its regressors to a teacher that is twice as wide."""
    student = build("resnet8", GEOMETRY, seed=0)
    context = Context(describe(teacher), describe("resnet8"), GEOMETRY, 3, lambda: None)
    return make_method(values).training_network(student, context)


def expert_map(layer):
    side = 8 // 2 ** (layer - 1)
    return draw(5, 32 * 2 ** (layer - 1), side, side, seed=layer)


def lesson_for(values, seed=0):
    images, labels = torch.tensor(draw(5, 1, 8, 8, seed=seed)).float(), torch.arange(5)
    said = {
        output: torch.tensor(draw(5, 10, seed=5) if output == LOGITS else expert_map(output.layer)).float()
        for output in make_method(values).needs.expert
    }
    return Lesson(images, labels, None, said)


def terms_of(values, network, lesson, epoch=None):
    method = make_method(values)
    if epoch is not None:
        method.begin_epoch(epoch, 4)
    return method.terms(StudentOutput(*network(lesson.images)), lesson)


def numpy_hint(network, lesson, layers):
    """A 1x1 convolution is a matrix for each position; a new batch normalisation brings each channel to 0 and 1."""
    _, maps = network.student(lesson.images)
    missed = 0.0
    for bridge, layer in zip(network.bridges, layers, strict=True):
        own = maps[layer - 1].detach().numpy().astype(float)
        predicted = np.einsum("oi,bihw->bohw", bridge[0].weight.detach().numpy()[:, :, 0, 0].astype(float), own)
        predicted -= predicted.mean(axis=(0, 2, 3), keepdims=True)
        predicted /= np.sqrt(predicted.var(axis=(0, 2, 3), keepdims=True) + 1e-5)
        missed += ((predicted - lesson.expert_outputs[TeacherOutput("features", layer)].numpy()) ** 2).mean()
    return missed


def test_the_hints_are_the_squared_error_of_the_regressors():
    network, lesson = training_network(VALUES), lesson_for(VALUES)
    assert [tuple(bridge[0].weight.shape) for bridge in network.bridges] == [(32, 16, 1, 1), (128, 64, 1, 1)]
    logits = network(lesson.images)[0].detach().numpy()
    found = {key: term.item() for key, term in terms_of(VALUES, network, lesson).items()}
    assert found == pytest.approx(
        {
            "loss_ce": -np.log(softmax(logits)[np.arange(5), np.arange(5)]).mean(),
            "loss_hint": 7.0 * numpy_hint(network, lesson, (1, 3)),
        },
        rel=1e-5,
    )


def test_in_two_stages_hints_come_first_and_kd_after_them():
    network, lesson = training_network(STAGES), lesson_for(STAGES)
    logits, expert = network(lesson.images)[0].detach().numpy(), lesson.expert_outputs[LOGITS].numpy()
    missed = 7.0 * numpy_hint(network, lesson, (1, 3))
    ce = 0.3 * -np.log(softmax(logits)[np.arange(5), np.arange(5)]).mean()
    for epoch, first in enumerate([True, True, False, False]):
        found = {key: term.item() for key, term in terms_of(STAGES, network, lesson, epoch).items()}
        expected = {
            "loss_ce": 0.0 if first else ce,
            "loss_kd": 0.0 if first else 0.7 * numpy_kl(logits, expert, 3.0),
            "loss_hint": missed if first else 0.0,
        }
        assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.75, 0.9, 0.95])
@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 10])
def test_each_of_two_stages_has_an_epoch_where_there_are_two(share, epochs):
    method = make_method(with_values(STAGES, hint_share=share))
    hints = []
    for epoch in range(epochs):
        method.begin_epoch(epoch, epochs)
        assert method.hints_now != method.labels_now
        hints.append(bool(method.hints_now))
    first = sum(hints)
    assert hints == [True] * first + [False] * (epochs - first)
    assert first >= 1
    assert first < epochs or epochs == 1
    assert abs(first - share * epochs) <= 0.5 or first in (1, epochs - 1)


def test_the_stage_of_hints_moves_nothing_behind_the_hint_layer_and_the_next_nothing_of_the_regressor():
    values = with_values(STAGES, hint_layers=(2,))
    network, lesson = training_network(values), lesson_for(values)
    for epoch, moved in ((0, ("stem", "stages.0", "stages.1", "bridges")), (3, ("stem", "stages", "classifier"))):
        network.zero_grad()
        sum(terms_of(values, network, lesson, epoch).values()).backward()
        for key, parameter in network.named_parameters():
            reached = parameter.grad is not None and bool(parameter.grad.abs().max() > 0)
            assert reached == key.removeprefix("student.").startswith(moved), (epoch, key)


def test_joint_training_has_one_loss_throughout_and_needs_no_logits():
    network, lesson = training_network(VALUES), lesson_for(VALUES)
    found = [{key: term.item() for key, term in terms_of(VALUES, network, lesson, epoch).items()} for epoch in range(4)]
    assert found == [found[0]] * 4
    assert make_method(VALUES).needs.expert == (TeacherOutput("features", 1), TeacherOutput("features", 3))
    assert LOGITS in make_method(STAGES).needs.expert


def test_the_regressor_begins_the_same_for_the_same_seed_and_leaves_torch_s_own_draws_alone():
    before = torch.get_rng_state()
    assert_same_bits(copied(training_network(VALUES)), copied(training_network(VALUES)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("own", "given"), [(8, 4), (4, 8), (4, 1)])
def test_the_larger_map_is_averaged_down_to_the_other_s_size(own, given):
    student, expert = draw(3, 6, own, own), draw(3, 6, given, given, seed=1)
    side = min(own, given)

    def averaged(features):
        step = features.shape[2] // side
        return features.reshape(3, 6, side, step, side, step).mean(axis=(3, 5))

    expected = ((averaged(student) - averaged(expert)) ** 2).mean()
    assert hint(torch.tensor(student), torch.tensor(expert)).item() == pytest.approx(expected, rel=1e-5)


def test_trainings_differ_and_two_stages_end_on_labels(splits, cache):
    ends = {}
    for training in ("joint", "stages"):
        config = dataclasses.replace(TINY, method=with_values(STAGES, hint_layers=(2,), training=training))
        trainer = prepared_trainer(config, splits, cache)
        ends[training] = [trainer.run_epoch() for _ in range(2)]
    assert ends["stages"][0]["loss_ce"] == 0
    assert ends["stages"][0]["loss_hint"] > 0
    assert ends["stages"][1]["loss_hint"] == 0
    assert ends["stages"][1]["loss_ce"] > 0
    assert all(epoch["loss_ce"] > 0 and epoch["loss_hint"] > 0 for epoch in ends["joint"])
