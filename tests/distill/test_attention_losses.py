"""Attention by mean square or by cosine, with layers weighed apart: values and gradients against NumPy."""

import itertools

import numpy as np
import pytest
import torch
from support.oracles import draw, numpy_attention_map, numpy_gradient

from ctkd_search.config import MethodConfig
from ctkd_search.distill.lesson import Lesson, StudentOutput
from ctkd_search.distill.losses import attention, attention_cosine, attention_map
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.requests import TeacherOutput
from ctkd_search.geometry import Geometry
from ctkd_search.space.effects import setting_of

pytestmark = pytest.mark.usefixtures("single_thread")

SIDES = (6, 3, 2)
OWN = [draw(4, 3, side, side, seed=side).astype(np.float32) for side in SIDES]
EXPERT = [draw(4, 5, side, side, seed=10 + side).astype(np.float32) for side in SIDES]


def attention_term(values, own=None):
    """The attention loss's term, and the gradient of the student's maps."""
    method = make_method(MethodConfig("ctkd", {"alpha": 0.0, "beta": 5.0, **values}))
    method.begin_epoch(0, 1)
    maps = [torch.tensor(features, requires_grad=True) for features in own or OWN]
    said = {
        TeacherOutput("attention", layer): attention_map(torch.tensor(features))
        for layer, features in enumerate(EXPERT, start=1)
    }
    lesson = Lesson(torch.zeros(4), torch.zeros(4, dtype=torch.long), None, said)
    term = method.terms(StudentOutput(torch.zeros(4, 3), maps), lesson)["loss_attention"]
    term.backward()
    return term.item(), [features.grad for features in maps]


def numpy_term(layers, cosine, weights, own):
    positions = [SIDES[layer - 1] ** 2 for layer in layers]
    total = 0.0
    for layer, weight, count in zip(layers, weights, positions, strict=True):
        a, b = (numpy_attention_map(maps[layer - 1].astype(np.float64)) for maps in (own, EXPERT))
        if cosine:
            size = np.mean([2 / each for each in positions])
            total += weight * size * (1 - (a * b).sum(axis=1)).mean()
        else:
            total += weight * ((a - b) ** 2).sum(axis=1).mean() / count
    return 5.0 * total


CASES = [
    ((1, 2, 3), (1.0, 1.0), [1.0, 1.0, 1.0]),
    ((1, 2, 3), (0.3, 2.5), [0.3, 1.0, 2.5]),
    ((3, 1), (0.3, 2.5), [2.5, 0.3]),
    ((2,), (0.3, 2.5), [1.0]),
]


@pytest.mark.parametrize("cosine", [False, True], ids=["square", "cosine"])
@pytest.mark.parametrize(("layers", "ends", "weights"), CASES)
def test_the_term_and_its_gradient_are_those_of_the_formula(layers, ends, weights, cosine):
    values = {
        "attention_layers": layers,
        "attention_loss": "cosine" if cosine else "square",
        "first_weight": ends[0],
        "last_weight": ends[1],
    }
    found, gradients = attention_term(values)
    assert found == pytest.approx(numpy_term(layers, cosine, weights, OWN), rel=1e-5)
    for number, gradient in enumerate(gradients):
        if number + 1 not in layers:
            assert gradient is None
            continue

        def loss(features, number=number):
            own = [features if other == number else maps for other, maps in enumerate(OWN)]
            return numpy_term(layers, cosine, weights, own)

        assert gradient.numpy() == pytest.approx(numpy_gradient(loss, OWN[number].astype(np.float64), 1e-4), abs=1e-5)


def test_by_cosine_each_layer_counts_alike_where_the_mean_square_counts_positions():
    for own, expert in zip(OWN, EXPERT, strict=True):
        student, seen = torch.tensor(own), attention_map(torch.tensor(expert))
        distance, positions = attention_cosine(student, seen)
        assert positions == seen.shape[1]
        assert attention(student, seen).item() == pytest.approx(2 / positions * distance.item(), rel=1e-4)


def test_both_are_one_loss_for_maps_of_one_size_which_is_declared():
    one, other = (
        attention_term({"attention_layers": (2,), "attention_loss": loss})[0] for loss in ("square", "cosine")
    )
    assert one == pytest.approx(other, rel=1e-4)
    setting = setting_of("wrn-16-1/resnet8", Geometry(10, 1, 8), 4)
    for name in ("ctkd", "expert-only"):
        of_one = make_method(MethodConfig(name, {"attention_layers": (2,)}))
        assert set(of_one.idle(setting)) == {"attention_loss", "first_weight", "last_weight"}
        assert make_method(MethodConfig(name)).idle(setting) == {}
    assert make_method(MethodConfig("at", {"attention_layers": (2,)})).idle(setting) == {}


def test_an_ensemble_s_mean_map_gives_the_mean_cosine_of_its_members():
    student = torch.tensor(OWN[0])
    members = [attention_map(torch.tensor(draw(4, 5, 6, 6, seed=seed)).float()) for seed in range(3)]
    mean = attention_cosine(student, torch.stack(members).mean(dim=0))[0]
    each = [attention_cosine(student, member)[0].item() for member in members]
    assert mean.item() == pytest.approx(np.mean(each), rel=1e-5)


def test_maps_of_different_sizes_are_compared_at_the_smaller_one():
    student, expert = torch.tensor(draw(4, 3, 6, 6)).float(), torch.tensor(draw(4, 3, 3, 3, seed=1)).float()
    energy = torch.nn.functional.adaptive_avg_pool2d(student.pow(2).mean(dim=1), (3, 3)).flatten(1)
    a, b = energy / energy.norm(dim=1, keepdim=True), attention_map(expert)
    distance, positions = attention_cosine(student, b)
    assert positions == 9
    assert distance.item() == pytest.approx(1 - (a * b).sum(dim=1).mean().item(), rel=1e-4)


PLAIN = {"attention_loss": "square", "first_weight": 1.0, "last_weight": 1.0}
OTHER = {"attention_loss": "cosine", "first_weight": 0.5, "last_weight": 2.0, "beta_schedule": "linear"}


def test_attention_transfer_is_the_paper_s_and_everything_else_has_another_name():
    assert make_method(MethodConfig("ctkd", {"alpha": 0.0, **PLAIN})).canonical().name == "at"
    for name, value in OTHER.items():
        found = make_method(MethodConfig("ctkd", {"alpha": 0.0, name: value})).canonical()
        assert (found.name, found.values[name]) == ("expert-only", value)
        assert make_method(found).canonical() == found
    values = make_method(MethodConfig("ctkd")).values
    assert {name: values[name] for name in PLAIN} == PLAIN


def test_every_combination_is_described():
    for loss, first, layers in itertools.product(("square", "cosine"), (1.0, 0.5), ((1,), (1, 2, 3))):
        method = make_method(
            MethodConfig("ctkd", {"attention_loss": loss, "first_weight": first, "attention_layers": layers})
        )
        (said,) = (sentence for sentence in method.describe() if "attention" in sentence)
        assert ("by cosine" in said) == (loss == "cosine")
        assert ("the first layer's times 0.5" in said) == (first != 1 and len(layers) > 1)
