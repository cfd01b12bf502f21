"""The precision of all trials and teachers, where it is left to the hardware that computes them."""

from __future__ import annotations

import dataclasses

import ray
import torch

from ctkd_search.distill.engine import Precision, resolve_precision
from ctkd_search.errors import WorkFailed
from ctkd_search.recipe import Recipe
from ctkd_search.resources import Share
from ctkd_search.search.failures import cause_of
from ctkd_search.search.tasks import ray_task
from ctkd_search.space.definition import Space

_AUTO = "auto"


def automatic_precision(space: Space, share: Share) -> Precision | None:
    """Returns what ``precision: auto`` comes to; None where no recipe of the space has it.

    Args:
        space: The space.
        share: The share of a trial; if this machine has no GPU but trials do, the first one that Ray finds is asked.

    Raises:
        WorkFailed: The GPU could not be asked.
    """
    if _AUTO not in (space.train.precision, space.teachers.recipe.precision):
        return None
    device = torch.device(share.device)
    if device.type != "cuda" or torch.cuda.is_available():
        return resolve_precision(_AUTO, device)
    try:
        found: Precision = ray.get(ray_task(resolve_precision, share.gpus, share.cpus).remote(_AUTO, device))
    except ray.exceptions.RayError as error:
        raise WorkFailed(
            f"no GPU could be asked for its precision: {cause_of(error)}; set train.precision and "
            "teachers.recipe.precision"
        ) from None
    return found


def with_precision(space: Space, automatic: Precision | None) -> Space:
    """Returns the space with ``precision: auto`` resolved once, so that all workers use the same precision.

    Args:
        space: The space.
        automatic: What it comes to; None where no recipe of the space has it.
    """

    def settled(recipe: Recipe) -> Recipe:
        return dataclasses.replace(recipe, precision=automatic) if automatic and recipe.precision == _AUTO else recipe

    teachers = dataclasses.replace(space.teachers, recipe=settled(space.teachers.recipe))
    return dataclasses.replace(space, train=settled(space.train), teachers=teachers)
