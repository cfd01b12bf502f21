"""Searches that end without a result say why, and how to go on where that may help."""

import pytest
from support.live import Live

from ctkd_search.records.store import DIVERGED, SearchFolder
from ctkd_search.space.sections import Budget

pytestmark = pytest.mark.slow


def last_line(live):
    """Returns the last line that a search has printed."""
    return live.said().splitlines()[-1]


def test_trials_that_failed_are_told_with_their_reason_alone(tmp_path):
    live = Live(tmp_path, search={"pair": "wrn-10-1/resnet8", "lr": {"choice": [1e9, 2e9]}})
    assert live.run("--trials", "2", "--epochs", "1", "--set", "budget.grace_period=1") == 1
    assert last_line(live) == (
        "ctkd-search: no trial came to a result: the loss was no longer a finite number in epoch 1"
    )
    assert [trial.status for trial in SearchFolder(tmp_path / "trials", "small").trials()] == [DIVERGED] * 2


def test_the_end_of_the_time_budget_is_told_with_the_command_to_go_on(tmp_path, monkeypatch):
    # Over before a worker can have begun, however fast it is; without teachers, whose training would be ended first.
    monkeypatch.setattr(Budget, "seconds", lambda budget: 1e-9)
    alone = {"pair": "wrn-10-1/resnet8", "method": "none", "lr": {"float": [0.01, 0.1]}}
    live = Live(tmp_path, search=alone, teachers=None)
    assert live.run("--time-budget", "1s") == 1
    assert last_line(live) == (
        "ctkd-search: no trial came to a result: the time budget ended; go on with: ctkd-search run space.yaml "
        "--time-budget 1s --resume"
    )
    assert not any(trial.ended for trial in SearchFolder(tmp_path / "trials", "small").trials())
