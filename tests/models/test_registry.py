"""Architectures by name: sizes that were published, seeds, and what a wrong name is answered with."""

import subprocess
import sys

import pytest
import torch

from ctkd_search.errors import UserError
from ctkd_search.geometry import MIN_SIZE, Geometry
from ctkd_search.models import build, code_of, describe, maps
from ctkd_search.models.registry import families

EXAMPLES = [name for family in families() for name in family.examples]
# Trainable parameters for images of 3 channels, as published with the distillation papers' code.
PUBLISHED = [
    ("wrn-16-1", 10, 175_066),
    ("wrn-40-1", 10, 563_930),
    ("wrn-40-1", 100, 569_780),
    ("wrn-16-2", 10, 691_674),
    ("wrn-16-2", 100, 703_284),
    ("wrn-40-2", 10, 2_243_546),
    ("wrn-40-2", 100, 2_255_156),
    ("wrn-28-10", 10, 36_479_194),
    ("wrn-28-10", 100, 36_536_884),
    ("resnet8", 10, 78_042),
    ("resnet20", 100, 278_324),
    ("resnet32", 100, 472_756),
    ("resnet56", 100, 861_620),
    ("resnet110", 100, 1_736_564),
    ("resnet8x4", 100, 1_233_540),
    ("resnet32x4", 100, 7_433_860),
    ("resnet18", 100, 11_220_132),
    ("resnet50", 100, 23_705_252),
    ("vgg8", 100, 3_965_028),
    ("vgg13", 100, 9_462_180),
    ("mobilenetv2-0.5", 100, 812_836),
    ("shufflenetv1", 100, 949_258),
    ("shufflenetv2", 100, 1_355_528),
]
SMALL = ("wrn-10-1", "resnet8")
GEOMETRY = Geometry(classes=10, channels=1, image_size=8)


