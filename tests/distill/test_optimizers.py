"""Optimizers: every one of a recipe's names, its options, and a state that goes on bit for bit."""

import io

import numpy as np
import pytest
import torch
from support.tiny import assert_same_bits, copied
from timm.optim import list_optimizers
from torch import nn
from torch.nn import functional as F

from ctkd_search.distill import optimizers
from ctkd_search.errors import UserError
from ctkd_search.recipe import OPTIMIZERS, SGD, WITH_MOMENTUM, Recipe

pytestmark = pytest.mark.usefixtures("single_thread")
EACH = pytest.mark.parametrize("name", OPTIMIZERS)
IMAGES = torch.randn(12, 3, 6, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(12) % 4


def recipe(name=SGD, **settings):
    return Recipe(optimizer=name, **{"lr": 0.01, "weight_decay": 0.05, **settings})


def network():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(6, 4))


def steps(made, optimizer, count, clip=0.0):
    losses = []
    for _ in range(count):
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(made(IMAGES), LABELS)
        loss.backward()
        optimizers.step(optimizer, clip)
        losses.append(loss.item())
    return losses


def read_back(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@EACH
def test_a_kept_state_goes_on_bit_for_bit(name):
    made = network()
    optimizer = optimizers.make_optimizer(made, recipe(name))
    steps(made, optimizer, 3)
    state = read_back({"network": made.state_dict(), "optimizer": optimizer.state_dict()})
    expected = steps(made, optimizer, 3)
    other = network()
    other.load_state_dict(state["network"])
    again = optimizers.make_optimizer(other, recipe(name))
    if optimizers.is_captured(recipe(name)):
        optimizers.put_state(again, state["optimizer"])
    else:
        again.load_state_dict(state["optimizer"])
    assert steps(other, again, 3) == expected
    assert_same_bits(copied(other), copied(made))


@EACH
def test_the_learning_rate_of_a_step_is_the_one_that_was_set(name):
    moved = []
    for rate in (1e-3, 1e-2):
        made = network()
        before = copied(made)
        optimizer = optimizers.make_optimizer(made, recipe(name, weight_decay=0.0))
        optimizers.set_lr(optimizer, rate)
        steps(made, optimizer, 2)
        changes = (copied(made)[key] - before[key] for key in ("0.weight", "5.weight"))
        moved.append(sum(change.norm().item() for change in changes))
    assert 3 < moved[1] / moved[0] < 30


def test_the_names_are_timms_and_every_other_one_of_timms_has_a_reason():
    missing = set(list_optimizers()) - set(OPTIMIZERS)
    reasons = {
        "needs a library that only works on CUDA": lambda name: name.startswith(("bnb", "fused")),
        "needs second derivatives": lambda name: name == "adahessian",
        "draws random numbers of its own": lambda name: name.startswith("kron"),
        "an older form": lambda name: name.endswith("legacy"),
        "is sgd, with nesterov or without": lambda name: name in ("momentum", "nesterov", "nesterovw"),
        "its decay depends on the peak rate": lambda name: name in CORRECTED,
        "has the options of lamb": lambda name: name in ("lambc", "lambcw"),
    }
    assert set(OPTIMIZERS) - set(list_optimizers()) == set()
    for name in missing:
        assert any(holds(name) for holds in reasons.values()), name


CORRECTED = {
    *("adafactorbvc", "adamc", "adoptc", "cadafactorbvc", "cadamc", "cadoptc", "clionc", "cnadamc", "csgdc", "lambcd"),
    *("lapropc", "lionc", "nadamc", "novogradc", "rmsproptfc", "sgdc"),
}


@EACH
def test_momentum_changes_the_optimizers_that_have_one_and_no_other(name):
    found = []
    for momentum in (0.9, 0.3):
        made = network()
        found.append(steps(made, optimizers.make_optimizer(made, recipe(name, momentum=momentum)), 4))
    assert (found[0] != found[1]) == (name in WITH_MOMENTUM)


@pytest.mark.parametrize("name", [SGD, "adamw", "lion"])
def test_biases_and_norms_do_not_decay_where_weights_alone_do(name):
    """With a gradient of zero, what decays shrinks and the rest stays."""
    made = network()
    nn.init.ones_(made[5].bias)
    before = copied(made)
    optimizer = optimizers.make_optimizer(made, recipe(name, decay="weights", momentum=0.0))
    for parameter in made.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    after = copied(made)
    assert {key for key, value in made.named_parameters() if not torch.equal(after[key], before[key])} == {
        "0.weight",
        "5.weight",
    }


def test_adamw_is_what_its_paper_says():
    """Algorithm 2 of arXiv 1711.05101, in NumPy."""
    value, moments = np.array([1.0, -2.0]), np.zeros((2, 2))
    parameter = nn.Parameter(torch.tensor(value.tolist()))
    holder = nn.Module()
    holder.weight = parameter
    settings = Recipe(optimizer="adamw", lr=0.1, weight_decay=0.01, optimizer_options={"betas": [0.8, 0.9]})
    optimizer = optimizers.make_optimizer(holder, settings)
    for number in range(1, 4):
        gradient = np.array([0.3, -0.1]) * number
        parameter.grad = torch.tensor(gradient.tolist())
        optimizer.step()
        moments[0] = 0.8 * moments[0] + 0.2 * gradient
        moments[1] = 0.9 * moments[1] + 0.1 * gradient**2
        first, second = moments[0] / (1 - 0.8**number), moments[1] / (1 - 0.9**number)
        value = value - 0.1 * 0.01 * value - 0.1 * first / (np.sqrt(second) + 1e-8)
    np.testing.assert_allclose(parameter.detach().numpy(), value, rtol=1e-5)


def test_a_large_gradient_is_scaled_down_to_the_largest_norm_and_a_small_one_is_not():
    made = nn.Linear(2, 1, bias=False)
    optimizer = optimizers.make_optimizer(made, Recipe(lr=1.0, momentum=0.0, weight_decay=0.0))
    for gradient, moved in (([[3.0, 4.0]], 2.0), ([[0.3, 0.4]], 0.5)):
        before = made.weight.detach().clone()
        made.weight.grad = torch.tensor(gradient)
        optimizers.step(optimizer, 2.0)
        assert (made.weight - before).norm().item() == pytest.approx(moved, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "option", "phrase"),
    [
        ("adamw", {"betas": [0.9, 0.95]}, None, None),
        ("adamw", {"rho": 0.9}, "rho", "is no option of optimizer adamw; it has betas, eps, amsgrad"),
        ("adamw", {"fused": True}, "fused", "is no option"),
        (SGD, {"nesterov": True}, "nesterov", "is no option of optimizer sgd; it has dampening"),
        ("sgdw", {"nesterov": False}, None, None),
        ("lion", {"betas": 3}, None, "cannot be used with optimizer lion: "),
        ("adamw", {"betas": [0.9, 1.5]}, None, "cannot be used with optimizer adamw: Invalid beta parameter"),
    ],
)
def test_options_are_those_that_the_optimizer_has(name, options, option, phrase):
    fault = optimizers.options_fault(Recipe(optimizer=name, optimizer_options=options))
    if phrase is None:
        assert fault is None
    else:
        assert fault[0] == option
        assert phrase in fault[1]


@pytest.mark.parametrize("name", ["muon", "adamuon"])
def test_an_optimizer_of_matrices_is_refused_where_there_are_none(name):
    with pytest.raises(UserError, match=f"optimizer {name} changes matrices, and the network has none"):
        optimizers.make_optimizer(nn.BatchNorm1d(3), recipe(name))


def test_a_step_begins_again_in_the_same_memory():
    made = network()
    before = {key: value.clone() for key, value in made.state_dict().items()}
    optimizer = optimizers.make_optimizer(made, recipe("adamw"))
    expected = steps(made, optimizer, 3)
    memory = [value.data_ptr() for own in optimizer.state.values() for value in own.values()]
    made.load_state_dict(before)
    optimizers.put_state(optimizer, {})
    assert steps(made, optimizer, 3) == expected
    assert [value.data_ptr() for own in optimizer.state.values() for value in own.values()] == memory
