"""Deep mutual learning: the steps of both networks against a training written out here."""

import dataclasses

import numpy as np
import pytest
import torch
from support.methods import with_values
from support.oracles import draw, numpy_kl, softmax
from support.plain_training import PlainSGD, cross_entropy, kl
from support.tiny import CPU, TINY, assert_same_bits, copied, prepared_trainer

from ctkd_search.config import MethodConfig
from ctkd_search.data.stream import Normalise, Stream, derived_seed
from ctkd_search.distill.lesson import Lesson, StudentOutput
from ctkd_search.distill.methods.base import make_method, methods
from ctkd_search.models import build
from ctkd_search.models.network import TappedNetwork

pytestmark = pytest.mark.usefixtures("single_thread")

CONFIG = dataclasses.replace(TINY, method=MethodConfig("dml", {"weight": 0.7, "peer": "teacher"}))


def test_the_terms_are_the_paper_s_for_both_networks():
    student, peer, labels = draw(5, 4), draw(5, 4, seed=1), np.array([0, 3, 1, 1, 2])
    lesson = Lesson(torch.zeros(5, 1, 8, 8), torch.tensor(labels))
    output = StudentOutput(torch.tensor(student), [], torch.tensor(peer))
    found = {key: term.item() for key, term in make_method(CONFIG.method).terms(output, lesson).items()}
    right = np.arange(5), labels
    assert found == pytest.approx(
        {
            "loss_ce": -np.log(softmax(student)[right]).mean(),
            "loss_mutual": 0.7 * numpy_kl(student, peer, 1.0),
            "loss_peer": -np.log(softmax(peer)[right]).mean(),
            "loss_peer_mutual": 0.7 * numpy_kl(peer, student, 1.0),
        },
        rel=1e-6,
    )


def test_neither_network_s_gradient_comes_from_the_other_s_loss():
    student, peer, labels = (torch.tensor(draw(5, 4, seed=seed), requires_grad=True) for seed in (0, 1, 2))
    labels = labels.argmax(dim=1)
    terms = make_method(CONFIG.method).terms(StudentOutput(student, [], peer), Lesson(torch.zeros(5), labels))
    sum(terms.values()).backward()
    for own, other in ((student, peer), (peer, student)):
        alone = own.detach().clone().requires_grad_()
        (cross_entropy(alone, labels) + 0.7 * kl(alone, other.detach(), 1.0)).backward()
        torch.testing.assert_close(own.grad, alone.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("peer", ["teacher", "student"])
def test_both_networks_are_those_of_a_training_written_out(peer, splits):
    config = dataclasses.replace(CONFIG, method=with_values(CONFIG.method, peer=peer))
    trainer = prepared_trainer(config, splits, None)
    found = [trainer.run_epoch()["loss"] for _ in range(config.epochs)]

    recipe, normalise = config.train, Normalise(splits.mean, splits.std)
    stream = Stream(splits.train, normalise, config.augment, derived_seed("stream", config.seed), CPU)
    seed = config.seed_of_student
    one = build(config.student, splits.geometry, derived_seed("student", seed))
    other = build(getattr(config, peer), splits.geometry, derived_seed("peer", seed))
    descents, expected = [PlainSGD(network, recipe) for network in (one, other)], []
    for epoch in range(config.epochs):
        lr = recipe.lr * (recipe.gamma if epoch >= config.epochs / 2 else 1)
        plan, total = stream.plan(epoch), 0.0
        for start in range(0, len(stream), recipe.batch_size):
            images, labels = stream.views(plan, start, min(start + recipe.batch_size, len(stream)))
            ours, theirs = one(images)[0], other(images)[0]
            losses = [
                cross_entropy(own, labels) + 0.7 * kl(own, said.detach(), 1.0)
                for own, said in ((ours, theirs), (theirs, ours))
            ]
            total += sum(loss.item() for loss in losses) * len(labels)
            for descent, loss in zip(descents, losses, strict=True):
                descent.step(loss, lr)
        expected.append(total / len(stream))
    assert found == pytest.approx(expected, rel=1e-4)
    for network, reference in ((trainer.student, one), (trainer.step.network.peer, other)):
        for key, tensor in reference.state_dict().items():
            torch.testing.assert_close(network.state_dict()[key], tensor, rtol=1e-3, atol=1e-4, msg=key)


def test_the_student_alone_is_deployed_and_the_peer_is_kept_with_the_trial(splits):
    whole, first, second = (prepared_trainer(CONFIG, splits, None) for _ in range(3))
    expected = [whole.run_epoch()["loss"] for _ in range(2)]
    found = [first.run_epoch()["loss"]]
    second.load_state_dict(first.state_dict())
    assert [*found, second.run_epoch()["loss"]] == expected
    assert isinstance(second.student, TappedNetwork)
    assert_same_bits(copied(second.student), copied(whole.student))
    assert methods()["dml"].auxiliary


def test_a_peer_of_the_student_s_architecture_has_weights_of_its_own(splits):
    config = dataclasses.replace(CONFIG, method=with_values(CONFIG.method, peer="student"))
    network = prepared_trainer(config, splits, None).step.network
    assert not torch.equal(network.peer.classifier.weight, network.student.classifier.weight)
    assert not make_method(CONFIG.method).needs.any_expert
