"""Checkpoints of published distillation code: loaded by names, they compute what they computed there."""

import pytest
import torch
from support.published_nets import (
    FunctionResidual,
    Mobile,
    RawShortcutWide,
    Shuffle,
    Shuffle2,
    Vgg,
    Wide,
    four_stages,
    randomised,
    three_stages,
)

from ctkd_search.distill.weights import load_own_expert
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.models.registry import families, namings

pytestmark = pytest.mark.usefixtures("single_thread")
CLASSES = 7
IMAGES = Geometry(CLASSES, 3, 32)
OPTION_B = ("shortcut", "linear")
PUBLISHED = {
    "wrn-10-1": lambda: Wide(10, 1, CLASSES),
    "wrn-16-2": lambda: Wide(16, 2, CLASSES),
    "wrn-40-1": lambda: Wide(40, 1, CLASSES),
    "resnet8": lambda: three_stages(8, CLASSES),
    "resnet20": lambda: three_stages(20, CLASSES, names=OPTION_B),
    "resnet56": lambda: three_stages(56, CLASSES),
    "resnet8x4": lambda: three_stages(8, CLASSES, wide=True),
    "resnet32x4": lambda: three_stages(32, CLASSES, wide=True),
    "resnet18": lambda: four_stages((2, 2, 2, 2), CLASSES),
    "resnet50": lambda: FunctionResidual((3, 4, 6, 3), CLASSES, bottleneck=True),
    "vgg8": lambda: Vgg((1, 1, 1, 1, 1), CLASSES),
    "vgg11": lambda: Vgg((1, 1, 2, 2, 2), CLASSES),
    "vgg13": lambda: Vgg((2, 2, 2, 2, 2), CLASSES),
    "mobilenetv2-0.5": lambda: Mobile(0.5, CLASSES),
    "mobilenetv2-1": lambda: Mobile(1, CLASSES),
    "shufflenetv1": lambda: Shuffle(CLASSES),
    "shufflenetv2": lambda: Shuffle2(CLASSES),
}


def saved(network, path):
    """As RepDistiller's and mdistiller's training scripts save it."""
    torch.save({"epoch": 240, "model": network.state_dict(), "best_acc": torch.tensor([75.61])}, path)
    return str(path)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_network_computes_the_same_here(tmp_path, name):
    network = randomised(PUBLISHED[name]())
    expert = load_own_expert(saved(network, tmp_path / "ckpt_epoch_240.pth"), name, IMAGES)
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits, maps_there = network(images)
        here, maps_here = expert.network.eval()(images)
    assert logits.std() > 1e-3  # they differ from image to image, or the comparison would say nothing
    assert (logits[0] - logits[1]).abs().max() > 1e-4
    torch.testing.assert_close(here, logits, rtol=1e-5, atol=1e-5 * float(logits.abs().max()))
    assert [tuple(one.shape) for one in maps_here] == [tuple(one.shape) for one in maps_there]
    for one, other in zip(maps_here, maps_there, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))
    assert f"{len(network.state_dict())} tensors under 'model'" in str(expert)
    assert "named as in " in str(expert)


def test_bottlenecks_and_basic_blocks_have_both_kinds_of_names(tmp_path):
    for name, made in {
        "resnet18": FunctionResidual((2, 2, 2, 2), CLASSES),
        "resnet50": four_stages((3, 4, 6, 3), CLASSES, bottleneck=True),
    }.items():
        network = randomised(made)
        expert = load_own_expert(saved(network, tmp_path / "x.pth"), name, IMAGES).network.eval()
        images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            torch.testing.assert_close(expert(images)[0], network(images)[0], rtol=1e-4, atol=1e-4)


def test_every_family_has_names_of_published_code():
    assert all(namings(name) for family in families() for name in family.members)


def test_another_network_of_the_published_code_is_recognised(tmp_path):
    path = saved(Wide(22, 2, 100), tmp_path / "wrn.pth")
    with pytest.raises(UserError, match=r"do not fit wrn-16-2: these are weights of wrn-22-2 and not of wrn-16-2"):
        load_own_expert(path, "wrn-16-2", IMAGES)
    path = saved(three_stages(20, CLASSES), tmp_path / "resnet.pth")
    with pytest.raises(UserError, match=r"these are weights of resnet20 and not of wrn-16-2"):
        load_own_expert(path, "wrn-16-2", IMAGES)


@pytest.mark.parametrize(
    ("made", "name", "size", "reason"),
    [
        (lambda: RawShortcutWide(16, 1, CLASSES), "wrn-16-1", 32, "does not normalise the input of its shortcuts"),
        (lambda: four_stages((2, 2, 2, 2), CLASSES, names=("downsample", "fc")), "resnet18", 32, "max-pooling in the"),
        (lambda: Vgg((1, 1, 1, 1, 1), CLASSES, norm=False), "vgg8", 32, "has no batch normalisation"),
        (lambda: Vgg((1, 1, 1, 1, 1), CLASSES), "vgg8", 28, "rounds odd sizes down"),
    ],
    ids=["shortcuts", "torchvision", "plain-vgg", "odd-size"],
)
def test_network_that_computes_differently_under_like_names_is_refused(tmp_path, made, name, size, reason):
    path = saved(made(), tmp_path / "other.pth")
    with pytest.raises(UserError) as caught:
        load_own_expert(path, name, Geometry(CLASSES, 3, size))
    assert reason in str(caught.value)


def test_shortcuts_without_weights_are_refused_for_what_they_are(tmp_path):
    state = three_stages(20, CLASSES, names=OPTION_B).state_dict()
    torch.save({name: one for name, one in state.items() if "shortcut" not in name}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"pad with zeros \(option A\)"):
        load_own_expert(str(tmp_path / "a.pt"), "resnet20", IMAGES)


def test_vgg_on_64_pixels_pools_as_often_as_the_published_one(tmp_path):
    network, images = randomised(Vgg((1, 1, 1, 1, 1), CLASSES)), Geometry(CLASSES, 3, 64)
    path = saved(network, tmp_path / "vgg.pth")
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        logits, _ = load_own_expert(path, "vgg8", images).network.eval()(pixels)
        torch.testing.assert_close(logits, network(pixels)[0], rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match=r"more than 64 pixels it pools three times"):
        load_own_expert(path, "vgg8", images._replace(image_size=96))
