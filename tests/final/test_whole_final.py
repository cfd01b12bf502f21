"""Whole final trainings, from the command line: what they leave, also where they were killed, and what goes wrong."""

import json
import signal
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
import yaml
from mlflow import MlflowClient
from scipy import stats
from support.live import CONFIG, LiveFinal

from ctkd_search import metrics
from ctkd_search.config import DatasetConfig
from ctkd_search.data import load_test
from ctkd_search.records.store import SearchFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

WORDS = ("--seeds", "2", "--baselines", "tuned-kd.yaml", "--concurrent", "2", "--cpus-per-trial", "1")
TUNED = {**CONFIG, "method": {"name": "kd", "weight": 0.5}, "train": {**CONFIG["train"], "lr": 0.03}}
CLOCKS = ("at", *metrics.CLOCKS)


def folder_of(directory, number=1):
    return SearchFolder(directory / "trials" / "small", f"final-{number}")


def result_of(directory, number=1):
    return json.loads((folder_of(directory, number).path / "result.json").read_text())


def without_runs(content):
    """A result without the ids of runs, which differ from run to run."""
    if isinstance(content, dict):
        return {key: without_runs(value) for key, value in content.items() if key != "run_id"}
    return [without_runs(value) for value in content] if isinstance(content, list) else content


def runs_in(directory):
    """MLflow's parent run, and its children by number."""
    client = MlflowClient(f"sqlite:///{directory}/trials/mlflow.db")
    experiment = client.get_experiment_by_name("small")
    found = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in found if run.data.tags["ctkd.kind"] == "train"]
    children = {int(run.data.tags["ctkd.trial"]): run for run in found if run is not parent}
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}
    return client, parent, children


def outcome(directory):
    """All that a final training leaves, but for clocks and ids."""
    trials = [
        (
            *(t.number, t.baseline, t.seed, t.student_seed, t.status, t.reason, t.values, t.test),
            [{key: value for key, value in epoch.items() if key not in CLOCKS} for epoch in t.epochs],
        )
        for t in folder_of(directory).trials()
    ]
    client, parent, children = runs_in(directory)
    logged = {
        number: {
            name: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
            for name in run.data.metrics
            if name not in CLOCKS
        }
        for number, run in children.items()
    }
    weights = torch.load(folder_of(directory).path / "student.pt", weights_only=True)["student"]
    return trials, without_runs(result_of(directory)), logged, parent.data.metrics, weights


