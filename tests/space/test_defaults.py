"""Defaults that depend on the pair and the images, and that they are the same wherever nothing is said."""

import dataclasses

import numpy as np
import pytest
import torch
import yaml
from support.factories import a_space, a_trial
from support.methods import with_values

from ctkd_search.config import MethodConfig
from ctkd_search.distill.lesson import Lesson, StudentOutput
from ctkd_search.distill.methods.base import make_method, methods
from ctkd_search.distill.requests import TeacherOutput
from ctkd_search.errors import UserError
from ctkd_search.final.baselines import named_baseline
from ctkd_search.final.plan import FinalPlan
from ctkd_search.geometry import Geometry
from ctkd_search.models import build
from ctkd_search.pairs import Pair
from ctkd_search.records.config_file import read_config
from ctkd_search.records.trial_configs import config_of
from ctkd_search.space.comparisons import baseline_config
from ctkd_search.space.defaults import default_of
from ctkd_search.space.definition import shown_values

FOUR, THREE = "vgg13/vgg8", "wrn-16-1/resnet8"
TINY = {"name": "tiny-imagenet"}
RESNETS = "torchvision/resnet34 -> torchvision/resnet18"


def parameter(method, name):
    return next(item for item in methods()[method].parameters if item.name == name)


@pytest.mark.parametrize(
    ("pair", "layers"),
    [
        (THREE, (1, 2, 3)),
        (FOUR, (1, 2, 3, 4)),
        ("resnet50/mobilenetv2-0.5", (1, 2, 3, 4)),
        ("vgg13/wrn-16-1", (1, 2, 3)),
        ("wrn-16-1/vgg8", (1, 2, 3)),
        (RESNETS, (1, 2, 3, 4)),
        ("torchvision/resnet18+taps=layer1|layer3 -> wrn-16-1", (1, 2)),
    ],
)
def test_all_layers_that_both_networks_have_are_the_default(pair, layers):
    for method, name in (("ctkd", "attention_layers"), ("at", "attention_layers"), ("fs", "statistics_layers")):
        assert default_of(parameter(method, name), pair, Geometry(10, 3, 32)) == layers
    assert default_of(parameter("iakd", "stages"), pair, Geometry(10, 3, 32)) == layers
    # One method compares the last of them alone.
    assert default_of(parameter("sp", "similarity_layers"), pair, Geometry(10, 3, 32)) == layers[-1:]
    # A parameter that does not depend on it stays.
    assert default_of(parameter("fitnets", "hint_layers"), pair, Geometry(10, 3, 32)) == (2,)


@pytest.mark.parametrize(
    ("pair", "size", "weight"),
    [
        (THREE, 32, 1000.0),
        (THREE, 8, 62.5),
        (THREE, 64, 4000.0),
        (THREE, 28, 765.625),
        (FOUR, 32, 1000.0),
        (FOUR, 64, 4000.0),
        # Its map has 56 positions a side at 224 pixels, and at 32, with the stem for small images, 32.
        (RESNETS, 224, 3062.5),
        # Patches of 16 pixels: 14 a side, and 2.
        ("timm/vit_tiny_patch16_224 -> timm/vit_tiny_patch16_224", 224, 49000.0),
        # Compared at the smaller map's size, 56 and 32 a side.
        ("torchvision/resnet34 -> wrn-16-1", 224, 3062.5),
    ],
)
def test_a_weight_of_a_mean_over_positions_grows_with_them(pair, size, weight):
    for method in ("ctkd", "at", "expert-only", "ctkd-as-released"):
        assert default_of(parameter(method, "beta"), pair, Geometry(10, 3, size)) == pytest.approx(weight)
    assert default_of(parameter("ctkd", "alpha"), pair, Geometry(10, 3, size)) == 1.0


def test_every_weight_of_an_attention_loss_depends_on_the_size_and_no_other():
    sized = {(name, item.name) for name, method in methods().items() for item in method.parameters if item.side}
    weighed = {
        (name, item.name)
        for name, method in methods().items()
        for item in method.parameters
        if item.term == "loss_attention"
    }
    assert sized == weighed


def test_a_pair_that_cannot_be_has_no_defaults():
    with pytest.raises(UserError, match="unknown architecture 'resnet9000'"):
        default_of(parameter("ctkd", "attention_layers"), "resnet9000/resnet8", None)


def searched(pair, **sections):
    search = {"pair": pair, "alpha": {"float": [0.01, 5]}, "lr": {"float": [0.01, 0.3]}}
    return a_space(dataset=TINY, search=search, **sections)


