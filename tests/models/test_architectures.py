"""The contract of every architecture: those of the families by the examples they name, and some made elsewhere."""

import copy
import functools
import io
import math
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ctkd_search import models
from ctkd_search.geometry import Geometry
from ctkd_search.models import build, describe
from ctkd_search.models.cost import multiply_adds, parameters
from ctkd_search.models.registry import families
from ctkd_search.students.formats import ONNX, TORCH, write_student
from ctkd_search.students.served import Metadata, ServedStudent

pytestmark = pytest.mark.usefixtures("single_thread")

# Too slow to run again and again on a CPU; their names and sizes are tested with the registry.
BIG = {"wrn-28-10", "resnet110", "resnet50"}
EXAMPLES = [name for family in families() for name in family.examples]
OWN = sorted({*EXAMPLES, "wrn-10-1", "wrn-22-3", "resnet14", "resnet32", "resnet8x4", "vgg16"} - BIG)
# One of each kind: residual and not, published for 224 pixels, tokens, channels last, dropout, hard activations.
ELSEWHERE = [
    "torchvision/resnet18",
    "torchvision/mobilenet_v3_small",
    "torchvision/shufflenet_v2_x0_5+stem=full",
    "timm/mobilenetv3_small_050",
    "timm/resnet10t+taps=layer2|layer4",
    "timm/vit_tiny_patch16_224",
    "timm/convnext_atto",
    "support.own_nets:plain",
    "support.own_nets:noisy+taps=first|second|third",
    "support.own_nets:refuses_meta",
]
NAMES = [*OWN, *ELSEWHERE]
GEOMETRIES = [Geometry(2, 1, 8), Geometry(10, 3, 15), Geometry(7, 1, 32), Geometry(100, 3, 64)]
SMALLEST = Geometry(10, 3, 8)


def smallest(name):
    """The smallest images that all of a source's architectures above take."""
    return SMALLEST if name in OWN else Geometry(10, 3, 32)


@functools.cache
def _built(name, seed):
    return build(name, smallest(name), seed=seed)


def fresh(name, seed=0):
    """A network for the smallest images that has just been built, or a copy of one."""
    return copy.deepcopy(_built(name, seed))


def random_images(geometry, count=2):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, geometry.channels, geometry.image_size, geometry.image_size, generator=generator)


def logits_of(network, images):
    network.eval()
    with torch.no_grad():
        return network(images)[0]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids="classes={0.classes}-size={0.image_size}".format)
@pytest.mark.parametrize("name", NAMES)
def test_logits_and_maps_have_the_shapes_that_were_described(name, geometry):
    if name in ELSEWHERE and geometry.image_size < 32:
        pytest.skip("those have minimum sizes of their own")
    network = build(name, geometry, seed=0)
    with torch.no_grad():
        logits, found = network(random_images(geometry))
    expected = models.maps(name, geometry)
    assert logits.shape == (2, geometry.classes)
    assert [tuple(one.shape) for one in found] == [(2, shape.channels, shape.side, shape.side) for shape in expected]
    described = describe(name, geometry)
    assert [tap.channels for tap in described.taps] == [shape.channels for shape in expected]
    assert network.layers == described.layers == tuple(range(1, len(expected) + 1))
    if name in OWN:
        sides = [math.ceil(geometry.image_size / tap.stride) for tap in described.taps]
        assert sides == [shape.side for shape in expected]
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", NAMES)
def test_network_starts_in_training_mode_on_the_cpu(name):
    network = fresh(name)
    assert all(module.training for module in network.modules())
    assert {parameter.device.type for parameter in network.parameters()} == {"cpu"}


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_every_parameter(name):
    network = fresh(name)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.fill_(0.1)  # begins at zero, as the last normalisation of a residual block may
    logits, _ = network(random_images(smallest(name), count=8))
    F.cross_entropy(logits, torch.arange(8)).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", NAMES)
