"""Configs of one space in another one."""

from __future__ import annotations

import pytest
from support.factories import RESNET, SEARCH, WRN, a_space

from ctkd_search.geometry import Geometry
from ctkd_search.space.transfer import Elsewhere, transfer

DIGITS, PHOTOGRAPHS = Geometry(10, 1, 8), Geometry(10, 3, 32)


def a_config(space, geometry=DIGITS, **values):
    """The default settings of a space, but for some values, as a config of a search of it."""
    own = space.effective({**space.decode(space.paper_point()), **values})
    return Elsewhere(own, space.augment.given(), geometry, space.budget.epochs)


def test_a_config_of_the_same_space_stays_as_it_is():
    space = a_space()
    config = a_config(space, lr=0.05, step_loss="kl", temperature=7.0, pair=WRN)
    stored, changed = transfer(space, config)
    assert changed == []
    assert stored == {"pair": WRN, "step_loss": "kl", "temperature": 7.0, "alpha": 1.0, "lr": 0.05}


@pytest.mark.parametrize(
    ("search", "values", "expected", "changed"),
    [
        # Beyond a range: its nearest end.
        ({"lr": {"float": [0.01, 0.1], "log": True}}, {"lr": 0.2}, {"lr": 0.1}, ["lr"]),
        ({"lr": {"float": [0.1, 0.2]}}, {"lr": 0.05}, {"lr": 0.1}, ["lr"]),
        # A pair that is not searched here: the default one, or the first.
        ({"pair": {"choice": [WRN, "wrn-10-1/resnet8"]}}, {"pair": RESNET}, {"pair": WRN}, ["pair"]),
        ({"pair": {"choice": [WRN, "wrn-40-1/wrn-16-1"]}}, {"pair": RESNET}, {"pair": "wrn-40-1/wrn-16-1"}, ["pair"]),
        # Of numbers, the nearest option; of layers, the most alike.
        ({"lr": {"choice": [0.01, 0.06, 0.3]}}, {"lr": 0.05}, {"lr": "0.06"}, ["lr"]),
        (
            {"attention_layers": {"choice": [[1], [2, 3]]}},
            {"attention_layers": (1, 2, 3)},
            {"attention_layers": "2,3"},
            ["attention_layers"],
        ),
        # Not searched here: the value here.
        ({"lr": 0.07}, {"lr": 0.05}, {"lr": None}, ["lr"]),
        (
            {"step_loss": "mse", "temperature": None},
            {"step_loss": "kl"},
            {"step_loss": None},
            ["step_loss", "temper", "standard"],
        ),
        # Searched here, and not there.
        ({"momentum": {"float": [0.5, 0.95]}}, {}, {"momentum": 0.9}, []),
        ({"momentum": {"float": [0.5, 0.8]}}, {}, {"momentum": 0.8}, ["momentum"]),
    ],
    ids=str,
)
def test_what_a_space_does_not_have_becomes_what_is_nearest(search, values, expected, changed):
    searched = {key: entry for key, entry in {**SEARCH, **search}.items() if entry is not None}
    paper = {"train": {"schedule": "milestones"}}  # in both, whatever is searched of the recipe
    stored, found = transfer(a_space(search=searched, **paper), a_config(a_space(**paper), **values))
    assert {name: stored.get(name) for name in expected} == expected
    assert len(found) == len(changed)
    assert all(name.startswith(start) for name, start in zip(found, changed, strict=True))


def test_a_method_that_is_not_searched_here_has_no_point():
    kd = {"pair": RESNET, "method": {"choice": ["kd", "none"]}, "lr": {"float": [0.01, 0.3]}}
    config = a_config(a_space(search=kd), method="kd", **{"kd.temperature": 3.0})
    ranges = {"temperature": {"float": [1, 20]}}
    assert transfer(a_space(), config) is None
    both = {**kd, "method": {"choice": ["ctkd", "kd"]}, "kd": ranges}
    stored, changed = transfer(a_space(search=both), config)
    assert changed == []
    assert (stored["method"], stored["kd.temperature"]) == ("kd", 3.0)


def test_the_weight_of_a_mean_over_positions_keeps_its_ratio_to_its_default():
    # The maps of images of 32 pixels have 16 times the positions of those of 8 pixels.
    search = {**SEARCH, "beta": {"float": [0.1, 1e6], "log": True}}
    config = a_config(a_space(search=search), beta=20.0)
    assert transfer(a_space(search=search), config).stored["beta"] == pytest.approx(20)
    large = config._replace(geometry=PHOTOGRAPHS)
    stored, changed = transfer(a_space(search=search), large)
    assert stored["beta"] == pytest.approx(20 / 16)
    assert changed == ["beta"]
    unknown = config._replace(geometry=None)
    assert transfer(a_space(search=search), unknown).stored["beta"] == 20


def test_a_warm_up_keeps_its_share_of_the_epochs():
    search = {**SEARCH, "warmup": {"float": [0, 5]}}
    config = a_config(a_space(search=search, budget={"epochs": 18}), warmup=3.0)
    stored, changed = transfer(a_space(search=search, budget={"epochs": 9}), config)
    assert (stored["warmup"], changed) == (1.5, ["warmup"])


def test_with_another_optimizer_the_learning_rate_is_the_default_here():
    adam = {**SEARCH, "lr": {"float": [0.0001, 0.01], "log": True}}
    there, here = a_space(search=adam, train={"optimizer": "adamw"}), a_space()
    stored, changed = transfer(here, a_config(there, lr=0.002))
    assert stored["lr"] == here.paper_point()["lr"]
    assert {"optimizer", "lr"} <= {*changed}
    either = a_space(search={**SEARCH, "optimizer": {"choice": ["sgd", "adamw"]}, "lr": {"float": [0.0001, 0.3]}})
    stored, _ = transfer(either, a_config(there, lr=0.002))
    assert (stored["optimizer"], stored["lr"]) == ("adamw", 0.002)


def test_an_augmentation_is_known_by_its_settings():
    choice = {"plain": {"crop": 1}, "mixed": {"crop": 1, "mixup": 0.2}}
    here = a_space(search={**SEARCH, "augment": {"choice": choice}})
    mixed = a_config(a_space())._replace(augment=here.augments["mixed"].given())
    stored, changed = transfer(here, mixed)
    assert (stored["augment"], changed) == ("mixed", [])
    stored, changed = transfer(here, mixed._replace(augment={**mixed.augment, "mixup": 0.3}))
    assert (stored["augment"], changed) == ("plain", ["augment"])
    # Where none is searched.
    assert transfer(a_space(), mixed).changed == ["augment"]
    assert transfer(a_space(), mixed._replace(augment=None)).changed == []
