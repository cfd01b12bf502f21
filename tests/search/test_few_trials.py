"""Searches of fewer trials than the machine has cores: each trial gets more of them."""

import pytest
from support import here
from support.live import Live

pytestmark = pytest.mark.slow


def test_a_single_trial_has_all_cores_and_those_of_a_longer_search_share_them(tmp_path):
    live = Live(tmp_path, "--epochs", "1", environment={"OMP_NUM_THREADS": ""}, budget={"epochs": 1}, resources={})
    assert live.run("--trials", "1") == 0
    assert f"trials: 1 trial at once, each with {here.CPUS} CPU threads\n" in live.said()
    assert live.run("--trials", "3") == 0
    assert f"trials: {here.CPUS} trials at once, each with 1 CPU thread\n" in live.said()
