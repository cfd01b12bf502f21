"""What a network costs, against sums made by hand."""

from __future__ import annotations

import pytest
import torch
from test_registry import PUBLISHED
from torch import nn

from ctkd_search.geometry import Geometry
from ctkd_search.models import build
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


# Billions of multiply-adds as torchvision publishes them with its weights; timm's vit_tiny is counted below, and
# mobilevit_s was counted without fused attention.
PUBLISHED_ADDS = {
    ("torchvision/vit_b_16", 224): 17.564,
    ("torchvision/swin_t", 224): 4.491,
    ("torchvision/convnext_tiny", 224): 4.456,
    ("torchvision/resnet50", 224): 4.089,
    ("torchvision/mobilenet_v3_small", 224): 0.057,
    ("timm/vit_tiny_patch16_224", 224): 1.254,
    ("timm/mobilevit_s", 256): 2.001,
}
# Those that are built and run on the CPU too, where attention is fused unless it is told not to be.
ON_CPU = ("timm/vit_tiny_patch16_224", "timm/mobilevit_s", "torchvision/mobilenet_v3_small")


@pytest.mark.parametrize(("name", "size"), PUBLISHED_ADDS)
def test_multiply_adds_of_transformers_hold_their_attention(name, size):
    geometry = Geometry(1000, 3, size)
    devices = ("meta", "cpu") if name in ON_CPU else ("meta",)
    for device in devices:
        with torch.device(device):
            network = build(name, geometry, seed=0, published=False).to(device)
        assert multiply_adds(network, geometry) / 1e9 == pytest.approx(PUBLISHED_ADDS[name, size], abs=6e-4), device


def test_attention_of_torch_s_own_layers_is_counted_by_hand():
    # Its fast path is one operation that holds its projections too; one layer of torchvision's transformers.
    width, tokens = 12, 16
    layer = nn.MultiheadAttention(width, 3, batch_first=True)

    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = layer

        def forward(self, images):
            found = images.flatten(2).transpose(1, 2)
            return self.attention(found, found, found, need_weights=False)[0]

    fast = torch.backends.mha.get_fastpath_enabled()
    projections, products = 4 * tokens * width**2, 2 * tokens**2 * width
    assert multiply_adds(Tokens(), Geometry(2, width, 4)) == projections + products
    assert torch.backends.mha.get_fastpath_enabled() == fast


def test_multiply_adds_of_one_transformer_by_hand():
    # 197 tokens of 192 channels, 12 blocks: projections, queries with keys and with values, two linear layers.
    tokens, width = 197, 192
    block = 4 * tokens * width**2 + 2 * tokens**2 * width + 8 * tokens * width**2
    by_hand = 196 * 3 * 16**2 * width + 12 * block + 1000 * width
    assert by_hand / 1e9 == pytest.approx(PUBLISHED_ADDS["timm/vit_tiny_patch16_224", 224], abs=6e-4)


# What the convolutional families counted before attention was looked at, with 100 classes and 3 channels of 32 pixels.
CONVOLUTIONAL = {
    "wrn-16-1": 26_663_168,
    "wrn-16-2": 101_118_464,
    "wrn-40-1": 83_286_272,
    "wrn-40-2": 327_610_880,
    "resnet8": 12_507_392,
    "resnet14": 26_663_168,
    "resnet20": 40_818_944,
    "resnet32": 69_130_496,
    "resnet44": 97_442_048,
    "resnet56": 125_753_600,
    "resnet8x4": 177_071_104,
    "resnet18": 555_468_800,
    "resnet34": 1_159_448_576,
    "resnet50": 1_298_014_208,
    "vgg8": 96_192_512,
    "vgg11": 209_438_720,
    "vgg13": 284_936_192,
    "vgg16": 398_182_400,
    "mobilenetv2-0.5": 6_523_648,
    "shufflenetv1": 38_691_456,
    "shufflenetv2": 44_504_448,
}


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_multiply_adds_of_convolutional_networks_are_as_ever(name):
    geometry = Geometry(100, 3, 32)
    with torch.device("meta"):
        network = build(name, geometry, seed=0).to("meta")
    assert multiply_adds(network, geometry) == CONVOLUTIONAL[name]
