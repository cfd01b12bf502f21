"""Knowledge review: the fusions, the distance and their gradients against a float64 oracle, and the warm-up."""

import itertools

import numpy as np
import pytest
import torch
from support.classroom import Classroom
from support.logit_methods import ends
from support.oracles import draw, numpy_gradient
from support.tiny import assert_same_bits

from ctkd_search.config import MethodConfig
from ctkd_search.distill.lesson import StudentOutput
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.requests import EMBEDDING, TeacherOutput
from ctkd_search.distill.review import Fusion, Level, context_distance
from ctkd_search.distill.training_network import Context
from ctkd_search.geometry import Geometry
from ctkd_search.models import build, describe
from ctkd_search.space.effects import setting_of

pytestmark = pytest.mark.usefixtures("single_thread")


def numpy_pooled(features, side):
    """The means of the positions that belong to each of side x side cells."""
    _, _, height, width = features.shape
    found = np.zeros((*features.shape[:2], side, side))
    for i, j in np.ndindex(side, side):
        rows = slice(i * height // side, -(-(i + 1) * height // side))
        columns = slice(j * width // side, -(-(j + 1) * width // side))
        found[:, :, i, j] = features[:, :, rows, columns].mean(axis=(2, 3))
    return found


def numpy_context(reviewed, expert):
    found, weights = ((reviewed - expert) ** 2).mean(), [1.0]
    for side in (4, 2, 1):
        if side < reviewed.shape[2]:
            weights.append(weights[-1] / 2)
            found += weights[-1] * ((numpy_pooled(reviewed, side) - numpy_pooled(expert, side)) ** 2).mean()
    return found / sum(weights)


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 8])
def test_distance_and_gradient_are_those_of_the_formula(side):
    reviewed, expert = draw(2, 3, side, side), draw(2, 3, side, side, seed=1)
    own = torch.tensor(reviewed)
    assert context_distance(own, torch.tensor(expert)).item() == pytest.approx(
        numpy_context(reviewed, expert), rel=1e-5
    )
    own = own.float().requires_grad_()
    context_distance(own, torch.tensor(expert).float()).backward()
    expected = numpy_gradient(lambda moved: numpy_context(moved, expert), reviewed)
    assert own.grad.numpy() == pytest.approx(expected, abs=1e-5)


def numpy_convolution(features, weight, bias=0.0):
    """A convolution of stride 1 that keeps the size."""
    border = weight.shape[2] // 2
    padded = np.pad(features, ((0, 0), (0, 0), (border, border), (border, border)))
    _, _, height, width = features.shape
    found = np.zeros((len(features), len(weight), height, width))
    for i, j in np.ndindex(*weight.shape[2:]):
        found += np.einsum("oc,bchw->bohw", weight[:, :, i, j], padded[:, :, i : i + height, j : j + width])
    return found + np.reshape(bias, (1, -1, 1, 1))


def numpy_normalised(features):
    mean, variance = features.mean(axis=(0, 2, 3), keepdims=True), features.var(axis=(0, 2, 3), keepdims=True)
    return (features - mean) / np.sqrt(variance + 1e-5)


def numpy_nearest(features, side):
    places = np.arange(side) * features.shape[2] // side
    return features[:, :, places][:, :, :, places]


def numpy_fusion(fusion, features, passed):
    """One level of the review, with a batch normalisation as it begins: without a slope and a shift."""
    entered = numpy_normalised(numpy_convolution(features, fusion.enter[0].weight.detach().numpy()))
    if fusion.attention is not None:
        passed = numpy_nearest(passed, entered.shape[2])
        weight, bias = (item.detach().numpy() for item in fusion.attention.parameters())
        shares = 1 / (1 + np.exp(-numpy_convolution(np.concatenate([entered, passed], axis=1), weight, bias)))
        entered = entered * shares[:, :1] + passed * shares[:, 1:]
    joined = numpy_nearest(entered, fusion.side)
    return numpy_normalised(numpy_convolution(joined, fusion.leave[0].weight.detach().numpy())), joined


@pytest.mark.parametrize(("own", "deeper", "side"), [(4, 2, 4), (2, 4, 2), (4, 1, 8), (8, 8, 4), (3, 2, 5)])
@pytest.mark.parametrize("deepest", [False, True])
def test_a_fusion_and_its_gradients_are_those_of_the_formula(own, deeper, side, deepest):
    torch.manual_seed(0)
    fusion = Fusion(Level(3, 5, side), 4, deepest).double()
    features, below, target = draw(2, 3, own, own) / 3, draw(2, 4, deeper, deeper, seed=1) / 3, draw(2, 5, side, side)
    moved, passed = (torch.tensor(each, requires_grad=True) for each in (features, below))
    found, onward = fusion(moved, None if deepest else passed)
    for tensor, expected in zip((found, onward), numpy_fusion(fusion, features, below), strict=True):
        assert tensor.detach().numpy() == pytest.approx(expected, rel=1e-6, abs=1e-9)
    (found * torch.tensor(target)).sum().backward()

    def loss(one, other):
        return (numpy_fusion(fusion, one, other)[0] * target).sum()

    assert moved.grad.numpy() == pytest.approx(numpy_gradient(lambda one: loss(one, below), features), abs=1e-5)
    if not deepest:
        assert passed.grad.numpy() == pytest.approx(numpy_gradient(lambda one: loss(features, one), below), abs=1e-5)


