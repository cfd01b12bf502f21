"""Every parameter of every method changes the loss for a pair, images and epochs, or says why it does not."""

import pytest
from support.classroom import PAIRS, PARAMETERS, other_values, parameter_of, trajectory, with_effect
from support.methods import with_values

from ctkd_search.config import MethodConfig
from ctkd_search.distill.methods.base import make_method
from ctkd_search.geometry import Geometry
from ctkd_search.models import describe
from ctkd_search.space.effects import setting_of

pytestmark = pytest.mark.usefixtures("single_thread")

TEN, TWO = Geometry(10, 1, 8), Geometry(2, 1, 8)
# vgg's last two maps have one position for images of 8 pixels.
SINGLE = (("vgg11", "vgg8"),)
SAME = (("resnet8", "resnet8"),)
WHERE = {
    "two classes": {"geometry": TWO, "pairs": PAIRS, "epochs": 4},
    "one epoch": {"geometry": TEN, "pairs": PAIRS, "epochs": 1},
    "two epochs": {"geometry": TEN, "pairs": PAIRS, "epochs": 2},
    "maps of one position": {"geometry": TEN, "pairs": SINGLE, "epochs": 2},
    "one architecture": {"geometry": TEN, "pairs": SAME, "epochs": 2},
}
# Where nothing but these can differ from what the tests of methods look at.
ONLY = {
    "two classes": {"dkd", "kd", "scratch-only", "none"},
    "two epochs": {"iakd", "rco", "scratch-only"},
    "maps of one position": {"at", "ctkd-as-released"},
    "one architecture": {"dml", "iakd"},
}
CASES = [(where, name, key) for where in WHERE for name, key in PARAMETERS if name in ONLY.get(where, {name})]


def setting(where, config):
    made = make_method(config)
    fitting = [pair for pair in where["pairs"] if made.fault(*map(describe, pair)) is None]
    return setting_of("/".join(fitting[0]), where["geometry"], where["epochs"]) if fitting else None


@pytest.mark.parametrize(("place", "name", "key"), CASES)
def test_a_parameter_changes_the_loss_or_says_why_it_does_not(place, name, key):
    where, config, parameter = WHERE[place], with_effect(name, key), parameter_of(name, key)
    others = other_values(parameter, config.values[key])
    if parameter.kind == "layers" and where["pairs"] == SINGLE:
        config, others = with_values(config, **{key: (1,)}), [(1, 3), (1, 2), (4, 1)]
    others = [
        value for value in others if not make_method(with_values(config, **{key: value})).epochs_fault(where["epochs"])
    ]
    if make_method(config).epochs_fault(where["epochs"]):
        return  # refused for so few epochs
    # Of values that are as far apart as so few epochs can tell, some give another loss; or none has an effect.
    here = setting(where, config)
    compared = [changed for value in others if setting(where, changed := with_values(config, **{key: value})) == here]
    if here is None or not compared:
        return  # for another pair, or for none
    # Where blocks are drawn, or images are remembered, a few steps.
    steps = 3 if name in {"iakd", "crd"} else 1
    expected = trajectory(config, steps, **where)
    has_effect = any(trajectory(changed, steps, **where) != expected for changed in compared)
    idle = all(key in make_method(changed).idle(here) for changed in compared)
    assert has_effect != idle


@pytest.mark.parametrize(
    ("place", "config", "idle"),
    [
        ("two classes", MethodConfig("dkd"), {"beta", "warmup_share"}),
        ("one epoch", MethodConfig("dkd", {"warmup_share": 0.0}), set()),
        ("one epoch", MethodConfig("ctkd"), {"alpha_schedule", "alpha_share", "beta_schedule", "beta_share"}),
        (
            "one epoch",
            MethodConfig("fitnets", {"training": "stages"}),
            {"hint_share", "temperature", "weight", "standardised", "standardised_factor"},
        ),
        ("two epochs", MethodConfig("iakd", {"schedule": "review"}), {"schedule", "cycles", "end_probability"}),
        ("two epochs", MethodConfig("iakd", {"schedule": "linear"}), set()),
        ("maps of one position", MethodConfig("at", {"attention_layers": (1, 2)}), set()),
        ("maps of one position", MethodConfig("at", {"attention_layers": (2, 3, 4)}), {"attention_layers"}),
        ("one architecture", MethodConfig("dml"), {"peer"}),
        ("one architecture", MethodConfig("iakd", {"bridge": True}), {"bridge"}),
    ],
)
def test_what_has_no_effect_is_known(place, config, idle):
    assert set(make_method(config).idle(setting(WHERE[place], config))) == idle