def test_maps_are_part_of_the_graph(name):
    network = fresh(name)
    _, maps = network(random_images(smallest(name)))
    for layer in maps:
        network.zero_grad()
        layer.square().sum().backward(retain_graph=True)
        assert next(network.parameters()).grad.abs().max() > 0


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_does_not_depend_on_the_rest_of_the_batch(name):
    network = fresh(name)
    images = random_images(smallest(name), count=4)
    network(images)
    together = logits_of(network, images)
    alone = torch.cat([logits_of(network, image[None]) for image in images])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_state_survives_saving_and_loading(name):
    network, other = fresh(name), fresh(name, seed=1)
    images = random_images(smallest(name), count=4)
    network(images)  # moves the running statistics away from where they start
    kept = io.BytesIO()
    torch.save(network.state_dict(), kept)
    kept.seek(0)
    assert not torch.equal(logits_of(other, images), logits_of(network, images))
    other.load_state_dict(torch.load(kept, weights_only=True))
    assert torch.equal(logits_of(other, images), logits_of(network, images))


@pytest.mark.parametrize("name", OWN)
def test_what_precedes_the_classifier_can_be_had_from_the_last_map(name):
    network = fresh(name).eval()
    with torch.no_grad():
        logits, maps = network(random_images(smallest(name)))
        assert torch.equal(network.classifier(network.embed(maps[-1])), logits)


@pytest.mark.parametrize("name", OWN)
def test_stages_are_sequences_of_blocks(name):
    network = fresh(name).eval()
    with torch.no_grad():
        _, maps = network(random_images(smallest(name)))
        features = network.stem(random_images(smallest(name)))
        for stage, tapped in zip(network.stages, maps, strict=True):
            for block in stage:
                features = block(features)
            assert torch.equal(features, tapped)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_weights_depend_on_the_seed_alone_and_no_random_state_is_touched(name):
    def states():
        return torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()

    torch.manual_seed(123)
    before = states()
    first = build(name, smallest(name), seed=7).state_dict()
    after = states()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    torch.manual_seed(5)
    second = build(name, smallest(name), seed=7).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    other = build(name, smallest(name), seed=8)
    drawn = [key for key, value in other.named_parameters() if value.dim() == 4]
    assert drawn
    assert not any(torch.equal(first[key], other.get_parameter(key)) for key in drawn)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_multiply_adds_and_parameters_are_counted(name):
    network = fresh(name)
    counted = multiply_adds(network, smallest(name))
    # Every convolution at least once at every position of its output, every linear layer once; nothing else is known.
    assert counted >= sum(p.numel() for n, p in network.named_parameters() if p.dim() in (2, 4)) * 0.5
    assert parameters(network) == sum(p.numel() for p in network.network.parameters())


def trained_a_little(name, geometry):
    """A network whose running statistics have left where they begin, so that its probabilities are no extremes."""
    network = build(name, geometry, seed=0)
    with torch.no_grad():
        for _ in range(30):
            network(random_images(geometry, count=16))
    return network


EXPORTED = ["shufflenetv1", "torchvision/resnet18", "timm/mobilenetv3_small_050", "support.own_nets:noisy"]
# Loads graphs one after the other; says after each which of their makers' code has been imported by then.
LOADING = """
import sys, torch
for path in sys.argv[1:]:
    torch.export.load(path).module()
    print(sorted({"timm", "support", "ctkd_search"} & set(sys.modules)))
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_student_is_exported_as_a_graph_that_needs_no_code_of_its_maker(tmp_path):
    paths = []
    for number, name in enumerate(EXPORTED):
        geometry = smallest(name)
        served = ServedStudent(trained_a_little(name, geometry), (128.0,) * 3, (64.0,) * 3)
        metadata = Metadata(tuple("abcdefghij"), geometry.image_size, geometry.channels, name)
        paths.append(str(tmp_path / f"{number}.pt2"))
        # Both compare what they wrote with the student.
        write_student(served, metadata, tmp_path / f"{number}.pt2", TORCH)
        if name != "torchvision/resnet18":
            write_student(served, metadata, tmp_path / f"{number}.onnx", ONNX)
    ended = subprocess.run(
        [sys.executable, "-c", LOADING, *paths], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert ended.stdout.splitlines() == ["[]"] * len(EXPORTED), ended.stderr[-1000:]