@pytest.mark.parametrize(("name", "classes", "parameters"), PUBLISHED)
def test_parameter_count_is_the_published_one(name, classes, parameters):
    network = build(name, Geometry(classes, 3, 32), seed=0)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_a_narrow_network_has_that_share_of_the_channels():
    geometry = Geometry(10, 3, 32)
    whole, narrow = (dict(build(name, geometry, seed=0).named_parameters()) for name in ("resnet20", "resnet20x0.25"))
    assert whole.keys() == narrow.keys()
    for key, parameter in narrow.items():
        outputs, *inputs = whole[key].shape
        assert parameter.shape[0] == (10 if key.startswith("classifier") else outputs // 4), key
        if inputs:
            assert parameter.shape[1] == (3 if key == "stem.0.weight" else inputs[0] // 4), key
    assert [tap.channels for tap in describe("resnet20x0.125").taps] == [2, 4, 8]


def test_every_example_names_an_architecture():
    assert len(EXAMPLES) == len(set(EXAMPLES))
    assert all(describe(name).name == name for name in EXAMPLES)


def test_layers_count_the_taps_from_one():
    for name in EXAMPLES:
        assert describe(name).layers == tuple(range(1, len(describe(name).taps) + 1))


@pytest.mark.parametrize("name", EXAMPLES)
def test_blocks_are_counted_as_they_stand_in_the_network(name):
    with torch.device("meta"):
        network = build(name, Geometry(10, 3, 32), seed=0)
    widths = []
    network.stages[0][0].register_forward_pre_hook(lambda _, inputs: widths.append(inputs[0].shape[1]))
    network(torch.zeros(1, 3, 32, 32, device="meta"))
    assert describe(name).blocks == (widths[0], tuple(len(stage) for stage in network.stages))


@pytest.mark.parametrize("name", SMALL)
def test_same_seed_gives_the_same_weights(name):
    first, second = (build(name, GEOMETRY, seed=7).state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", SMALL)
def test_another_seed_gives_other_weights_in_every_layer(name):
    first, second = build(name, GEOMETRY, seed=7), build(name, GEOMETRY, seed=8)
    drawn = [key for key, value in first.named_parameters() if value.dim() > 1]
    assert drawn
    assert not any(torch.equal(first.get_parameter(key), second.get_parameter(key)) for key in drawn)


def test_weights_do_not_depend_on_the_global_random_state():
    torch.manual_seed(1)
    first = build("resnet8", GEOMETRY, seed=7).state_dict()
    torch.manual_seed(2)
    second = build("resnet8", GEOMETRY, seed=7).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", SMALL)
def test_building_leaves_the_global_random_state_alone(name):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    build(name, GEOMETRY, seed=7)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_building_leaves_the_gpu_random_state_alone():
    torch.cuda.manual_seed(3)
    before = torch.cuda.get_rng_state()
    build("resnet8", GEOMETRY, seed=7)
    assert torch.equal(torch.cuda.get_rng_state(), before)


@pytest.mark.parametrize("name", SMALL)
def test_convolutions_start_with_the_variance_of_their_fan_out(name):
    network = build(name, Geometry(10, 3, 32), seed=0)
    wide = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d) and module.in_channels > 16]
    assert wide
    for module in wide:
        expected = (2 / (module.kernel_size[0] * module.kernel_size[1] * module.out_channels)) ** 0.5
        assert module.weight.std().item() == pytest.approx(expected, rel=0.1)
        assert abs(module.weight.mean().item()) < 0.1 * expected


@pytest.mark.parametrize("name", ["", "vgg", "wrn-16", "wrn-16-1 ", "WRN-16-1", "wrn-16-1-1", "resnet", "resnet8x2"])
def test_unknown_name_is_answered_with_every_form_there_is(name):
    with pytest.raises(UserError) as caught:
        describe(name)
    assert f"unknown architecture {name!r}" in str(caught.value)
    assert all(family.form in str(caught.value) for family in families())


@pytest.mark.parametrize(
    ("name", "rule", "value"),
    [
        ("wrn-17-1", "6n + 4", "17"),
        ("wrn-4-1", "6n + 4", "4"),
        ("wrn-16-0", "at least 1", "0"),
        ("resnet19", "8, 14, 18, 20, 32, 34, 44, 50, 56, 101, 110, 152", "19"),
        ("vgg12", "8, 11, 13, 16, 19", "12"),
        ("mobilenetv2-0", "from 0.1 to 4", "0"),
        ("resnet50x4", "8, 14, 20, 32, 44, 56, 110", "50"),
        ("resnet50x0.25", "8, 14, 20, 32, 44, 56, 110", "50"),
        ("resnet8x0.3", "a multiple of 1/16 from 0.125 to below 1", "0.3"),
        ("resnet8x0.0625", "a multiple of 1/16 from 0.125 to below 1", "0.0625"),
    ],
)
def test_impossible_numbers_are_answered_with_the_rule_and_the_value(name, rule, value):
    for ask in (lambda: describe(name), lambda: build(name, GEOMETRY, seed=0)):
        with pytest.raises(UserError) as caught:
            ask()
        message = str(caught.value)
        assert repr(name) in message
        assert rule in message
        assert message.endswith(f"but got {value}")


@pytest.mark.parametrize("size", [0, MIN_SIZE - 1])
def test_image_sizes_out_of_range_are_refused_with_the_range(size):
    with pytest.raises(UserError, match=f"at least {MIN_SIZE} pixels a side, but got {size}"):
        build("resnet8", Geometry(10, 3, size), seed=0)


def test_describing_imports_no_torch():
    script = (
        "import sys; from ctkd_search.models import describe; "
        f"print([describe(name).taps for name in {EXAMPLES}] and sorted({{'torch', 'numpy'}} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def convolutions(name, size=32):
    network = build(name, Geometry(10, 3, size), seed=0)
    return [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]


def test_depthwise_convolutions_of_mobilenet_begin_with_the_variance_of_all_channels():
    # As in the code of arXiv 1910.10699, whose fan-out knows no groups: up to 22 times narrower than with them.
    depthwise = [module for module in convolutions("mobilenetv2-0.5") if module.groups > 1]
    assert len(depthwise) == 17
    for module in depthwise:
        expected = (2 / (9 * module.out_channels)) ** 0.5
        assert module.weight.std().item() == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize("name", ["shufflenetv1", "shufflenetv2"])
def test_convolutions_of_shufflenets_begin_as_torch_draws_them(name):
    for module in convolutions(name):
        bound = module.weight[0].numel() ** -0.5
        assert module.weight.abs().max().item() <= bound
        if module.weight.numel() > 500:
            assert module.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)


@pytest.mark.parametrize(("size", "sides"), [(32, [16, 8, 4, 4]), (63, [32, 16, 8, 8]), (64, [32, 16, 8, 4])])
def test_vgg_pools_four_times_from_64_pixels_on(size, sides):
    geometry = Geometry(10, 3, size)
    with torch.no_grad():
        _, found = build("vgg8", geometry, seed=0)(torch.zeros(2, 3, size, size))
    assert [features.shape[-1] for features in found] == [shape.side for shape in maps("vgg8", geometry)] == sides
    # A pooling has no weights, so that those of one size fit the other.
    assert build("vgg8", geometry, seed=0).state_dict().keys() == build("vgg8", GEOMETRY, seed=0).state_dict().keys()


@pytest.mark.parametrize(
    ("name", "changed"),
    [("vgg8", True), ("mobilenetv2-0.5", True), ("shufflenetv1", True), ("resnet20", False), ("wrn-16-1", False)],
)
def test_what_earlier_versions_kept_of_a_network_that_has_changed_is_not_taken_for_it(name, changed):
    assert (code_of(name) is not None) is changed
