"""Optuna, as Ray Tune asks it."""

from __future__ import annotations

import warnings

import optuna
from ray.tune.search.optuna import OptunaSearch

from ctkd_search.data.stream import derived_seed
from ctkd_search.search.trainable import METRIC
from ctkd_search.space import Space


class _Suggest:
    """Draws a trial's values. Ray pickles it with the searcher's state, and itself captures what is drawn."""

    def __init__(self, space: Space) -> None:
        self._space = space

    def __call__(self, trial: optuna.Trial) -> None:
        self._space.suggest(trial)


def make_searcher(space: Space) -> OptunaSearch:
    """A searcher that explores a space define-by-run, beginning with the paper's settings.

    TPE is multivariate and grouped, because conditional parameters make groups of their own, and takes running
    trials for bad ones (the constant liar), so that trials at once do not all try the same.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            multivariate=True, group=True, constant_liar=True, seed=derived_seed("sampler", space.seed) % 2**32
        )
    return OptunaSearch(
        space=_Suggest(space),
        metric=METRIC,
        mode="max",
        sampler=sampler,
        points_to_evaluate=[space.paper_point()],
    )
