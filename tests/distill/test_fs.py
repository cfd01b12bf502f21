"""Feature statistics: the loss against NumPy, and what is refused or bridged."""

import numpy as np
import pytest
import torch
from support.oracles import draw

from ctkd_search.config import MethodConfig
from ctkd_search.distill.lesson import Lesson, StudentOutput
from ctkd_search.distill.losses import F, channel_statistics, statistics
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.requests import TeacherOutput
from ctkd_search.distill.training_network import Context
from ctkd_search.geometry import Geometry
from ctkd_search.models import build, describe

pytestmark = pytest.mark.usefixtures("single_thread")

LABELS = torch.arange(3)


def numpy_distance(student, expert):
    found = 0.0
    for own, given in zip(student, expert, strict=True):
        for channel in range(len(own)):
            found += (own[channel].mean() - given[channel].mean()) ** 2
            found += (own[channel].var() - given[channel].var()) ** 2
    return found / (len(student) * student.shape[1])


@pytest.mark.parametrize("sides", [(4, 4), (4, 8), (1, 2)])
def test_distance_is_that_of_means_and_variances_whatever_the_sizes(sides):
    student, expert = draw(3, 6, sides[0], sides[0]), draw(3, 6, sides[1], sides[1], seed=1)
    found = statistics(torch.tensor(student), channel_statistics(torch.tensor(expert)))
    assert found.item() == pytest.approx(numpy_distance(student, expert), rel=1e-5)


def test_statistics_of_the_same_map_in_another_order_have_no_distance():
    features = torch.tensor(draw(3, 6, 4, 4))
    assert statistics(features, channel_statistics(features.flip(2))).item() == pytest.approx(0, abs=1e-9)
    assert statistics(features + 2, channel_statistics(features)).item() == pytest.approx(4, rel=1e-5)


def test_terms_are_cross_entropy_and_the_weighed_distances_of_the_layers():
    student = [draw(3, 4, 8, 8), draw(3, 6, 4, 4), draw(3, 8, 2, 2)]
    expert = [draw(3, 4, 8, 8, seed=1), draw(3, 6, 4, 4, seed=2), draw(3, 8, 2, 2, seed=3)]
    said = {TeacherOutput("statistics", layer): channel_statistics(torch.tensor(expert[layer - 1])) for layer in (1, 3)}
    method = make_method(MethodConfig("fs", {"weight": 0.5, "statistics_layers": (1, 3)}))
    assert method.needs.expert == tuple(said)
    logits = torch.tensor(draw(3, 5))
    maps = [torch.tensor(features) for features in student]
    found = method.terms(StudentOutput(logits, maps), Lesson(torch.zeros(3), LABELS, None, said))
    assert found["loss_ce"].item() == F.cross_entropy(logits, LABELS).item()
    expected = 0.5 * sum(numpy_distance(student[index], expert[index]) for index in (0, 2))
    assert found["loss_statistics"].item() == pytest.approx(expected, rel=1e-5)


def test_bridged_statistics_are_those_after_the_convolution():
    geometry = Geometry(10, 1, 8)
    values = MethodConfig("fs", {"weight": 0.5, "statistics_layers": (2, 3), "bridge": True})
    method, student = make_method(values), build("resnet8", geometry, seed=0)
    context = Context(describe("wrn-10-2"), describe("resnet8"), geometry, 3, lambda: None)
    network, images = method.training_network(student, context), torch.tensor(draw(3, 1, 8, 8)).float()
    expert = {2: draw(3, 64, 4, 4), 3: draw(3, 128, 2, 2)}
    said = {
        TeacherOutput("statistics", layer): channel_statistics(torch.tensor(value)) for layer, value in expert.items()
    }
    found = method.terms(StudentOutput(*network(images)), Lesson(images, LABELS, None, said))
    maps, expected = student(images)[1], 0.0
    for bridge, layer in zip(network.bridges, (2, 3), strict=True):
        weight, bias = bridge[0].weight.detach().numpy()[:, :, 0, 0], bridge[0].bias.detach().numpy()
        bridged = np.einsum("oi,bihw->bohw", weight, maps[layer - 1].detach().numpy()) + bias[None, :, None, None]
        expected += 0.5 * numpy_distance(bridged, expert[layer])
    assert found["loss_statistics"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("pair", "more", "fault"),
    [
        (
            ("wrn-16-2", "wrn-16-1"),
            {},
            "wrn-16-2 has 32 channels there and wrn-16-1 16; a 1x1 convolution bridges them",
        ),
        (("wrn-16-2", "wrn-16-1"), {"bridge": True}, None),
        (("wrn-40-1", "wrn-16-1"), {}, None),
        (("wrn-40-1", "wrn-16-1"), {"statistics_layers": (4,)}, "wrn-40-1 has no layer 4"),
        (("wrn-16-2", "wrn-16-1"), {"weight": 0.0}, None),
    ],
)
def test_channels_that_differ_are_refused_unless_they_are_bridged(pair, more, fault):
    found = make_method(MethodConfig("fs", more)).fault(*(describe(name) for name in pair))
    assert found is None if fault is None else fault in found
