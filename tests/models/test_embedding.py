"""The embedding of every kind of network: the vector that its logits are made from."""

import pytest
import torch
from support.own_nets import Plain

from ctkd_search.checks.networks import facts
from ctkd_search.config import MethodConfig
from ctkd_search.distill.methods.base import make_method
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.models import build, describe
from ctkd_search.models.registry import families
from ctkd_search.models.stages import find_output_layer, watched

pytestmark = pytest.mark.usefixtures("single_thread")

SMALL = Geometry(10, 3, 32)
OURS = [example for family in families() for example in family.examples]
ELSEWHERE = {
    "timm/resnet18": 512,
    "timm/mobilenetv3_small_050": 1024,
    "torchvision/vgg11": 4096,
    "torchvision/shufflenet_v2_x0_5": 1024,
    "support.own_nets:plain": 24,
}


@pytest.mark.parametrize("name", [*OURS, "resnet18", "mobilenetv2-1.4", *ELSEWHERE])
def test_the_logits_are_made_from_the_embedding_and_its_width_is_known_before(name):
    network = build(name, SMALL, seed=0).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        logits, maps, embedding = network.with_embedding(images)
        plain_logits, plain_maps = network(images)
        torch.testing.assert_close(network.output_layer(embedding), logits)
    assert torch.equal(logits, plain_logits)
    assert all(torch.equal(one, other) for one, other in zip(maps, plain_maps, strict=True))
    width = describe(name, SMALL).embedding
    assert embedding.shape == (2, width)
    assert facts(name, SMALL).embedding == width
    assert ELSEWHERE.get(name, width) == width


def test_taking_the_embedding_leaves_statistics_and_hooks_as_one_pass_does():
    one, other = (build("mobilenetv2-0.5", SMALL, seed=0) for _ in range(2))
    images = torch.randn(4, 3, 32, 32)
    one.with_embedding(images)
    other(images)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    assert not one.classifier._forward_pre_hooks


def test_gradients_reach_the_student_through_the_embedding():
    network = build("support.own_nets:plain", SMALL, seed=0)
    network.with_embedding(torch.randn(2, 3, 32, 32))[2].square().sum().backward()
    reached = {name for name, item in network.named_parameters() if item.grad is not None}
    assert any("third" in name for name in reached)
    assert not any("head" in name for name in reached)


@pytest.mark.parametrize("name", ["torchvision/squeezenet1_0", "support.own_nets:two_heads"])
def test_networks_without_an_embedding_are_refused_where_it_is_needed(name):
    geometry = Geometry(10, 3, 64)
    found = describe(name, geometry)
    assert found.embedding is None
    assert facts(name, geometry).embedding is None
    for pair in ((found, describe("resnet8")), (describe("resnet8"), found)):
        fault = make_method(MethodConfig("pkt")).fault(*pair)
        assert fault == f"{name} has no pooled embedding: its logits are not made by one linear layer"
        assert make_method(MethodConfig("pkt", {"weight": 0.0})).fault(*pair) is None
    with pytest.raises(TypeError, match="the network has no embedding"):
        build(name, geometry, seed=0).with_embedding(torch.zeros(1, 3, 64, 64))


def test_the_output_layer_is_the_one_linear_layer_that_makes_as_many_numbers_as_classes():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 10), torch.nn.ReLU(), torch.nn.Linear(10, 5))
    calls, _ = watched(network, torch.zeros(2, 3, 2, 2))
    assert find_output_layer(network, calls, 5) == "3"
    assert find_output_layer(network, calls, 10) == "1"
    assert find_output_layer(network, calls, 4) is None
    plain = Plain(5, 3)
    assert find_output_layer(plain, watched(plain, torch.zeros(2, 3, 8, 8))[0], 5) == "head"


def test_images_that_a_network_does_not_take_are_refused_as_ever():
    with pytest.raises(UserError, match="does not take images of 8 pixels"):
        describe("torchvision/alexnet", Geometry(10, 3, 8))