@pytest.mark.parametrize(("pair", "layers"), [(FOUR, (1, 2, 3, 4)), (THREE, (1, 2, 3))])
def test_what_is_not_said_is_the_same_in_trials_baselines_final_training_and_configs(pair, layers, tmp_path):
    # One space has both pairs, another one alone: a default is the pair's own in either.
    for chosen in (searched(pair), searched({"choice": [THREE, FOUR]})):
        of_trials = [config for config in chosen.pair_configs() if str(Pair(config.teacher, config.student)) == pair]
        (config,) = of_trials
        at = baseline_config(chosen, "at", pair)
        papers = baseline_config(chosen, "ctkd-paper", pair)
        for found in (config, at, papers, baseline_config(chosen, "ctkd-as-released", THREE)):
            assert found.method.values["beta"] == 4000.0
        for found in (config, at, papers):
            assert found.method.values["attention_layers"] == layers
        # Beside a config that knows nothing of attention, and one whose weight is 0.
        for method in (MethodConfig("none", {"label_smoothing": 0.0}), with_values(config.method, beta=0.0)):
            alone = dataclasses.replace(config, method=method)
            assert named_baseline(alone, "at").method == at.method
            assert named_baseline(alone, "ctkd-paper").method == papers.method
        assert FinalPlan("x", config).config.method == config.method
        # A record gives what it says, and a config file what it leaves out.
        record = a_trial(1, values=shown_values(config))
        assert config_of(chosen, record).method == config.method
        content = {
            "name": "x",
            "pair": pair,
            "epochs": 2,
            "method": {"name": "at"},
            "dataset": {"name": "tiny-imagenet", "root": str(tmp_path)},
        }
        (tmp_path / "best.yaml").write_text(yaml.safe_dump(content))
        assert read_config(tmp_path / "best.yaml").config.method == at.method


@pytest.mark.parametrize(
    ("pair", "last"), [(FOUR, (4,)), (THREE, (3,)), ("torchvision/resnet18+taps=layer1|layer3 -> wrn-16-1", (2,))]
)
def test_the_last_maps_of_a_pair_are_compared_in_trials_and_baselines_unless_others_are_asked_for(pair, last):
    search = {"pair": pair, "method": "sp", "lr": {"float": [0.01, 0.3]}}
    chosen = a_space(dataset=TINY, search=search, baselines=["sp"])
    (config,) = chosen.pair_configs()
    alone = dataclasses.replace(config, method=MethodConfig("none", {"label_smoothing": 0.0}))
    for found in (config, baseline_config(chosen, "sp", pair), named_baseline(alone, "sp")):
        assert found.method.values["similarity_layers"] == last
    asked = a_space(dataset=TINY, search={**search, "sp": {"similarity_layers": [1, 2]}}).pair_configs()
    assert [found.method.values["similarity_layers"] for found in asked] == [(1, 2)]


def test_the_first_trial_has_each_pair_s_own_defaults_or_the_nearest_there_are():
    both = searched({"choice": [THREE, FOUR]})
    for pair, layers in ((THREE, (1, 2, 3)), (FOUR, (1, 2, 3, 4))):
        assert both.decode(both.paper_point(pair=pair))["attention_layers"] == layers
    search = {"pair": FOUR, "beta": {"float": [1, 100]}, "attention_layers": {"subsets": [2, 3, 4]}}
    point = a_space(dataset=TINY, search=search).paper_point()
    assert (point["beta"], point["attention_layers"]) == (100.0, "2,3,4")


def test_a_record_keeps_what_it_trained_whatever_the_default_has_become():
    chosen = searched(FOUR)
    values = {"beta": 1000.0, "attention_layers": [1, 2, 3]}
    method = config_of(chosen, a_trial(1, space=chosen, stored={"alpha": 1.0, "lr": 0.1}, values=values)).method
    assert (method.values["beta"], method.values["attention_layers"], method.values["alpha"]) == (
        1000.0,
        (1, 2, 3),
        1.0,
    )


def test_a_condition_may_name_the_default_layers_of_a_pair():
    search = {
        "pair": {"choice": [THREE, FOUR]},
        "alpha": {"float": [0.01, 5]},
        "lr": {"float": [0.01, 0.3], "when": {"attention_layers": "1,2,3,4"}},
    }
    chosen = a_space(dataset=TINY, search=search)
    assert [name for name, _ in chosen.ordered].index("lr") > 1
    assert set(chosen.paper_point(pair=FOUR)) == {"pair", "alpha", "lr"}
    assert set(chosen.paper_point(pair=THREE)) == {"pair", "alpha"}


def test_attention_of_networks_with_four_maps_compares_all_four():
    geometry = Geometry(10, 3, 32)
    config = baseline_config(searched(FOUR), "at", FOUR)
    method = make_method(config.method)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(4, 3, 32, 32, generator=generator)
        _, theirs = build("vgg13", geometry, seed=0)(images)
        logits, ours = build("vgg8", geometry, seed=1)(images)
        flat = [[features.pow(2).mean(1).flatten(1) for features in maps] for maps in (ours, theirs)]
        expected = sum(
            np.mean((torch.nn.functional.normalize(a) - torch.nn.functional.normalize(b)).numpy() ** 2)
            for a, b in zip(*flat, strict=True)
        )
        said = {
            TeacherOutput("attention", layer): torch.nn.functional.normalize(flat[1][layer - 1])
            for layer in (1, 2, 3, 4)
        }
        terms = method.terms(StudentOutput(logits, ours), Lesson(images, torch.arange(4), None, said))
    assert terms["loss_attention"].item() == pytest.approx(4000 * expected, rel=1e-5)
    assert set(method.needs.expert) == set(said)