def beside_a_file(directory):
    """A final training whose baseline is the config of a file."""
    (directory / "tuned-kd.yaml").write_text(yaml.safe_dump(TUNED))
    return LiveFinal(directory, *WORDS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    live = beside_a_file(tmp_path_factory.mktemp("final"))
    assert live.run(whole=True) == 0, live.said()
    return live


def test_every_student_is_trained_to_the_end_along_one_stream(finished):
    trials = folder_of(finished.directory).trials()
    assert [(t.baseline, t.seed, t.student_seed) for t in trials] == [
        (None, 0, 0),
        ("tuned-kd", 0, 0),
        (None, 0, 1),
        ("tuned-kd", 0, 1),
    ]
    assert {t.status for t in trials} == {"finished"}
    assert all([epoch["epoch"] for epoch in t.epochs] == [1, 2, 3, 4] for t in trials)
    assert not any("validation_accuracy" in epoch for t in trials for epoch in t.epochs)
    assert len({t.epochs[-1]["loss"] for t in trials}) == 4
    assert not folder_of(finished.directory).states.exists()


def test_the_config_of_a_file_keeps_its_own_recipe(finished):
    tuned = result_of(finished.directory)["baselines"]["tuned-kd"]["config"]
    assert (tuned["method"]["name"], tuned["method"]["weight"], tuned["train"]["lr"]) == ("kd", 0.5, 0.03)
    shown = [trial.values for trial in folder_of(finished.directory).trials()]
    assert [(values["method"], values["lr"]) for values in shown] == [("ctkd", 0.05), ("kd", 0.03)] * 2


def test_the_teachers_are_recorded_once_for_all_seeds(finished):
    teachers = finished.directory / "trials" / "teachers"
    assert len(list(teachers.glob("teacher-*"))) == 1
    assert len(list(teachers.glob("maps-*"))) == 1
    assert len(list(teachers.glob("teacher-*/logits-*.rec"))) == 4
    assert finished.said().count("trained 4 epochs") == 1


def test_the_numbers_are_those_of_the_students_and_mlflow_has_them_too(finished):
    content = result_of(finished.directory)
    client, parent, children = runs_in(finished.directory)
    trials = folder_of(finished.directory).trials()
    for trial in trials:
        run = children[trial.number]
        assert (run.info.run_id, run.info.status) == (trial.run_id, "FINISHED")
        assert run.data.metrics["test_accuracy"] == trial.test["accuracy"]
        assert run.data.metrics["test_loss"] == trial.test["loss"]
        losses = client.get_metric_history(run.info.run_id, "loss")
        assert [(point.step, point.value) for point in losses] == [(e["epoch"], e["loss"]) for e in trial.epochs]
        assert len(client.get_metric_history(run.info.run_id, "test_accuracy")) == 1
        assert set(trial.values) <= set(run.data.params)
    ours = [t.test["accuracy"] for t in trials if t.baseline is None]
    theirs = [t.test["accuracy"] for t in trials if t.baseline == "tuned-kd"]
    assert [seed["test_accuracy"] for seed in content["seeds"]] == ours
    assert [seed["run_id"] for seed in content["seeds"]] == [t.run_id for t in trials if t.baseline is None]
    assert content["test_accuracy"] == pytest.approx(np.mean(ours))
    assert (content["train_images"], content["test_images"], content["config"]["epochs"]) == (1438, 359, 4)
    gaps = np.subtract(ours, theirs)
    told = content["baselines"]["tuned-kd"]["config_minus_baseline"]["accuracy"]
    low, high = stats.t.interval(0.95, 1, gaps.mean(), stats.sem(gaps))
    assert (told["mean"], told["half_width"]) == (pytest.approx(gaps.mean()), pytest.approx((high - low) / 2))
    assert parent.info.run_name == "small: final training"
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["test_accuracy"] == content["test_accuracy"]
    assert parent.data.metrics["test_accuracy_minus_tuned-kd"] == told["mean"]
    assert parent.data.params["method.alpha"] == "0.5"
    assert parent.data.params["seeds"] == "2"
    text = (folder_of(finished.directory).path / "table.txt").read_text()
    mlflow.set_tracking_uri(f"sqlite:///{finished.directory}/trials/mlflow.db")
    assert mlflow.artifacts.load_text(f"{parent.info.artifact_uri}/table.txt") == text
    assert f"{100 * np.mean(ours):.2f} %" in text
    picture = (folder_of(finished.directory).path / "means.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    kept = mlflow.artifacts.download_artifacts(f"{parent.info.artifact_uri}/means.png")
    assert Path(kept).read_bytes() == picture
    assert "result.json, table.txt, means.png, student.pt" in finished.said()
    assert f"test accuracy {100 * np.mean(ours):.2f} %" in finished.said()


def test_the_first_seeds_student_is_kept_and_registered(finished):
    first = folder_of(finished.directory).trials()[0]
    test = load_test(DatasetConfig("digits"))
    mlflow.set_tracking_uri(f"sqlite:///{finished.directory}/trials/mlflow.db")
    version = MlflowClient().get_model_version_by_alias("ctkd-small-final", "champion")
    assert f"Test accuracy **{100 * first.test['accuracy']:.2f} %** of this student" in version.description
    assert version.tags["ctkd.final"] == "small/final-1"
    served = mlflow.pyfunc.load_model("models:/ctkd-small-final@champion").predict(test.pixels).to_numpy()
    assert float((served.argmax(axis=1) == test.labels).mean()) == pytest.approx(first.test["accuracy"], abs=1e-9)
    kept = torch.load(folder_of(finished.directory).path / "student.pt", weights_only=True)
    described = {"format", "versions", "architecture", "geometry", "resize", "classes", "mean", "std"}
    assert set(kept) == {"student", *described}
    assert kept["format"] == 1
    assert (kept["architecture"], kept["geometry"]) == ("resnet8", [10, 1, 8])


def test_killed_while_it_trains_and_resumed_it_comes_to_the_same(finished, tmp_path):
    live = beside_a_file(tmp_path)
    live.start()
    live.wait_for(lambda now: sum(len(record["epochs"]) for record in now.records()) >= 7)
    live.stop()
    assert not (folder_of(tmp_path).path / "result.json").exists()
    changed = live.run("--resume", "--epochs", "5")
    assert changed == 2
    assert "config.epochs: 4 before, 5 now" in live.said()
    tuned = tmp_path / "tuned-kd.yaml"
    tuned.write_text(yaml.safe_dump({**TUNED, "train": {**TUNED["train"], "lr": 0.04}}))
    assert live.run("--resume") == 2
    assert "files.tuned-kd.train.lr: 0.03 before, 0.04 now" in live.said()
    tuned.write_text(yaml.safe_dump(TUNED))
    assert live.run("--resume") == 0, live.said()
    assert "taken from the teacher cache" in live.said()
    for ours, theirs in zip(outcome(tmp_path)[:-1], outcome(finished.directory)[:-1], strict=True):
        assert ours == theirs
    ours, theirs = outcome(tmp_path)[-1], outcome(finished.directory)[-1]
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert live.run("--resume") == 2
    assert "there is no unfinished final training" in live.said()


def test_ctrl_c_keeps_what_has_been_done_and_a_lost_config_is_reported(tmp_path):
    # The config's loss overflows at once; the student alone is trained.
    method = {**CONFIG["method"], "alpha": 1e38, "temperature": 20.0}
    live = LiveFinal(tmp_path, "--baselines", "student-alone", "--concurrent", "1", method=method)
    live.start()
    live.wait_for(lambda now: any(r["baseline"] and len(r["epochs"]) >= 2 for r in now.records()))
    live.process.send_signal(signal.SIGINT)
    assert live.process.wait(timeout=700) == 130, live.said()
    assert "all results so far are kept; go on with: ctkd-search train config.yaml" in live.said()
    assert live.run("--resume") == 1, live.said()
    assert "Traceback" not in live.said()
    said = live.said().splitlines()[-1]
    assert said.startswith("ctkd-search: no student of the config was trained to the end: the loss was no longer a ")
    assert said.endswith("lower train.lr in the config")
    content = result_of(tmp_path)
    assert [seed["status"] for seed in content["seeds"]] == ["diverged"]
    assert content["test_accuracy"] is None
    assert 0.1 < content["baselines"]["student-alone"]["test_accuracy"] <= 1
    assert "1 diverged" in (folder_of(tmp_path).path / "table.txt").read_text()
    assert not (folder_of(tmp_path).path / "student.pt").exists()
    _, parent, children = runs_in(tmp_path)
    assert parent.info.status == "FAILED"
    assert children[1].data.tags["ctkd.status"] == "diverged"
    assert children[2].data.metrics["test_accuracy"] == content["baselines"]["student-alone"]["test_accuracy"]
