"""A search whose driver is killed again and again comes to what an undisturbed one comes to."""

import json
import os
import random
import signal
import time

import pytest
from mlflow import MlflowClient
from support.factories import write_space
from support.here import command, fresh_store
from support.live import few_images
from support.processes import Process
from support.studies import study_of

from ctkd_search import metrics
from ctkd_search.records.store import SearchFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

KILLS = 5
SPACE = {
    "name": "small",
    "budget": {"trials": 7, "epochs": 4, "grace_period": 1, "reduction_factor": 2},
    "baselines": ["student-alone", "kd"],
    "confirm": {"best": 2, "seeds": 2},
    "teachers": {"recipe": {"batch_size": 64, "lr": 0.05}},
    "train": {"batch_size": 64, "precision": "float32"},
    "search": {
        "pair": "wrn-10-1/resnet8",
        "step_loss": {"choice": ["kl", "mse"]},
        "temperature": {"float": [1, 20], "log": True, "when": {"step_loss": "kl"}},
        "alpha": {"float": [0.01, 1], "log": True},
        "beta": {"float": [0.1, 60], "log": True},
        "attention_layers": {"subsets": [1, 2, 3]},
        "lr": {"float": [0.005, 0.1], "log": True},
    },
    # One at a time: what Optuna knows when it suggests is then the same in every run.
    "resources": {"concurrent_trials": 1},
    "sampler": {"name": "tpe", "startup_trials": 3},
}
# What differs from run to run of the same computation.
CLOCKS = ("at", *metrics.CLOCKS)


def start(directory, *words):
    with open(directory / "log.txt", "a") as log:
        return Process(("run", "space.yaml", *words), directory=directory, stdout=log, stderr=log)


def epochs_done(directory):
    """Returns the number of epochs in the records of all trials."""
    found = 0
    for path in (directory / "trials" / "small" / "records").glob("*.json"):
        try:
            found += len(json.loads(path.read_text())["epochs"])
        except (OSError, ValueError):
            continue  # just being replaced
    return found


def without_clocks(epoch):
    return {key: value for key, value in epoch.items() if key not in CLOCKS}


def outcome(directory):
    """All that a search leaves: its records, Optuna's study, MLflow's runs."""
    folder = SearchFolder(directory / "trials", "small")
    records = [
        (
            *(trial.number, trial.kind, trial.baseline, trial.repeats, trial.seed, trial.optuna, trial.status),
            *(trial.reason, trial.values, trial.stored, [without_clocks(epoch) for epoch in trial.epochs]),
        )
        for trial in folder.trials()
    ]
    study = study_of(folder.root, "small")
    told = [
        (trial.number, trial.state.name, trial.params, trial.values, trial.intermediate_values, trial.user_attrs)
        for trial in study.get_trials()
    ]
    client = MlflowClient(f"sqlite:///{directory}/trials/mlflow.db")
    experiment = client.get_experiment_by_name("small")
    runs = []
    for run in client.search_runs([experiment.experiment_id], max_results=1000):
        tags = {key: value for key, value in run.data.tags.items() if key.startswith("ctkd.")}
        names = [name for name in run.data.metrics if name not in CLOCKS]
        history = {
            name: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
            for name in sorted(names)
        }
        own = ("ctkd.search_id", "ctkd.best_run")
        told_by = {key: value for key, value in tags.items() if key not in own}
        runs.append((int(tags.get("ctkd.trial", 0)), run.info.status, run.data.params, told_by, history))
    return records, told, sorted(runs, key=lambda run: run[0])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    directory = tmp_path_factory.mktemp("undisturbed")
    write_space(directory / "space.yaml", **SPACE, dataset=few_images(directory))
    fresh_store(directory / "trials" / "mlflow.db")
    ended = command("run", "space.yaml", directory=directory, whole=False)
    assert ended.code == 0, ended.said
    return directory


def test_a_search_killed_at_random_moments_gives_the_same_trials(undisturbed, tmp_path):
    # The same files: a data set is known by where it is.
    write_space(tmp_path / "space.yaml", **SPACE, dataset=few_images(undisturbed))
    fresh_store(tmp_path / "trials" / "mlflow.db")
    dice = random.Random(os.environ.get("CTKD_KILL_SEED", 7))
    total = epochs_done(undisturbed)
    moments = sorted(dice.randrange(total) for _ in range(KILLS))
    killed = 0
    for moment in moments:
        process = start(tmp_path, *(["--resume"] if killed else []))
        while process.poll() is None and epochs_done(tmp_path) < moment:
            time.sleep(0.01)
        time.sleep(dice.random() * 0.5)
        assert process.poll() is None, (tmp_path / "log.txt").read_text()
        process.send_signal(signal.SIGKILL)
        process.wait()
        killed += 1
    assert killed == KILLS
    ended = command("run", "space.yaml", "--resume", directory=tmp_path, whole=False)
    assert ended.code == 0, ended.said
    for ours, theirs in zip(outcome(tmp_path), outcome(undisturbed), strict=True):
        assert ours == theirs
    assert {status for _, status, *_ in outcome(tmp_path)[2]} == {"FINISHED"}
