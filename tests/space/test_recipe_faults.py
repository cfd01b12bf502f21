"""Settings of recipes that have no effect, or that are impossible, are refused with their place and what to do."""

import pytest
import torch
from support.factories import a_space

from ctkd_search.config import Erasing
from ctkd_search.data.erasing import draw_erasing
from ctkd_search.errors import UserError


def faults(train=None, search=None, recipe=None, epochs=9):
    sections = {"budget": {"epochs": epochs}, "search": {"lr": {"float": [0.01, 0.3]}, **(search or {})}}
    if train is not None:
        sections["train"] = train
    if recipe is not None:
        sections["teachers"] = {"recipe": recipe}
    try:
        a_space(**sections)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("train", "search", "message"),
    [
        ({"optimizer": "adam-w"}, {}, "train.optimizer must be one of sgd, sgdw, "),
        ({"optimizer": "adamw", "momentum": 0.9}, {}, "train.momentum has no effect where optimizer is adamw"),
        ({"optimizer": "adamw", "nesterov": True}, {}, "train.nesterov has no effect where optimizer is adamw"),
        ({"nesterov": True, "momentum": 0.0}, {}, "train.momentum must be greater than 0 where nesterov is true"),
        ({"schedule": "cosine", "milestones": [0.5]}, {}, "train.milestones has no effect where schedule is cosine"),
        ({"schedule": "linear", "gamma": 0.5}, {}, "train.gamma has no effect where schedule is linear"),
        ({"cooldown": 0.5}, {}, "train.cooldown has no effect where schedule is milestones"),
        ({"weight_decay": 0.0, "decay": "weights"}, {}, "train.decay has no effect where weight_decay is 0"),
        ({"warmup": 9}, {}, "train.warmup must be less than the epochs 9, but got 9"),
        (
            {"schedule": "constant", "warmup": 3, "cooldown": 0.8},
            {},
            "train.cooldown must begin after the warm-up: at most 0.667, but got 0.8",
        ),
        (
            {"schedule": "constant"},
            {"warmup": {"float": [0, 5]}, "cooldown": {"float": [0.1, 0.8]}},
            "search.cooldown must begin after the warm-up: at most 0.444, but got 0.8",
        ),
        # Of the two warm-ups with which the schedule may be constant, the longer one.
        (
            {},
            {
                "schedule": {"choice": ["constant", "linear"], "when": {"optimizer": ["sgd", "lion"]}},
                "optimizer": {"choice": ["sgd", "lion", "adamw"]},
                "warmup": {"choice": [1, 3, 8], "when": {"optimizer": ["sgd", "adamw"]}},
                "cooldown": {"choice": [0.2, 0.6], "when": {"schedule": "constant", "warmup": [0, 1, 3]}},
            },
            "search.cooldown must begin after the warm-up: at most 0.111, but got 0.2",
        ),
        ({"optimizer_options": {"rho": 1}}, {}, "train.optimizer_options.rho is no option of optimizer sgd"),
        (
            {"optimizer": "lion", "optimizer_options": {"betas": "x"}},
            {},
            "train.optimizer_options cannot be used with optimizer lion",
        ),
        ({}, {"warmup": {"float": [0, 10]}}, "search.warmup must be less than the epochs 9, but got 10"),
        ({}, {"cooldown": {"float": [0.1, 0.5]}}, "search.cooldown has no effect where schedule is milestones"),
        (
            {},
            {"optimizer": {"choice": ["sgd", "lion"]}, "momentum": {"float": [0.5, 0.9]}},
            "search.momentum has no effect where optimizer is lion; add when: {optimizer: [sgd]}",
        ),
        (
            {"optimizer_options": {"dampening": 0.1}},
            {"optimizer": {"choice": ["sgd", "adamw"]}},
            "train.optimizer_options.dampening is no option of optimizer adamw",
        ),
        ({"milestones": [0.5]}, {"schedule": {"choice": ["cosine", "linear"]}}, "train.milestones has no effect"),
        ({"clip": -1}, {}, "train.clip must be at least 0"),
        ({"average": -0.5}, {}, "train.average must be at least 0"),
    ],
)
def test_a_setting_that_cannot_act_is_refused(train, search, message):
    assert message in faults(train, search)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"optimizer": "lion", "momentum": 0.5}, "teachers.recipe.momentum has no effect where optimizer is lion"),
        ({"warmup": 12}, "teachers.recipe.warmup must be less than the epochs 9, but got 12"),
        ({"average": 1}, "teachers.recipe.average is for the student alone; leave it out"),
        ({"schedule": "cosine", "gamma": 0.1}, "teachers.recipe.gamma has no effect where schedule is cosine"),
    ],
)
def test_the_teachers_recipe_is_judged_like_the_students(recipe, message):
    assert message in faults(recipe=recipe)


