"""Architectures of torchvision, timm and one's own: how they are named, where they are tapped, what they begin with."""

import hashlib
import json
import urllib.request
from pathlib import Path

import pytest
import torch
from support.own_nets import Plain

from ctkd_search.distill.recording import TeacherRun
from ctkd_search.distill.weights import put_weights
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.models import build, code_of, describe, maps
from ctkd_search.models.names import elsewhere

pytestmark = pytest.mark.usefixtures("single_thread")
PHOTOS, GREY = Geometry(10, 3, 32), Geometry(10, 1, 32)


def test_names_of_our_own_families_mean_nothing_elsewhere():
    assert elsewhere("wrn-16-1") is None
    assert elsewhere("unknown/resnet18") is None


@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        ("torchvision/resnet33", "torchvision has no classifier 'resnet33' (did you mean resnet34 or"),
        ("torchvision/fcn_resnet50", "torchvision has no classifier 'fcn_resnet50'"),
        ("timm/mobilenetv3_smal_100", "(did you mean mobilenetv3_small_100"),
        ("timm/resnet18.a9_in1k", "timm has no weights 'a9_in1k' of resnet18; there are: "),
        ("timm/resnet18.a1_in1k", "which have no effect without +pretrained"),
        ("timm/resnet10t+pretained", "unknown option +pretained (did you mean pretrained?); there are: +pretrained"),
        ("torchvision/resnet18+pretrained=yes", "must be given once as +pretrained (begins"),
        ("torchvision/resnet18+stem=tiny", "the stem must be small or full, but got 'tiny'"),
        ("torchvision/resnet18+stem=small+stem=full", "once"),
        ("torchvision/vgg11+stem=small", "begins without a stride or pooling, so that stem=small has no meaning"),
        ("timm/vit_tiny_patch16_224+stem=full", "cuts its images into patches, so that stem=full has no meaning"),
        ("torchvision/resnet18+taps=layer1|layer1", "+taps must name different modules"),
        ("torchvision/resnet18+taps=layr2", "'layr2' is not a module of it (did you mean layer2 or"),
        ("torchvision/resnet18+taps=fc", "'fc' returns no feature map of a square image"),
        ("support.own_nets:plain+pretrained", "+pretrained has no effect on your own code"),
        ("support.own_nets:missing", "has no 'missing'"),
        ("support.own_nets:NUMBER", "support.own_nets:NUMBER must be a function or class that returns a network"),
        ("support.own_nets:no_network", "returned a str; it must return an nn.Module"),
        ("support.own_nets:wrong_logits", "must return logits of shape (2, 10) for 2 images, but got shape (2, 11)"),
        ("support.own_nets:no_maps", "no feature maps were found; name the modules with +taps=MODULE|MODULE"),
        (
            "support.own_nets:breaks",
            "cannot be made for images of 32 pixels: RuntimeError: no weights for 10 classes (",
        ),
        ("no_such_nets:make", "there is no module 'no_such_nets'"),
        (
            "torchvision/vit_b_16",
            "cannot be made for images of 8 pixels: Input shape indivisible by patch size!; it takes",
        ),
        ("torchvision/vgg11", "does not take images of 8 pixels: "),
    ],
)
def test_a_wrong_name_is_answered_in_one_line_that_says_what_to_do(name, fragment):
    geometry = Geometry(10, 3, 8) if "8 pixels" in fragment else PHOTOS
    for ask in (describe, maps, lambda name, geometry: build(name, geometry, seed=0)):
        with pytest.raises(UserError) as caught:
            ask(name, geometry)
        assert fragment in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("torchvision/resnet34", "layer1, layer2, layer3, layer4"),
        ("timm/resnet50d", "layer1, layer2, layer3, layer4"),
        ("torchvision/vgg11", "features.1, features.4, features.9, features.14, features.19"),
        ("torchvision/googlenet", "conv3, inception3b, inception4e, inception5b"),
        ("timm/mobilenetv3_small_100", "blocks.0, blocks.1, blocks.3, blocks.5"),
        ("timm/vit_tiny_patch16_224", "blocks.2, blocks.5, blocks.8, blocks.11"),
        ("torchvision/squeezenet1_1", "features.4, features.7, classifier.0"),
        ("support.own_nets:plain", "first, second, third"),
        ("support.own_nets:plain+taps=third|first", "third, first"),
    ],
)
def test_stages_end_where_the_map_becomes_smaller(name, found):
    assert describe(name, PHOTOS).notes[-1] == f"maps of {found}"


def test_layer_numbers_mean_the_same_modules_whatever_the_images():
    for size in (8, 32, 64, 65, 224):
        assert (
            describe("torchvision/resnet18", Geometry(5, 3, size)).notes[-1] == "maps of layer1, layer2, layer3, layer4"
        )


