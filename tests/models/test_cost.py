"""What a network costs, against sums made by hand."""

from __future__ import annotations

import pytest
import torch
from test_registry import PUBLISHED
from torch import nn

from ctkd_search.models import Geometry, build
from ctkd_search.models.cost import costs, latency_ms, multiply_adds, parameters
from ctkd_search.models.network import StagedNetwork, conv3x3

CPU = torch.device("cpu")

pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.mark.parametrize(("name", "classes", "count"), [item for item in PUBLISHED if item[2] < 3e6])
def test_parameters_are_the_published_count(name, classes, count):
    assert parameters(build(name, Geometry(classes, 3, 32), seed=0)) == count


@pytest.mark.parametrize(("channels", "size", "classes"), [(3, 32, 10), (1, 8, 100), (3, 15, 2)])
def test_multiply_adds_of_a_small_network_are_those_counted_by_hand(channels, size, classes):
    stem = conv3x3(channels, 4)
    stages = [nn.Sequential(conv3x3(4, 6, stride=2), nn.BatchNorm2d(6), nn.ReLU()), nn.Conv2d(6, 5, 1)]
    network = StagedNetwork(stem, stages, nn.Identity(), 5, classes)
    half = (size + 1) // 2
    by_hand = size * size * channels * 9 * 4 + half * half * 4 * 9 * 6 + half * half * 6 * 5 + 5 * classes
    assert multiply_adds(network, Geometry(classes, channels, size)) == by_hand
    assert parameters(network) == channels * 9 * 4 + 4 * 9 * 6 + 2 * 6 + (6 * 5 + 5) + (5 * classes + classes)


def by_hand(name, geometry):
    """Multiply-adds of a residual network, from its description."""
    kind, depth, *wide = name.replace("resnet", "resnet-").replace("x4", "-4").split("-")
    if kind == "wrn":
        blocks, inputs, widths = (int(depth) - 4) // 6, 16, [16 * int(wide[0]) * 2**stage for stage in range(3)]
    else:
        blocks, inputs = (int(depth) - 2) // 6, 32 if wide else 16
        widths = [64, 128, 256] if wide else [16, 32, 64]
    sides = [geometry.image_size]
    for _ in range(2):
        sides.append((sides[-1] + 1) // 2)
    total = sides[0] ** 2 * 9 * geometry.channels * inputs
    for stage, (width, side) in enumerate(zip(widths, sides, strict=True)):
        for block in range(blocks):
            total += side**2 * 9 * width * (inputs + width)
            if inputs != width or (block == 0 and stage > 0):
                total += side**2 * inputs * width
            inputs = width
    return total + widths[-1] * geometry.classes


@pytest.mark.parametrize("geometry", [Geometry(10, 3, 32), Geometry(10, 1, 8), Geometry(100, 3, 15)], ids=str)
@pytest.mark.parametrize("name", ["resnet8", "resnet20", "resnet8x4", "wrn-10-1", "wrn-16-2", "wrn-40-1"])
def test_multiply_adds_of_an_architecture_are_those_of_its_description(name, geometry):
    assert multiply_adds(build(name, geometry, seed=0), geometry) == by_hand(name, geometry)


def test_the_description_above_counts_as_it_is_published():
    # 41 million for ResNet-20 and 69 for ResNet-32 on CIFAR-10, as He et al. and those after them have it.
    assert by_hand("resnet20", Geometry(10, 3, 32)) == pytest.approx(41e6, rel=0.02)
    assert by_hand("resnet32", Geometry(10, 3, 32)) == pytest.approx(69e6, rel=0.02)


def test_counting_leaves_the_network_as_it_was():
    geometry = Geometry(10, 1, 8)
    network = build("resnet8", geometry, seed=0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.stages[0].eval()
    multiply_adds(network.eval(), geometry)
    assert not network.training
    multiply_adds(network.train(), geometry)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_latency_is_measured_and_grows_with_the_network():
    small, large = Geometry(10, 1, 8), Geometry(10, 3, 32)
    found = latency_ms(build("resnet8", small, seed=0), small, CPU)
    assert 0.01 < found < 1000
    assert latency_ms(build("resnet8x4", large, seed=0), large, CPU) > found


def test_costs_are_told_by_the_names_that_limits_have():
    geometry = Geometry(10, 3, 32)
    found = costs("resnet8", geometry, CPU)
    assert set(found) == {"params", "multiply_adds", "latency_ms"}
    assert (found["params"], found["multiply_adds"]) == (78_042, by_hand("resnet8", geometry))
    assert found["latency_ms"] > 0
