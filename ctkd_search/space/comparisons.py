"""The baselines of a space: the configs that they have in it, and what they need of the teachers."""

from __future__ import annotations

import dataclasses
import functools
import operator
from typing import Any

from ctkd_search.config import TrialConfig
from ctkd_search.distill.methods.base import Method, Parameter, make_method, same_meaning
from ctkd_search.distill.requests import Needs
from ctkd_search.space.baselines import baseline_method, baseline_pairs, method_of
from ctkd_search.space.definition import Space
from ctkd_search.space.parameters import owner_of


def baseline_config(space: Space, name: str, pair: str) -> TrialConfig:
    """The config of a baseline.

    Args:
        space: The space whose student's recipe, data and budget it shares: the defaults, or the nearest that it has.
        name: Name of the baseline.
        pair: Teacher and student.
    """
    method = method_of(name)
    papers = space.decode(space.paper_point(method if method in space.methods() else None, pair))

    def own(parameter: Parameter) -> Any:
        shared = [key for key, other in space.parameters.items() if same_meaning(parameter, other)]
        # If several methods share it, the space's entry for the baseline's own method is used.
        return papers[min(shared, key=lambda key: owner_of(key) != method)] if shared else None

    chosen = baseline_method(name, own, lambda parameter: space.default(parameter, pair))
    return dataclasses.replace(space.config({**papers, "pair": pair}), method=chosen)


def needs_with_baselines(space: Space) -> Needs:
    """Returns the union of the needs of the trials and baselines of a space."""
    return functools.reduce(operator.or_, (needs for _, needs in each_needs_with_baselines(space)), Needs())


def logit_methods(space: Space) -> list[Method]:
    """Returns the methods of a space's trials and baselines that use recorded logits, with the values that count."""
    searched = [made for pair in space.pairs() for made in space.each_method(pair)]
    pairs = baseline_pairs(space.strategy.baselines, space.pairs())
    compared = [make_method(baseline_config(space, name, pair).method) for name, pair in pairs]
    return [method for method in (*searched, *compared) if method.needs.any_logits]


def each_needs(space: Space) -> list[tuple[TrialConfig, Needs]]:
    """Returns the needs of the trials of a space, each with a config of its pair and its augmentation."""
    return [
        (config, needs)
        for pair in space.pairs()
        for needs in space.each_needs(pair)
        for config in space.augmented_configs(pair)
    ]


def each_needs_with_baselines(space: Space) -> list[tuple[TrialConfig, Needs]]:
    """Returns the needs of the trials and baselines of a space, each with a config of its pair."""
    configs = [
        baseline_config(space, name, pair) for name, pair in baseline_pairs(space.strategy.baselines, space.pairs())
    ]
    return [
        *each_needs(space),
        *((config, make_method(config.method).needs) for config in configs),
    ]
