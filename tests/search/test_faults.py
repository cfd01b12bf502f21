"""Faults injected for real into whole searches: dead workers, no memory, damaged files, a full disk."""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import time

import pytest
from mlflow import MlflowClient
from support.live import Live, few_images, running_with_epochs, workers
from support.studies import study_of

from ctkd_search.records.store import SearchFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture
def search(tmp_path):
    begun = []

    def make(*words, **changes):
        begun.append(Live(tmp_path, *words, dataset=few_images(tmp_path), **changes))
        return begun[-1]

    yield make
    for live in begun:
        live.stop()


def trials_of(live):
    return SearchFolder(live.directory / "trials", "small").trials()


def epochs_in_mlflow(live, trial):
    client = MlflowClient(f"sqlite:///{live.directory}/trials/mlflow.db")
    return [point.step for point in client.get_metric_history(trial.run_id, "loss")]


def test_a_killed_worker_costs_an_epoch_and_no_trial(search):
    live = search("--epochs", "40", "--set", "budget.grace_period=40")
    live.start()
    live.wait_for(running_with_epochs(3))
    victim = live.wait_for(workers)[0]
    os.kill(victim, signal.SIGKILL)
    assert live.process.wait(timeout=700) == 0, live.said()
    assert "its worker process died; going on from its last epoch" in live.said()
    trials = trials_of(live)
    assert len(trials) == 4
    assert {trial.status for trial in trials} == {"finished"}
    assert sum(trial.retries for trial in trials) == 1
    for trial in trials:
        assert [epoch["epoch"] for epoch in trial.epochs] == list(range(1, len(trial.epochs) + 1))
        assert epochs_in_mlflow(live, trial) == list(range(1, len(trial.epochs) + 1))


def test_a_trial_whose_worker_dies_every_time_is_given_up_and_the_search_goes_on(search):
    live = search("--concurrent", "1", "--set", "budget.grace_period=60", "--epochs", "60", "--trials", "2")
    live.start()
    for retries in range(3):
        live.wait_for(
            lambda now, retries=retries: any(
                r["status"] == "running" and r["number"] == 1 and r["retries"] == retries and r["epochs"]
                for r in now.records()
            )
        )
        before = len(live.records()[0]["epochs"])
        live.wait_for(lambda now, before=before: len(now.records()[0]["epochs"]) > before)
        for pid in workers(live):
            os.kill(pid, signal.SIGKILL)
    assert live.process.wait(timeout=700) == 0, live.said()
    first, second = trials_of(live)
    assert (first.status, first.reason) == ("failed", "its worker process died (tried again 2 times)")
    assert second.status == "finished"
    study = study_of(live.directory / "trials", "small")
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE"]
    client = MlflowClient(f"sqlite:///{live.directory}/trials/mlflow.db")
    assert client.get_run(first.run_id).info.status == "FAILED"


def test_a_worker_without_memory_is_replaced_and_the_trial_goes_on(search):
    live = search("--concurrent", "1", "--epochs", "40", "--set", "budget.grace_period=40", "--trials", "2")
    live.start()
    live.wait_for(running_with_epochs(3))
    (worker,) = live.wait_for(workers)
    # Whatever it asks for from now on, it does not get.
    resource.prlimit(worker, resource.RLIMIT_AS, (1, resource.RLIM_INFINITY))
    assert live.process.wait(timeout=700) == 0, live.said()
    first, second = trials_of(live)
    assert first.retries >= 1
    assert (first.status, second.status) == ("finished", "finished")
    assert len(first.epochs) == len(second.epochs) == 40


def test_a_loss_that_is_no_number_ends_the_trial_alone(search):
    live = search(search={"pair": "wrn-10-1/resnet8", "lr": {"choice": [0.05, 1e9]}, "alpha": {"float": [0.1, 1]}})
    assert live.run("--trials", "6", "--epochs", "2", "--set", "budget.grace_period=2") == 0, live.said()
    trials = trials_of(live)
    assert {(trial.values["lr"], trial.status) for trial in trials} == {(0.05, "finished"), (1e9, "diverged")}
    study = study_of(live.directory / "trials", "small")
    assert [trial.state.name for trial in study.trials] == [
        "COMPLETE" if trial.status == "finished" else "FAIL" for trial in trials
    ]
    assert all(trial.retries == 0 for trial in trials)


