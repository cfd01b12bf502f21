"""Optuna, as Ray Tune asks it."""

from __future__ import annotations

import optuna
from ray.tune.search.optuna import OptunaSearch

from ctkd_search.data.stream import derived_seed
from ctkd_search.search.trainable import METRIC
from ctkd_search.space import Space


def make_searcher(space: Space) -> OptunaSearch:
    """A searcher that explores a space define-by-run, beginning with the paper's settings.

    TPE is multivariate and grouped, because conditional parameters make groups of their own, and takes running
    trials for bad ones (the constant liar), so that trials at once do not all try the same.
    """
    sampler = optuna.samplers.TPESampler(
        multivariate=True, group=True, constant_liar=True, seed=derived_seed("sampler", space.seed) % 2**32
    )

    def suggest(trial: optuna.Trial) -> None:
        space.suggest(trial)

    return OptunaSearch(
        space=suggest,
        metric=METRIC,
        mode="max",
        sampler=sampler,
        points_to_evaluate=[space.paper_point()],
    )
