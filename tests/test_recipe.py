"""Recipes: the course of the learning rate in closed form, and what is left out of them."""

import math

import pytest

from ctkd_search.recipe import SCHEDULES, Recipe


def rates(epochs=10, steps=4, **settings):
    recipe = Recipe(lr=0.5, **settings)
    return [recipe.lr_at(epoch, epochs, step, steps) for epoch in range(epochs) for step in range(steps)]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_warm_up_grows_step_by_step_to_the_peak_and_every_rate_is_above_zero(schedule):
    found = rates(schedule=schedule, warmup=2.0)
    assert found[:8] == pytest.approx([0.5 * number / 8 for number in range(1, 9)])
    assert max(found) == pytest.approx(0.5)
    assert min(found) > 0


def test_cosine_and_linear_schedules_fall_from_the_peak_to_nothing_after_the_warm_up():
    shares = [number / 32 for number in range(32)]
    assert rates(schedule="cosine", warmup=2)[8:] == pytest.approx([0.25 * (1 + math.cos(math.pi * x)) for x in shares])
    assert rates(schedule="linear", warmup=2)[8:] == pytest.approx([0.5 * (1 - x) for x in shares])
    assert rates(schedule="linear") == pytest.approx([0.5 * (1 - number / 40) for number in range(40)])


def test_a_constant_rate_falls_in_its_cooldown_by_the_square_root():
    found = rates(schedule="constant", cooldown=0.3, warmup=1)
    assert found[4:28] == pytest.approx([0.5] * 24)
    assert found[28:] == pytest.approx([0.5 * (1 - math.sqrt(number / 12)) for number in range(12)])


def test_milestones_drop_between_epochs_and_wait_for_the_warm_up():
    found = rates(milestones=(0.3, 0.6), gamma=0.1, warmup=0.5)
    assert found[:2] == pytest.approx([0.25, 0.5])
    assert found[2:12] == pytest.approx([0.5] * 10)
    assert found[12:24] == pytest.approx([0.05] * 12)
    assert found[24:] == pytest.approx([0.005] * 16)


def test_a_warm_up_of_less_than_a_step_changes_nothing():
    assert rates(schedule="cosine", warmup=0.1)[0] == 0.5


def test_settings_without_effect_are_left_out():
    left_out = set(Recipe.__dataclass_fields__) - set(Recipe(optimizer="adamw", schedule="constant").effective())
    assert left_out == {"momentum", "nesterov", "optimizer_options", "milestones", "gamma", "effective_beta"}
    assert "decay" not in Recipe(weight_decay=0.0).effective()
    assert not {"cooldown", "effective_beta"} & Recipe().effective().keys()
    assert "effective_beta" in Recipe(class_weights="effective").effective()
    assert Recipe(optimizer_options={"eps": 1e-6}).effective()["optimizer_options"] == {"eps": 1e-6}


def test_a_recipe_is_described_as_before_unless_a_later_setting_is_used():
    first = {"batch_size", "lr", "momentum", "nesterov", "weight_decay", "milestones", "gamma", "precision"}
    assert set(Recipe(lr=0.3, nesterov=True).described()) == first
    assert set(Recipe(schedule="cosine").described()) == {*first, "schedule"}


def test_recipes_that_differ_from_step_to_step_alone_share_a_structure():
    one = Recipe(lr=0.3, schedule="cosine", warmup=2.0)
    assert one.structure() == Recipe(lr=0.1, milestones=(0.5,)).structure()
    for other in (
        Recipe(clip=1.0),
        Recipe(momentum=0.5),
        Recipe(optimizer="adamw"),
        Recipe(decay="weights"),
        Recipe(class_weights=(1.0,)),
    ):
        assert one.structure() != other.structure()
        assert hash(one.structure()) != hash(other.structure())
