"""Faults of recipes: settings without effect beside the others, and those that are impossible."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ctkd_search.recipe import BALANCED, CONSTANT, EFFECTIVE, OF_SCHEDULE, SGD, WITH_MOMENTUM, Recipe


class Course(NamedTuple):
    """The beginning and the end of a constant schedule: the epochs of its warm-up, and the share of its cooldown."""

    warmup: float
    cooldown: float


def recipe_faults(
    recipe: Recipe,
    given: Collection[str],
    epochs: int,
    classes: int | None,
    possible: Mapping[str, Sequence[Any]] | None = None,
    sampling: str | None = None,
    courses: Sequence[Course] | None = None,
) -> Iterator[tuple[str, str]]:
    """Yields the faults of a recipe.

    Args:
        recipe: The recipe.
        given: Names of the settings that the user has given for it.
        epochs: Epochs of the training.
        classes: Number of classes, if it is known.
        possible: For each setting that is searched, its possible values, or the ends of its range.
        sampling: Frequency of the images, as in `Augment`.
        courses: Where settings are searched, the courses that trials with a constant schedule may have; None for the
            recipe's own.

    Yields:
        The setting, and what is wrong with it and what to do.
    """
    possible = possible or {}
    # What is searched is judged with the other parameters.
    given = set(given) - possible.keys()

    def values(name: str) -> Sequence[Any]:
        return possible.get(name, (getattr(recipe, name),))

    chosen, schedules = values("optimizer"), values("schedule")
    if "momentum" in given and not any(name in WITH_MOMENTUM for name in chosen):
        yield "momentum", f"has no effect where optimizer is {_list(chosen)}; leave it out"
    if recipe.nesterov and SGD not in chosen:
        options = "leave it out (others have it among their optimizer_options)"
        yield "nesterov", f"has no effect where optimizer is {_list(chosen)}; {options}"
    elif recipe.nesterov and not all(values("momentum")):
        yield "momentum", "must be greater than 0 where nesterov is true, but got 0"
    for name, schedule in OF_SCHEDULE.items():
        if name in given and schedule not in schedules:
            yield name, f"has no effect where schedule is {_list(schedules)}; leave it out"
    if "effective_beta" in given and EFFECTIVE not in values("class_weights"):
        yield "effective_beta", f"has no effect where class_weights is {_list(values('class_weights'))}; leave it out"
    weights = recipe.class_weights
    if classes is not None and not isinstance(weights, str) and len(weights) != classes:
        yield "class_weights", f"must have one weight for each of the {classes} classes, but got {len(weights)}"
    if sampling == BALANCED and not {BALANCED, EFFECTIVE}.isdisjoint(values("class_weights")):
        yield "class_weights", "has no effect where augment.sampling is balanced; leave one of the two out"
    if recipe.decay != "all" and not any(values("weight_decay")):
        yield "decay", "has no effect where weight_decay is 0; leave it out"
    if courses is None:
        courses = [Course(recipe.warmup, recipe.cooldown)] if recipe.schedule == CONSTANT else []
    longest = max(values("warmup"))
    late = [course for course in courses if course.warmup + course.cooldown * epochs > epochs]
    if longest >= epochs:
        yield "warmup", f"must be less than the epochs {epochs}, but got {longest:g}; lower it, or raise the epochs"
    elif late:
        warmup, cooldown = max(late, key=lambda course: course.warmup + course.cooldown * epochs)
        yield "cooldown", f"must begin after the warm-up: at most {1 - warmup / epochs:.3g}, but got {cooldown:g}"
    if recipe.optimizer_options:
        yield from _options_faults(recipe, chosen)


def _options_faults(recipe: Recipe, chosen: Sequence[str]) -> Iterator[tuple[str, str]]:
    from ctkd_search.distill.optimizers import options_fault

    for name in chosen:
        if fault := options_fault(dataclasses.replace(recipe, optimizer=name)):
            option, message = fault
            yield "optimizer_options" if option is None else f"optimizer_options.{option}", message


def _list(values: Sequence[Any]) -> str:
    return ", ".join(map(str, values))
