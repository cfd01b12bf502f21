"""The first part of the output of `check`: the space itself."""

from __future__ import annotations

import pytest
from support.factories import a_space

from ctkd_search.checks.overview import _budget_lines

PAIR = {"pair": "wrn-16-2/resnet8"}
SMALL = {**PAIR, "step_loss": {"choice": ["kl", "mse"]}, "batch_size": {"choice": [32, 64]}}


@pytest.mark.parametrize(
    ("search", "different"),
    [
        (SMALL, 4),
        ({**SMALL, "batch_size": {"choice": [32, 64], "when": {"step_loss": "kl"}}}, 3),
        ({**PAIR, "batch_size": {"int": [32, 34]}}, 3),
        ({**PAIR, "lr": {"float": [0.01, 0.3]}}, None),
    ],
)
def test_a_space_with_fewer_configs_than_trials_is_told(search, different):
    for trials, told in ((different or 9, False), ((different or 8) + 1, different is not None)):
        lines = _budget_lines(a_space(search=search, budget={"trials": trials}))
        said = f"only {different} different configs, so that trials repeat; lower budget.trials or widen search"
        assert (said in lines) == told
        assert any("different config" in line for line in lines) == told
