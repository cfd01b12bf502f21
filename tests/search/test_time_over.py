"""Time budgets that end while teachers are trained, or before the confirmation of a winner."""

import time

import pytest
from support import here
from support.factories import write_space
from support.live import Live

from ctkd_search.records.store import WAITING, SearchFolder

pytestmark = pytest.mark.slow
OVER = "the time budget ended while teachers were trained, whose finished epochs are kept; go on with: "


def test_teachers_end_with_the_time_budget_and_give_back_the_cores_of_a_ray_that_goes_on(tmp_path):
    ray = here.shared_ray()
    epochs = ("--epochs", "2000", "--set", "budget.grace_period=2000")
    live = Live(tmp_path, *epochs, "--trials", "1", "--time-budget", "1s")
    assert live.run() == 1
    assert OVER in live.said()
    end = time.monotonic() + 60
    while ray.available_resources().get("CPU", 0) < here.CPUS and time.monotonic() < end:
        time.sleep(0.1)
    assert ray.available_resources()["CPU"] == here.CPUS


def test_a_winner_whose_confirmation_has_no_time_is_not_confirmed_and_goes_on_later(tmp_path):
    def ran(*words):
        return here.command("run", "space.yaml", *words, directory=tmp_path, whole=False)

    sections = {
        "dataset": {"name": "digits", "validation": 0.4},
        "budget": {"trials": 1, "epochs": 40, "grace_period": 40},
    }
    write_space(
        tmp_path / "space.yaml",
        name="small",
        **sections,
        search={"pair": "wrn-16-1/resnet8", "lr": {"float": [0.05, 0.1]}},
    )
    here.fresh_store(tmp_path / "trials" / "mlflow.db")
    assert ran().code == 0
    confirmed = ("--set", "confirm={best: 1, seeds: 2}", "--time-budget")
    for more, said in ((), "the winner is not confirmed: "), (("--resume",), ""):
        ended = ran(*confirmed, "1s", *more)
        assert ended.code == 0, ended.said
        assert f"{said}{OVER}" in ended.out
        assert "best: trial 1 with " in ended.out
        waiting = [trial for trial in SearchFolder(tmp_path / "trials", "small").trials() if trial.status == WAITING]
        assert [trial.repeats for trial in waiting] == [1, 1]


def test_a_winner_whose_confirmation_had_not_begun_is_told_with_the_command_to_go_on(tmp_path):
    live = Live(tmp_path, confirm={"best": 1, "seeds": 2})
    assert live.run("--trials", "1", "--set", "confirm=null") == 0
    assert live.run("--trials", "500", "--time-budget", "1s") == 0
    line = (
        "the winner is not confirmed, because the time budget ended before that; raise it, or go on with as much again"
    )
    assert live.said().count(f"{line}: ctkd-search run space.yaml ") == 1
    assert not any(trial.repeats for trial in SearchFolder(tmp_path / "trials", "small").trials())
