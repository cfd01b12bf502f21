"""The contract of every architecture. A family of the registry inherits it by the examples it names."""

import io
import math

import pytest
import torch
import torch.nn.functional as F

from ctkd_search.models import Geometry, build, describe
from ctkd_search.models.registry import families

pytestmark = pytest.mark.usefixtures("single_thread")

# Too slow to run again and again on a CPU; their names and sizes are tested with the registry.
BIG = {"wrn-28-10", "resnet110", "resnet50"}
EXAMPLES = [name for family in families() for name in family.examples]
NAMES = sorted({*EXAMPLES, "wrn-10-1", "wrn-22-3", "resnet14", "resnet32", "resnet8x4", "vgg16"} - BIG)
GEOMETRIES = [Geometry(2, 1, 8), Geometry(10, 3, 15), Geometry(7, 1, 32), Geometry(100, 3, 64)]
SMALLEST = Geometry(10, 3, 8)


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
    network = build(name, geometry, seed=0)
    with torch.no_grad():
        logits, maps = network(random_images(geometry))
    sides = [math.ceil(geometry.image_size / tap.stride) for tap in describe(name).taps]
    channels = [tap.channels for tap in describe(name).taps]
    assert logits.shape == (2, geometry.classes)
    assert [tuple(one.shape) for one in maps] == [(2, c, s, s) for c, s in zip(channels, sides, strict=True)]
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", NAMES)
def test_network_starts_in_training_mode_on_the_cpu(name):
    network = build(name, SMALLEST, seed=0)
    assert all(module.training for module in network.modules())
    assert {parameter.device.type for parameter in network.parameters()} == {"cpu"}


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_every_parameter(name):
    network = build(name, SMALLEST, seed=0)
    logits, _ = network(random_images(SMALLEST, count=8))
    F.cross_entropy(logits, torch.arange(8)).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", NAMES)
def test_maps_are_part_of_the_graph(name):
    network = build(name, SMALLEST, seed=0)
    _, maps = network(random_images(SMALLEST))
    for layer in maps:
        network.zero_grad()
        layer.square().sum().backward(retain_graph=True)
        assert next(network.stem.parameters()).grad.abs().max() > 0


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_does_not_depend_on_the_rest_of_the_batch(name):
    network = build(name, SMALLEST, seed=0)
    images = random_images(SMALLEST, count=4)
    network(images)
    together = logits_of(network, images)
    alone = torch.cat([logits_of(network, image[None]) for image in images])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_state_survives_saving_and_loading(name):
    network, other = build(name, SMALLEST, seed=0), build(name, SMALLEST, seed=1)
    images = random_images(SMALLEST, count=4)
    network(images)  # moves the running statistics away from where they start
    kept = io.BytesIO()
    torch.save(network.state_dict(), kept)
    kept.seek(0)
    assert not torch.equal(logits_of(other, images), logits_of(network, images))
    other.load_state_dict(torch.load(kept, weights_only=True))
    assert torch.equal(logits_of(other, images), logits_of(network, images))


@pytest.mark.parametrize("name", NAMES)
def test_what_precedes_the_classifier_can_be_had_from_the_last_map(name):
    network = build(name, SMALLEST, seed=0).eval()
    with torch.no_grad():
        logits, maps = network(random_images(SMALLEST))
        assert torch.equal(network.classifier(network.embed(maps[-1])), logits)
    assert network.layers == describe(name).layers


@pytest.mark.parametrize("name", NAMES)
def test_stages_are_sequences_of_blocks(name):
    network = build(name, SMALLEST, seed=0).eval()
    with torch.no_grad():
        _, maps = network(random_images(SMALLEST))
        features = network.stem(random_images(SMALLEST))
        for stage, tapped in zip(network.stages, maps, strict=True):
            for block in stage:
                features = block(features)
            assert torch.equal(features, tapped)
