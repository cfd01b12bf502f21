"""The recipe of a space, or of a config, that says nothing of one."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from ctkd_search.recipe import LINEAR, Recipe

# Settings that make up the course of a training. Where one of them is named, the others are the paper's, which belong
# together too.
COURSE = (
    *("optimizer", "optimizer_options", "momentum", "nesterov"),
    *("schedule", "warmup", "milestones", "gamma", "cooldown"),
)
# Of the recipes in benchmarks/recipes.py the one that is best, or within a point of it, for each of three students at
# 10, 30 and 60 epochs.
LR, WARM_UP = 0.2, 0.15


def default_course(epochs: int) -> dict[str, Any]:
    """Returns the settings of the default recipe that are not the paper's.

    Args:
        epochs: Epochs of the training.
    """
    return {"lr": LR, "nesterov": True, "schedule": LINEAR, "warmup": round(WARM_UP * epochs, 2)}


def completed(recipe: Recipe, given: Collection[str], epochs: int, searched: Collection[str] = ()) -> Recipe:
    """Returns a recipe with the default course, if no part of a course is named.

    Args:
        recipe: The recipe as it was read, with the paper's settings where none are given.
        given: Names of the settings that are given.
        epochs: Epochs of the training.
        searched: Names of the settings that are searched.
    """
    if not set(COURSE).isdisjoint({*given, *searched}):
        return recipe
    course = {name: value for name, value in default_course(epochs).items() if name not in given}
    return dataclasses.replace(recipe, **course)


def keys_of(section: Any) -> set[str]:
    """Returns the keys of a section as it stands in the file; none if it is no mapping."""
    return set(section) if isinstance(section, Mapping) else set()