def test_small_images_get_a_small_stem_unless_the_name_says_otherwise():
    def sides(name, size):
        return [shape.side for shape in maps(name, Geometry(10, 3, size))]

    assert sides("torchvision/resnet18", 64) == [64, 32, 16, 8]
    assert sides("torchvision/resnet18+stem=full", 64) == [16, 8, 4, 2]
    assert sides("torchvision/resnet18", 96) == [24, 12, 6, 3]
    assert sides("torchvision/resnet18+stem=small", 96) == [96, 48, 24, 12]
    # Branches side by side, of which one alone would lose its stride.
    assert sides("timm/repvgg_a0", 32) == [8, 4, 2, 1]
    small = build("torchvision/resnet18", PHOTOS, seed=0).network
    assert small.conv1.kernel_size == (3, 3)
    assert small.conv1.stride == (1, 1)
    assert isinstance(small.maxpool, torch.nn.Identity)
    # The network for small images of the distillation papers, by another name.
    assert (
        sum(p.numel() for p in build("torchvision/resnet18", Geometry(100, 3, 32), seed=0).parameters()) == 11_220_132
    )


def test_maps_are_what_the_named_modules_give():
    network = build("torchvision/resnet18+taps=layer1.0.conv1|layer3", PHOTOS, seed=0).eval()
    seen = {}
    inner = network.network
    inner.layer1[0].conv1.register_forward_hook(lambda _, __, output: seen.update(first=output))
    inner.layer3.register_forward_hook(lambda _, __, output: seen.update(second=output))
    with torch.no_grad():
        logits, found = network(torch.randn(2, 3, 32, 32))
        assert [torch.equal(one, other) for one, other in zip(found, seen.values(), strict=True)] == [True, True]
        assert not inner._forward_hooks
        torch.testing.assert_close(network.embed(found[-1]), seen["second"].mean(dim=(2, 3)))
    assert logits.shape == (2, 10)


def test_tokens_become_a_map_of_where_they_lie_in_the_image():
    network = build("timm/vit_tiny_patch16_224+taps=patch_embed|blocks.11", Geometry(10, 3, 64), seed=0).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        _, (patches, _) = network(images)
        embedding = network.network.patch_embed.proj
        corner = torch.nn.functional.conv2d(images[:, :, 16:32, 48:64], embedding.weight, embedding.bias)
    # The second row's last patch.
    torch.testing.assert_close(patches[0, :, 1, 3], corner.flatten(), rtol=1e-4, atol=1e-5)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Torch's cache of published weights, empty and in reach of no server."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for proxy in ("http_proxy", "https_proxy", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")
    # Made at the first request of a process, with the proxies of then.
    monkeypatch.setattr(urllib.request, "_opener", None)
    directory = tmp_path / "hub" / "checkpoints"
    directory.mkdir(parents=True)
    return directory


def publish(hub, name, classes=1000):
    """Puts weights where a download of torchvision would leave them; returns them."""
    from torchvision import models

    torch.manual_seed(0)
    made = models.get_model(name, weights=None, num_classes=classes).state_dict()
    torch.save(made, hub / Path(models.get_model_weights(name).DEFAULT.url).name)
    return made


def test_published_weights_are_taken_and_the_head_is_drawn_where_the_classes_are_others(hub):
    weights = publish(hub, "resnet18")
    network = build("torchvision/resnet18+pretrained", PHOTOS, seed=3).network.state_dict()
    assert torch.equal(network["conv1.weight"], weights["conv1.weight"])
    assert all(torch.equal(network[key], weights[key]) for key in weights if not key.startswith("fc."))
    assert network["fc.weight"].shape == (10, 512)
    other = build("torchvision/resnet18+pretrained", PHOTOS, seed=4).network.state_dict()
    assert not torch.equal(network["fc.weight"], other["fc.weight"])
    whole = build("torchvision/resnet18+pretrained", Geometry(1000, 3, 32), seed=3).network.state_dict()
    assert all(torch.equal(whole[key], weights[key]) for key in weights)


def test_published_weights_are_added_up_over_colours_for_grey_images(hub):
    weights = publish(hub, "resnet18")
    network = build("torchvision/resnet18+pretrained", GREY, seed=3).network.state_dict()
    torch.testing.assert_close(network["conv1.weight"], weights["conv1.weight"].sum(dim=1, keepdim=True))


def test_a_network_for_published_weights_scales_its_pixels_whatever_weights_it_gets(monkeypatch):
    from ctkd_search.models import foreign

    name = "torchvision/googlenet"
    monkeypatch.setattr(
        foreign, "torchvision_weights", lambda named: foreign.make(named.bare(), Geometry(1000, 3, 224)).state_dict()
    )
    monkeypatch.setattr(torch.nn.init, "trunc_normal_", lambda weight, **options: weight.detach().normal_(std=0.05))
    colour, grey = Geometry(10, 3, 96), Geometry(10, 1, 96)
    images, computed = torch.randn(2, 3, 96, 96), []
    weights = build(f"{name}+pretrained", colour, seed=1).state_dict()
    for published in (True, False):
        network = build(f"{name}+pretrained", colour, seed=0, published=published).eval()
        network.load_state_dict(weights)
        with torch.no_grad():
            computed.append(network(images)[0])
        # There is nothing to scale by of grey images.
        build(f"{name}+pretrained", grey, seed=0, published=published).eval()(images[:, :1])
        assert network.network.transform_input
    assert torch.equal(*computed)
    assert not build(name, colour, seed=0).network.transform_input