def damage(path, how):
    """Flips bits in the middle of a file, cuts it in half, or removes it."""
    content = bytearray(path.read_bytes())
    # More of them than the padding that may stand between two tensors.
    middle = slice(len(content) // 2, len(content) // 2 + 200)
    content[middle] = bytes(byte ^ 1 for byte in content[middle])
    if how == "removed":
        path.unlink()
    else:
        path.write_bytes(content if how == "flipped" else content[: len(content) // 2])


def test_damaged_files_cost_their_epochs_and_nothing_else(search):
    live = search("--trials", "2", "--epochs", "60", "--set", "budget.grace_period=60")
    live.start()
    live.wait_for(lambda now: [len(record["epochs"]) > 4 for record in now.records()] == [True] * 2)
    live.stop()
    before = [trial.epochs for trial in trials_of(live)]
    first, second = sorted((live.directory / "trials" / "small" / "states").glob("*.pt"))
    damage(first, "flipped")
    damage(second, "cut")
    recorded = list((live.directory / "trials" / "teachers").rglob("*.rec"))
    assert len(recorded) > 60
    for path in recorded:
        damage(path, "flipped")
    live.start("--resume")
    live.wait_for(lambda now: all(f"trial {n}: its saved state is damaged;" in now.said() for n in (1, 2)))
    live.wait_for(lambda now: first.exists() and second.exists())
    live.stop()
    damage(first, "removed")
    assert live.run("--resume") == 0, live.said()
    assert "Traceback" not in live.said()
    # Once at the beginning, and once more for the recordings that were damaged.
    assert live.said().count("teacher wrn-10-1: trained 60 epochs") == 2 or "recorded again" in live.said()
    for trial, epochs in zip(trials_of(live), before, strict=True):
        assert trial.status == "finished"
        assert [epoch["epoch"] for epoch in trial.epochs] == list(range(1, 61))
        assert epochs_in_mlflow(live, trial) == list(range(1, 61))
        # What was measured before the damage stands as it was.
        assert trial.epochs[: len(epochs)] == epochs


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own, with little room."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "none", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(ballast):
    """Takes whatever room is left, while others may be taking it too."""
    with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_a_full_disk_stops_the_search_clearly_and_it_goes_on_from_there(search, small_disk):
    live = search("--trials-dir", str(small_disk / "trials"), "--epochs", "60", "--set", "budget.grace_period=60")
    live.start()
    live.wait_for(running_with_epochs(3))
    ballast = small_disk / "ballast"
    fill(ballast)
    assert live.process.wait(timeout=120) == 1, live.said()
    assert "is full; free some space, and go on with: ctkd-search run space.yaml" in live.said()
    assert "Traceback" not in live.said()
    ballast.unlink()
    assert live.run("--resume") == 0, live.said()
    trials = SearchFolder(small_disk / "trials", "small").trials()
    assert [(trial.status, trial.reason) for trial in trials] == [("finished", "all 60 epochs")] * 4, live.said()
    assert all([epoch["epoch"] for epoch in trial.epochs] == list(range(1, 61)) for trial in trials)
    client = MlflowClient(f"sqlite:///{small_disk}/trials/mlflow.db")
    for trial in trials:
        steps = [point.step for point in client.get_metric_history(trial.run_id, "loss")]
        assert steps == list(range(1, 61))


def test_a_disk_that_is_full_from_the_start_is_reported(search, small_disk):
    with open(small_disk / "ballast", "wb") as file:
        file.write(bytes(shutil.disk_usage(small_disk).free - 4096))
    live = search("--trials-dir", str(small_disk / "trials"))
    started = time.monotonic()
    assert live.run() in (1, 2), live.said()
    assert time.monotonic() - started < 100
    assert "Traceback" not in live.said()
    assert "No space left" in live.said() or "full" in live.said()