PAIRS = [
    ("wrn-10-2", "resnet8", (1, 3), True),
    ("resnet18", "wrn-10-1", (2, 3), False),
    ("wrn-10-1", "vgg8", (1, 2), True),
]


@pytest.mark.parametrize(("teacher", "student", "layers", "embedding"), PAIRS)
def test_the_review_goes_from_the_deepest_level_to_the_first(teacher, student, layers, embedding):
    geometry = Geometry(10, 3, 32)
    method = make_method(MethodConfig("reviewkd", {"review_layers": layers[::-1], "review_embedding": embedding}))
    expert, own = build(teacher, geometry, seed=1).eval(), build(student, geometry, seed=0)
    context = Context(describe(teacher, geometry), describe(student, geometry), geometry, 3, lambda: expert)
    assert method.fault(context.teacher, context.student) is None
    network, images = method.training_network(own, context).double(), torch.randn(4, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        found = network(images)[2]
        _, maps, pooled = own.with_embedding(images)
        _, given, given_pooled = expert.double().with_embedding(images)
    levels = [maps[layer - 1].numpy() for layer in layers]
    targets = [given[layer - 1] for layer in layers]
    if embedding:
        levels.append(pooled.numpy()[:, :, None, None])
        targets.append(given_pooled[:, :, None, None])
    passed, expected = None, []
    for fusion, level in zip(reversed(network.fusions), reversed(levels), strict=True):
        reviewed, passed = numpy_fusion(fusion, level, passed)
        expected.insert(0, reviewed)
    for one, other, target in zip(found, expected, targets, strict=True):
        assert one.numpy() == pytest.approx(other, rel=1e-5, abs=1e-6)
        assert one.shape == target.shape
    assert passed.shape[1] == min(512, levels[-1].shape[1])
    expert_outputs = {TeacherOutput("features", layer): given[layer - 1] for layer in layers}
    assert set(method.needs.expert) == {*expert_outputs, *([EMBEDDING] if embedding else [])}


def test_terms_add_up_the_levels_and_grow_over_the_warm_up():
    values = {"weight": 3.0, "review_layers": (1, 2), "warmup_share": 0.5}
    room = Classroom(MethodConfig("reviewkd", values))
    lesson = room.lesson()
    output = StudentOutput(*room.network(lesson.images))
    given = [each.numpy() for each in lesson.expert_outputs.values()]
    given[-1] = given[-1][:, :, None, None]
    expected = 3.0 * sum(
        numpy_context(one.detach().numpy(), other) for one, other in zip(output.more, given, strict=True)
    )
    for epoch, warmth in enumerate([0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]):
        room.method.begin_epoch(epoch, 8)
        found = room.method.terms(output, lesson)["loss_review"].item()
        assert found == pytest.approx(warmth * expected, rel=1e-5)


def test_defaults_are_the_code_s_and_a_warm_up_of_one_epoch_has_no_effect():
    method = make_method(MethodConfig("reviewkd"))
    assert method.values == {
        "weight": 5.0,
        "review_layers": (1, 2, 3),
        "review_embedding": True,
        "warmup_share": pytest.approx(20 / 240),
    }
    features = tuple(TeacherOutput("features", layer) for layer in (1, 2, 3))
    assert method.needs.expert == (*features, EMBEDDING)
    assert (method.least_batch, make_method(MethodConfig("reviewkd", {"weight": 0.0})).least_batch) == (2, 1)
    assert not make_method(MethodConfig("reviewkd", {"weight": 0.0})).needs.any_expert
    short, long = (setting_of("wrn-16-1/resnet8", Geometry(10, 1, 8), epochs) for epochs in (12, 13))
    assert list(method.idle(short)) == ["warmup_share"]
    assert method.idle(long) == {}
    cold = make_method(MethodConfig("reviewkd", {"warmup_share": 0.0}))
    cold.begin_epoch(0, 10)
    assert cold.warmth == 1.0


def test_initial_weights_depend_on_the_seed_alone():
    rooms = [Classroom(MethodConfig("reviewkd"), seed=seed) for seed in (0, 0, 1)]
    states = [room.network.fusions.state_dict() for room in rooms]
    assert_same_bits(states[0], states[1])
    convolutions = [name for name in states[0] if name.endswith("0.weight")]
    assert not any(torch.equal(states[0][name], states[2][name]) for name in convolutions)
    for one, name in itertools.product(rooms[:1], convolutions):
        weight = one.network.fusions.get_parameter(name)
        # Uniform within the root of 3 / fan-in.
        bound = (3 / weight[0].numel()) ** 0.5
        assert 0.8 * bound < weight.abs().max() <= bound


def test_an_expert_that_computes_teaches_alike_whatever_the_mode(splits, tmp_path):
    assert_same_bits(*ends("reviewkd", {}, splits, tmp_path))