def test_published_weights_that_cannot_be_had_are_one_line_with_where_to_put_them(hub):
    with pytest.raises(UserError) as caught:
        build("torchvision/resnet18+pretrained", PHOTOS, seed=0)
    message = str(caught.value)
    assert "cannot get the published weights of torchvision/resnet18+pretrained from https://" in message
    assert f"put that file into {hub}, or leave +pretrained out" in message
    assert "\n" not in message
    # What is looked at needs no weights, and neither does a network that others are put into.
    assert maps("torchvision/resnet18+pretrained", PHOTOS)
    build("torchvision/resnet18+pretrained", PHOTOS, seed=0, published=False)


def test_published_weights_of_timm_come_from_the_hub_s_cache(tmp_path, monkeypatch):
    import timm
    from huggingface_hub import constants
    from safetensors.torch import save_file

    name = timm.get_pretrained_cfg("resnet10t").hf_hub_id
    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"cannot get the published weights of timm/resnet10t\+pretrained") as caught:
        build("timm/resnet10t+pretrained", PHOTOS, seed=0)
    assert "\n" not in str(caught.value)
    repository, commit = cache / f"models--{name.replace('/', '--')}", "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    torch.manual_seed(0)
    weights = timm.create_model("resnet10t").state_dict()
    save_file(weights, snapshot / "model.safetensors")
    (snapshot / "config.json").write_text(json.dumps({"architecture": "resnet10t"}))
    network = build("timm/resnet10t+pretrained", PHOTOS, seed=0).network.state_dict()
    assert torch.equal(network["layer1.0.conv1.weight"], weights["layer1.0.conv1.weight"])
    assert network["fc.weight"].shape == (10, 512)


def test_weights_that_their_maker_saved_fit_as_they_are():
    own = Plain(10, 3).state_dict()
    network = build("support.own_nets:plain", PHOTOS, seed=0)
    put_weights(network, own, "own.pt")
    assert all(torch.equal(value, own[key]) for key, value in network.network.state_dict().items())
    put_weights(network, network.state_dict(), "wrapped.pt")
    with pytest.raises(UserError, match=r"do not fit the network: network\.first\.0\.weight is missing"):
        put_weights(network, {"other": torch.zeros(1)}, "other.pt")


def test_what_names_the_cache_changes_with_the_user_s_code_and_with_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_changing_nets.py").write_text("def make(classes, channels, image_size): ...\n")
    text = (tmp_path / "my_changing_nets.py").read_bytes()
    assert code_of("my_changing_nets:make") == f"sha256 {hashlib.sha256(text).hexdigest()}"
    (tmp_path / "my_changing_nets.py").write_text("def make(classes, channels, image_size): ...  # otherwise\n")
    assert code_of("my_changing_nets:make") != f"sha256 {hashlib.sha256(text).hexdigest()}"
    assert code_of("wrn-16-1") is None
    assert code_of("torchvision/resnet18").startswith("torchvision ")
    assert "lamb_in1k" in code_of("timm/mobilenetv3_small_100+pretrained")
    # Outputs of these were recorded without their change of scale.
    assert code_of("torchvision/googlenet+pretrained").endswith(".pth transformed")
    assert code_of("torchvision/resnet18+pretrained").endswith(".pth")
    assert code_of("torchvision/googlenet") == code_of("torchvision/resnet18")


def test_cache_entries_of_our_own_families_keep_their_names():
    from ctkd_search.config import Augment
    from ctkd_search.recipe import Recipe

    run = TeacherRun("wrn-16-1", Recipe(), 3, 0, 0, Augment(), "data")
    assert "code" not in run.content()
    foreign = TeacherRun("timm/resnet10t", Recipe(), 3, 0, 0, Augment(), "data", code="timm 1")
    assert foreign.content()["code"] == "timm 1"
    assert foreign.entry != TeacherRun("timm/resnet10t", Recipe(), 3, 0, 0, Augment(), "data", code="timm 2").entry


def test_a_cache_entry_keeps_its_name_unless_a_single_last_image_joins_the_batch_before():
    import dataclasses

    from ctkd_search.config import Augment
    from ctkd_search.recipe import Recipe

    recipe = dataclasses.replace(Recipe(), precision="float32", batch_size=128)
    run = TeacherRun("wrn-16-1", recipe, 3, 0, 0, Augment(), "data")
    # As the versions before named them.
    assert run.entry == "teacher-b7e397bad4e7197d2ca170e8"
    assert dataclasses.replace(run, code="timm 1").entry == "teacher-54158d126a900996d7aef2ad"
    assert dataclasses.replace(run, joined=True).entry != run.entry
    assert dataclasses.replace(run, joined=True).content()["joined"] is True
