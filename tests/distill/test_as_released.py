"""CTKD as released: who shares what, and which gradients reach whom, against a forward pass written out."""

import pytest
import torch.nn.functional as F
from support.classroom import Classroom
from support.oracles import numpy_attention

from ctkd_search.config import MethodConfig
from ctkd_search.distill.methods.base import make_method
from ctkd_search.models import describe

pytestmark = pytest.mark.usefixtures("single_thread")
METHOD = MethodConfig("ctkd-as-released", {"alpha": 0.3, "beta": 7.0, "attention_layers": (1, 3)})


def test_the_loss_is_that_of_two_networks_over_one_convolution():
    room = Classroom(METHOD)
    lesson = room.lesson()
    student, scratch = room.network.student, room.network.scratch
    assert scratch.stem is student.stem[0]
    features, theirs = student.stem(lesson.images), scratch.stem(lesson.images)
    maps = []
    for own, other in zip(student.stages, scratch.stages, strict=True):
        features, theirs = own(features), other(theirs)
        maps.append(theirs)
    logits, taught = student.classifier(student.embed(features)), scratch.classifier(scratch.embed(theirs))
    _, expert = room.expert(lesson.images)
    both = [[net[layer - 1].detach().double().numpy() for net in (maps, expert)] for layer in (1, 3)]
    seen = sum(numpy_attention(*pair) for pair in both)
    expected = {
        "loss_ce": F.cross_entropy(logits, lesson.labels).item(),
        "loss_scratch": F.cross_entropy(taught, lesson.labels).item(),
        "loss_step": 0.3 * ((logits - taught) ** 2).sum().item() / 12,
        "loss_attention": 7.0 * seen,
    }
    assert {name: term.item() for name, term in room.terms().items()} == pytest.approx(expected, rel=1e-4)


def test_the_step_loss_does_not_reach_the_scratch_teacher_nor_the_attention_the_student():
    room = Classroom(METHOD)
    room.terms()["loss_step"].backward()
    assert all(parameter.grad is None for parameter in room.network.scratch.stages.parameters())
    assert room.network.student.classifier.weight.grad.abs().max() > 0
    room = Classroom(METHOD)
    room.terms()["loss_attention"].backward()
    assert all(parameter.grad is None for parameter in room.student.stages.parameters())
    assert room.network.scratch.stages[0][0].conv1.weight.grad.abs().max() > 0
    assert room.student.stem[0].weight.grad.abs().max() > 0


def test_networks_that_begin_otherwise_share_nothing():
    method = make_method(METHOD)
    assert method.fault(describe("wrn-16-2"), describe("resnet8")) is None
    said = method.fault(describe("resnet8x4"), describe("resnet8"))
    assert said == "resnet8x4 and resnet8 do not begin with the same convolution, so that none can be shared"