@pytest.mark.parametrize(
    ("train", "search"),
    [
        ({"milestones": [0.5]}, {"schedule": {"choice": ["cosine", "milestones"]}}),
        ({"momentum": 0.8}, {"optimizer": {"choice": ["sgd", "adamw"]}}),
        ({"optimizer": "muon", "momentum": 0.95, "clip": 1.0, "decay": "weights"}, {"warmup": {"float": [0, 2]}}),
        ({"optimizer": "adamw", "optimizer_options": {"betas": [0.9, 0.95]}}, {"average": {"float": [0, 2]}}),
        (
            {"schedule": "constant", "warmup": 1},
            {"cooldown": {"float": [0.1, 0.5]}, "weight_decay": {"float": [0, 0.1]}},
        ),
        ({"nesterov": True}, {"momentum": {"float": [0.1, 0.9]}}),
        # The long warm-up and the long cooldown never come together.
        (
            {},
            {
                "schedule": {"choice": ["constant", "linear"]},
                "warmup": {"float": [0, 5], "when": {"schedule": "linear"}},
                "cooldown": {"float": [0.1, 0.8], "when": {"schedule": "constant"}},
            },
        ),
        (
            {},
            {
                "method": {"choice": ["ctkd", "kd"]},
                "schedule": {"choice": ["constant", "linear"]},
                "warmup": {"float": [0, 5], "when": {"method": "kd"}},
                "cooldown": {"float": [0.3, 0.8], "when": {"schedule": "constant", "method": "ctkd"}},
            },
        ),
        (
            {"schedule": "constant"},
            {
                "attention_layers": {"subsets": [1, 2, 3]},
                "warmup": {"choice": [1, 5], "when": {"attention_layers": ["1", "2,3"]}},
                "cooldown": {"choice": [0.3, 0.9], "when": {"attention_layers": ["3"]}},
            },
        ),
    ],
)
def test_settings_that_act_in_some_trials_are_taken(train, search):
    assert faults(train, search) == ""


def test_the_first_trial_has_the_papers_recipe_and_every_searched_setting_reaches_the_config():
    searched = {
        "optimizer": {"choice": ["adamw", "sgd"]},
        "schedule": {"choice": ["cosine", "milestones"]},
        "warmup": {"float": [0, 3]},
        "average": {"float": [0, 2]},
        "clip": {"float": [0, 5]},
        "lr": {"float": [0.01, 0.3]},
    }
    space = a_space(search=searched)
    first = space.decode(space.paper_point())
    assert {name: first[name] for name in searched} == {
        "optimizer": "sgd",
        "schedule": "milestones",
        "warmup": 0,
        "average": 0,
        "clip": 0,
        "lr": 0.1,
    }
    other = {**first, "optimizer": "adamw", "schedule": "cosine", "warmup": 2.5, "average": 0.5, "clip": 3.0}
    recipe = space.config(other).train
    assert (recipe.optimizer, recipe.schedule, recipe.warmup, recipe.average, recipe.clip) == (
        *("adamw", "cosine", 2.5, 0.5, 3.0),
    )
    assert "momentum" in space.effective(first)
    assert "momentum" not in space.effective(other)


@pytest.mark.parametrize("smallest", [0.01, 0.5, 0.6, 0.7, 0.8, 0.87, 0.89])
def test_an_erasing_is_refused_if_it_leaves_next_to_nothing_of_every_image_or_erases_none(smallest):
    """Of 64 pixels, a square of seven a side leaves 15."""
    area = (smallest, smallest + 0.01)
    drawn = draw_erasing(Erasing(1, area), 2000, 8, lambda purpose: torch.Generator().manual_seed(len(purpose)))
    erased = drawn[:, 2] * drawn[:, 3]
    message = ""
    try:
        a_space(augment={"erasing": {"probability": 1, "area": list(area)}})
    except UserError as error:
        message = str(error)
    assert ("augment.erasing.area leaves no more than a row and a column" in message) == (int(erased.max()) == 49)
    assert ("augment.erasing.area has no effect" in message) == (int(erased.max()) == 0)
    if erased.max() == 49:
        a_space(augment={"erasing": {"probability": 0.9, "area": list(area)}})
