"""Facts of a network without its weights, compared with the network itself."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from ctkd_search.checks.networks import all_facts, facts
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.models import build, registry
from ctkd_search.models.cost import multiply_adds, parameters

NAMES = [name for family in registry.families() for name in family.examples]
SMALL = ("resnet8", "wrn-16-1", "wrn-16-2", "vgg8", "mobilenetv2-0.5", "shufflenetv1", "resnet8x4")


@pytest.mark.parametrize("name", [name for name in NAMES if name in SMALL])
def test_what_is_reported_of_a_network_is_what_it_is(name):
    geometry = Geometry(7, 1, 32)
    found, network = facts(name, geometry), build(name, geometry, seed=0)
    assert found.parameters == parameters(network)
    assert found.multiply_adds == multiply_adds(network, geometry)
    with torch.no_grad():
        _, maps = network.eval()(torch.zeros(1, 1, 32, 32))
    assert found.maps == tuple(tuple(one.shape[1:]) for one in maps)


@pytest.mark.slow
def test_every_network_can_be_looked_at():
    known, faults = all_facts(NAMES, Geometry(10, 3, 64))
    assert set(known) == set(NAMES)
    assert faults == {}


def test_looking_leaves_the_random_numbers_as_they_were():
    before = torch.get_rng_state()
    facts("resnet8", Geometry(10, 3, 32))
    assert torch.equal(torch.get_rng_state(), before)


class Coarse(nn.Module):
    """Needs 12 pixels a side."""

    def __init__(self, geometry):
        super().__init__()
        self.filters = nn.Conv2d(geometry.channels, 4, 12)
        self.classifier = nn.Linear(4, geometry.classes)
        self.output_layer = self.classifier

    def forward(self, images):
        found = self.filters(images)
        return self.classifier(found.mean(dim=(2, 3))), [found]


@pytest.fixture
def _coarse(monkeypatch):
    family = registry.Family(
        re.compile(r"coarse(\d)"),
        "coarseN",
        (),
        lambda match: (registry.Tap(4, 1),),
        lambda match, geometry: Coarse(geometry),
    )
    families = (*registry.families(), family)
    monkeypatch.setattr(registry, "families", lambda: families)


@pytest.mark.usefixtures("_coarse")
def test_images_that_are_too_small_for_a_network_are_refused():
    assert facts("coarse1", Geometry(10, 3, 16)).maps == ((4, 5, 5),)
    with pytest.raises(UserError, match=r"coarse1 cannot take images of 8x8 pixels and 3 channels \(.*[Kk]ernel size"):
        facts("coarse1", Geometry(10, 3, 8))


@pytest.mark.usefixtures("_coarse", "own_directory")
def test_check_and_run_refuse_such_a_pair_at_its_line(call_here):
    space = "name: x\ndataset: {name: digits}\nsearch:\n  lr: {float: [0.1, 1]}\n  pair: wrn-10-1/coarse1\n"
    space += "  attention_layers: [1]\n"
    for words in (("check", "--no-measure"), ("run",)):
        code, err = call_here(space, *words)
        assert code == 2
        assert "line 5: search.pair wrn-10-1/coarse1: coarse1 cannot take images of 8x8 pixels" in err


@pytest.mark.usefixtures("own_directory")
def test_how_a_network_made_elsewhere_is_taken_is_reported(call):
    Path("space.yaml").write_text(
        "name: x\ndataset: {name: digits}\nsearch:\n  lr: {float: [0.1, 1]}\n"
        "  pair: torchvision/resnet18+taps=layer1|layer3 -> resnet8\n  attention_layers: [1, 2]\n"
    )
    code, out, err = call("check", "space.yaml", "--no-measure")
    assert code == 0, err
    said = [line for line in out.splitlines() if line.startswith("torchvision/resnet18+taps=layer1|layer3:")]
    assert said == [
        "torchvision/resnet18+taps=layer1|layer3: stem for small images (3x3 without its stride, no pooling); "
        "maps of layer1, layer3"
    ]
