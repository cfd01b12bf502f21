"""Simulated searches that begin with configs of earlier ones, and other tools that are told the same configs."""

from __future__ import annotations

import earlier_searches
import optuna
import pytest
from earlier_searches import WarmSearch, after_another, points_for, published_elsewhere
from own_search import Settings, space_for
from peers import OptunaSearch, RaySearch
from surrogate import Training
from test_shipped_search import training

from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.space.transfer import Elsewhere

CIFAR = Geometry(10, 3, 32)
METHOD = {"pair": "resnet20/resnet8", "method": "ctkd", "step_loss": "mse", "alpha": 0.3, "attention_layers": (3,)}
RECIPE = {"optimizer": "sgd", "schedule": "cosine", "warmup": 1.5}
CONFIGS = [Elsewhere({**METHOD, **RECIPE, "beta": 250.0, "lr": rate}, None, CIFAR, 9) for rate in (0.3, 0.9)]
# The weight of the maps' mean keeps its ratio to its default, which is a sixteenth for images of a quarter of the side;
# the warm-up keeps its share of the epochs; the rate is the nearest one of the space.
FIRST = {"step_loss": "mse", "alpha": 0.3, "attention_layers": "3", "schedule": "cosine", "warmup": 3.0}


def check_first(asked):
    for point, rate in zip(asked, (0.3, 0.5), strict=True):
        assert point == pytest.approx({**FIRST, "beta": 250 / 16, "lr": rate})


def test_the_configs_come_first_as_this_space_has_them_then_the_default_settings_then_others():
    search = WarmSearch("digits", 0, {"sampler": "random"}, CONFIGS)
    asked = [search.ask(number) for number in range(4)]
    check_first(asked[:2])
    assert asked[2] == search.space.paper_point()
    assert asked[3]["lr"] not in (0.3, 0.5)
    other = WarmSearch("digits", 0, {"sampler": "random"}, CONFIGS, defaults_first=True)
    asked = [other.ask(number) for number in range(3)]
    assert asked[0] == search.space.paper_point()
    check_first(asked[1:])


def test_other_tools_try_the_same_configs_first():
    points, space = points_for("digits", CONFIGS), space_for("digits", 0, Settings())
    optunas = OptunaSearch(space, 0, optuna.pruners.NopPruner, points)
    rays = RaySearch(space, 0, 18, points, grace_period=5, reduction_factor=3)
    for search in (optunas, rays):
        asked = [search.ask(number) for number in range(3)]
        check_first(asked[:2])
        assert asked[2]["lr"] not in (0.3, 0.5)


def test_configs_of_methods_that_are_not_searched_are_refused():
    with pytest.raises(UserError, match="no earlier config has a method that the space logits searches"):
        points_for("logits", CONFIGS)


@pytest.mark.parametrize(("table", "channels"), [("digits", 3), ("cifar", 1)])
def test_published_configs_are_of_searches_on_other_images(table, channels):
    found = published_elsewhere(table, 0)
    assert {config.geometry.channels for config in found} == {channels}
    assert points_for(table, found)


class Known:
    """A surrogate whose trainings end the higher, the higher the rate."""

    best = 90.0
    epochs = 18

    def training(self, stored) -> Training:
        return training(0.4 + stored["lr"], 1 - stored["lr"])


def test_each_search_has_an_earlier_one_of_its_own_on_the_other_images(monkeypatch):
    asked = []
    monkeypatch.setattr(earlier_searches, "_surrogate", lambda *what: asked.append(what) or Known())
    monkeypatch.setattr(earlier_searches, "_EARLIER_BUDGET", 8)
    first, again, other = (after_another("digits", seed) for seed in (0, 0, 1))
    assert asked == [("cifar", 237)] * 3
    assert first == again != other
    rates = [config.values["lr"] for config in first]
    assert rates == sorted(rates, reverse=True)
    assert {(config.geometry, config.epochs) for config in first} == {(CIFAR, 18)}
