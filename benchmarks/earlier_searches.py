"""Configs of earlier searches in a simulation: of one on the other table's images, or of those that are published."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from shipped_search import ShippedSearch
from simulation import simulate
from surrogate import Surrogate, surrogate_of
from tables import PLANS

from ctkd_search.analysis.best_configs import CONFIGS, best_configs
from ctkd_search.errors import UserError
from ctkd_search.records.config_list import read_published
from ctkd_search.records.trial_configs import augment_of
from ctkd_search.space.definition import Space
from ctkd_search.space.reader import space_of
from ctkd_search.space.transfer import Elsewhere, Transferred, transfer

# The table of an earlier search, by that of the new one: of a table that is still being recorded so many of its first
# trainings, so that earlier searches stay the same.
_OTHERS = {"digits": ("cifar", 237), "cifar": ("digits", None)}
# The published searches on other images than those of a table.
_PUBLISHED = {"digits": ("cifar10-methods", "cifar10-subset"), "cifar": ("digits",)}
# An earlier search has another seed than the new one, and takes 30 full trainings, four at once.
_EARLIER_SEED, _EARLIER_BUDGET, _WORKERS = 1000, 30, 4


def after_another(table: str, seed: int) -> list[Elsewhere]:
    """The best configs of a search on the other table.

    Args:
        table: Name of the table of the new search.
        seed: Seed of the new search; each has an earlier one of its own.
    """
    name, trainings = _OTHERS[table]
    search = ShippedSearch(name, _EARLIER_SEED + seed, {}, defaults=True)
    space = search.space
    simulate(search, _surrogate(name, trainings), _WORKERS, _EARLIER_BUDGET * space.budget.epochs)
    return [
        Elsewhere(found.trial.values, augment_of(space, found.trial).given(), space.geometry, space.budget.epochs)
        for found in best_configs(search.records, CONFIGS)
    ]


def published_elsewhere(table: str, seed: int) -> list[Elsewhere]:
    """The best configs of the published searches on other images than a table's; the same for every seed."""
    lists = [read_published(name) for name in _PUBLISHED[table]]
    return [
        Elsewhere(config.values, config.augment, listed.geometry, listed.epochs)
        for listed in lists
        for config in listed.configs
    ]


@functools.cache
def _surrogate(name: str, trainings: int | None) -> Surrogate:
    return surrogate_of(name, trainings)[1]


def points_in(space: Space, configs: Sequence[Elsewhere]) -> list[dict[str, Any]]:
    """Configs as points of a space, as Optuna stores them, without those whose methods it does not search.

    Raises:
        UserError: The space searches none of their methods.
    """
    found = [point.stored for config in configs if isinstance(point := transfer(space, config), Transferred)]
    if not found:
        raise UserError(f"no earlier config has a method that the space {space.name} searches")
    return found


def points_for(table: str, configs: Sequence[Elsewhere]) -> list[dict[str, Any]]:
    """Configs as points of a table's space. See `points_in`."""
    return points_in(space_of(PLANS[table].mapping()), configs)


class WarmSearch(ShippedSearch):
    """The package's search with ``--warm-start``: it tries configs of earlier searches, then the default settings.

    Args:
        table: Name of the table.
        seed: Seed of the search.
        sections: See `ShippedSearch`.
        configs: The configs.
        defaults_first: True to try the default settings before them, which the package does not.
    """

    def __init__(
        self,
        table: str,
        seed: int,
        sections: dict[str, Any],
        configs: Sequence[Elsewhere],
        defaults_first: bool = False,
    ) -> None:
        super().__init__(table, seed, sections, defaults_first)
        for number, point in enumerate(points_in(self.space, configs)):
            self._study.offer(point, f"earlier/{number}")
        self._study.begin()
