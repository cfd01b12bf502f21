"""The epochs after which trials are compared, and the average of weights that they are compared by."""

from __future__ import annotations

import dataclasses

from ctkd_search.space.default_rungs import longest_warmup, with_grace_period
from ctkd_search.space.definition import Space
from ctkd_search.space.distributions import Number
from ctkd_search.space.document import Place
from ctkd_search.space.parameters import possible_values


def horizon_faults(space: Space, images: int) -> list[tuple[Place, str]]:
    """Returns the faults of a space whose horizon of averaged weights is shorter than a step of the training.

    Args:
        space: The space.
        images: Number of training images.
    """
    ranking = space.strategy.ranking
    if ranking is None or not ranking.horizon:
        return []
    entry, parameter = space.entries.get("batch_size"), space.parameters["batch_size"]
    batch = int(entry.high) if isinstance(entry, Number) else max(possible_values(entry, parameter))
    steps = max(1, round(images / batch))
    if ranking.horizon * steps >= 1:
        return []
    return [
        (
            ("scheduler", "horizon"),
            f"must be at least one step, {1 / steps:.2g} of an epoch of {images:,} images in batches of {batch}, but "
            f"got {ranking.horizon:g}; 0 compares the weights as they are",
        )
    ]


def ranking_warnings(space: Space) -> list[str]:
    """Returns warnings where the ranking of trials in the middle of their training cannot be trusted."""
    ranking, epochs = space.strategy.ranking, space.budget.epochs
    if ranking is None:
        return []
    if not space.rungs:
        return [f"warning: no trial is stopped early, because the grace period is all {epochs} epochs"]
    first, longest = space.rungs[0], longest_warmup(space.train, space.entries)
    default = with_grace_period(
        dataclasses.replace(space.budget, grace_period=None), space.train, space.entries, space.strategy.scheduler
    ).grace_period
    advice = f"leave budget.grace_period out for {default}"
    if first <= longest:
        return [
            f"warning: trials are compared after epoch {first}, within a warm-up of up to {longest:g} epochs, where "
            f"small learning rates lead; {advice}"
        ]
    if first < longest + ranking.horizon:
        return [
            f"warning: trials are compared after epoch {first}, where the averaged weights still look back on a "
            f"warm-up of up to {longest:g} epochs; {advice}"
        ]
    if not ranking.horizon and "schedule" not in space.entries and _is_high(space, first):
        return [
            f"warning: after epoch {first} the learning rate is still high, and the weights of the moment tell little "
            "about the end; leave scheduler.horizon out to compare averaged weights"
        ]
    return []


def _is_high(space: Space, epoch: int) -> bool:
    """Returns whether the learning rate after an epoch is more than half of its peak."""
    recipe = space.train
    return recipe.lr_at(epoch - 1, space.budget.epochs, 0, 1) > recipe.lr / 2
