"""A whole small search through the real Ray, Optuna and MLflow, from the command line."""

import json
import signal
import socket
import subprocess
import sys
import time

import mlflow
import numpy as np
import onnxruntime
import optuna
import psutil
import pytest
import torch
from mlflow import MlflowClient
from support import factories
from support.here import command, fresh_store
from support.live import descendants
from support.processes import PIPE, STDOUT, Process
from support.servers import answered
from support.studies import study_of

from ctkd_search.config import DatasetConfig
from ctkd_search.data import load_test, load_train
from ctkd_search.geometry import Geometry
from ctkd_search.models import build
from ctkd_search.records.store import SearchFolder

pytestmark = pytest.mark.slow

TRIALS, EPOCHS = 8, 4
SPACE = factories.space_content(
    name="small",
    dataset={"name": "digits", "validation": 0.15},
    budget={"trials": TRIALS, "epochs": EPOCHS, "grace_period": 1, "reduction_factor": 2},
    teachers={"recipe": {"batch_size": 64, "lr": 0.05}},
    # With a part of the course of the paper's recipe, which the rest then follows.
    train={"batch_size": 64, "schedule": "milestones"},
    search={
        "pair": {"choice": ["wrn-10-1/resnet8", "wrn-16-1/resnet8"]},
        "step_loss": {"choice": ["kl", "mse"]},
        "temperature": {"float": [1, 20], "log": True, "when": {"step_loss": "kl"}},
        "alpha": {"float": [0.01, 1], "log": True},
        "beta": {"float": [0.1, 60], "log": True},
        "attention_layers": {"subsets": [1, 2, 3]},
        "lr": {"float": [0.005, 0.1], "log": True},
    },
)


# Where it does not matter how well the students do.
FEW = {"name": "digits", "validation": 0.8}
# Each process of trials takes seconds to start.
ONE = {"concurrent_trials": 1}


def write_space(directory, **changes):
    factories.write_space(directory / "space.yaml", **{**SPACE, "dataset": FEW, "resources": ONE, **changes})
    fresh_store(directory / "trials" / "mlflow.db")


def children(client, experiment, parent):
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    return [run for run in found if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    factories.write_space(directory / "space.yaml", **SPACE)
    # As in a shell: a Python and a Ray of its own, and a store that MLflow makes.
    words = [sys.executable, "-m", "ctkd_search", "run", "space.yaml"]
    result = subprocess.run(words, cwd=directory, capture_output=True, text=True, timeout=500)
    assert result.returncode == 0, result.stdout + result.stderr
    client = MlflowClient(f"sqlite:///{directory}/trials/mlflow.db")
    experiment = client.get_experiment_by_name("small")
    (parent,) = [r for r in client.search_runs([experiment.experiment_id]) if r.data.tags["ctkd.kind"] == "search"]
    return {
        "directory": directory,
        "output": result.stdout,
        "errors": result.stderr,
        "client": client,
        "parent": parent,
        "children": children(client, experiment, parent),
        "trials": SearchFolder(directory / "trials", "small").trials(),
    }


def test_run_prints_the_trials_and_the_registered_student_and_no_error(finished):
    assert f"{TRIALS} trials, " in finished["output"]
    assert "student registered in MLflow as models:/ctkd-small/1" in finished["output"]
    assert finished["errors"] == ""


def test_teachers_are_recorded_where_that_fits_and_it_is_noted(finished):
    assert finished["output"].count("\nteachers: recorded, once for all trials; their logits take ") == 1
    assert SearchFolder(finished["directory"] / "trials", "small").search().teachers == "recorded"
    assert finished["parent"].data.params["teachers"] == "recorded"


def test_everything_is_written_under_the_directory_of_the_searches(finished):
    directory = finished["directory"]
    assert sorted(path.name for path in directory.iterdir() if path.name != "best.yaml") == ["space.yaml", "trials"]
    assert list((directory / "trials" / "artifacts" / "small").rglob("student.pt2"))


def test_every_trial_has_ended_and_asha_stopped_some(finished):
    statuses = [trial.status for trial in finished["trials"]]
    assert len(statuses) == TRIALS
    assert set(statuses) == {"finished", "stopped early"}
    assert all(len(trial.epochs) == EPOCHS for trial in finished["trials"] if trial.status == "finished")
    assert all(len(trial.epochs) < EPOCHS for trial in finished["trials"] if trial.status == "stopped early")


def test_the_first_trial_has_the_papers_settings(finished):
    first = finished["trials"][0]
    assert first.number == 1
    assert first.values == {
        "pair": "wrn-10-1/resnet8",
        "method": "ctkd",
        "step_loss": "kl",
        "temperature": 4.0,
        "standardised": False,
        "step_teacher": "scratch",
        "alpha": 1.0,
        "alpha_schedule": "constant",
        "beta": 60.0,
        "beta_schedule": "constant",
        "attention_layers": [1, 2, 3],
        "attention_loss": "square",
        "first_weight": 1.0,
        "last_weight": 1.0,
        "expert_kd": 0.0,
        "optimizer": "sgd",
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "clip": 0.0,
        "batch_size": 64,
        "schedule": "milestones",
        "warmup": 0.0,
        "average": 0.0,
        "label_smoothing": 0.0,
        "class_weights": "none",
    }


def test_no_two_trials_have_the_same_values(finished):
    drawn = {json.dumps(trial.values) for trial in finished["trials"]}
    assert len(drawn) == TRIALS
    assert any("temperature" not in trial.values for trial in finished["trials"])


def test_mlflow_has_one_run_for_each_trial_with_its_parameters_and_status(finished):
    by_number = {run.data.tags["ctkd.trial"]: run for run in finished["children"]}
    assert len(finished["children"]) == TRIALS
    for trial in finished["trials"]:
        run = by_number[str(trial.number)]
        assert run.info.run_id == trial.run_id
        assert run.info.status == "FINISHED"
        assert run.data.tags["ctkd.status"] == trial.status
        assert run.data.tags["ctkd.reason"] == trial.reason
        assert set(run.data.params) == {*trial.values, "teacher", "student"}
        assert float(run.data.params["lr"]) == trial.values["lr"]


def test_mlflow_has_every_metric_of_every_epoch(finished):
    for trial in finished["trials"]:
        for name in ("loss", "loss_ce", "loss_step", "loss_attention", "validation_accuracy", "validation_loss", "lr"):
            history = finished["client"].get_metric_history(trial.run_id, name)
            assert [point.step for point in history] == list(range(1, len(trial.epochs) + 1))
            assert [point.value for point in history] == [epoch[name] for epoch in trial.epochs]
            assert [point.timestamp for point in history] == [epoch["at"] for epoch in trial.epochs]
        logged = finished["client"].get_run(trial.run_id).data.metrics
        # MLflow keeps the last value of each; how long a recording took stands in the epochs that recorded alone.
        assert logged.keys() == set().union(*trial.epochs) - {"at"}


def test_optuna_received_every_epoch_and_how_each_trial_ended(finished):
    study = study_of(finished["directory"] / "trials", "small")
    states = {"finished": optuna.trial.TrialState.COMPLETE, "stopped early": optuna.trial.TrialState.PRUNED}
    told = {trial.user_attrs["trial"]: trial for trial in study.trials}
    assert len(study.trials) == TRIALS
    for trial in finished["trials"]:
        known = told[trial.number]
        assert (known.number, known.params, known.state) == (trial.optuna, trial.stored, states[trial.status])
        assert known.value == trial.accuracy
        assert known.intermediate_values == {epoch["epoch"]: epoch["validation_accuracy"] for epoch in trial.epochs}


def test_mlflows_parent_run_points_to_the_winner(finished):
    parent = finished["parent"]
    best = max((t for t in finished["trials"] if t.status == "finished"), key=lambda t: t.accuracy)
    assert parent.info.status == "FINISHED"
    assert parent.info.run_name == "small"
    assert parent.data.tags["ctkd.best_trial"] == str(best.number)
    assert parent.data.tags["ctkd.best_run"] == best.run_id
    assert parent.data.metrics["best_validation_accuracy"] == best.accuracy


def test_the_registered_student_is_the_winner_and_takes_any_batch_size(finished):
    client = finished["client"]
    mlflow.set_tracking_uri(f"sqlite:///{finished['directory']}/trials/mlflow.db")
    version = client.get_model_version_by_alias("ctkd-small", "champion")
    model = mlflow.pyfunc.load_model(f"models:/ctkd-small/{version.version}")
    validation = load_train(DatasetConfig("digits", validation=0.15)).validation
    table = model.predict(validation.pixels)
    whole = table.to_numpy()
    assert list(table.columns) == list("0123456789")
    accuracy = float((whole.argmax(axis=1) == validation.labels).mean())
    assert accuracy == pytest.approx(finished["parent"].data.metrics["best_validation_accuracy"], abs=1e-9)
    np.testing.assert_allclose(model.predict(validation.pixels[:1]).to_numpy(), whole[:1], atol=1e-5)
    assert model.metadata.signature.inputs.inputs[0].shape == (-1, 8, 8, 1)
    assert model.metadata.saved_input_example_info is not None


def test_the_registered_student_is_described_with_its_trial_and_accuracy(finished):
    client, parent = finished["client"], finished["parent"]
    version = client.get_model_version_by_alias("ctkd-small", "champion")
    best = next(trial for trial in finished["trials"] if str(trial.number) == parent.data.tags["ctkd.best_trial"])
    assert f"Validation accuracy **{100 * best.accuracy:.2f} %** on 216 images" in version.description
    assert f"student of trial {best.number} of the search 'small'" in version.description
    assert version.tags["ctkd.trial"] == str(best.number)
    assert version.tags["ctkd.pair"] == best.values["pair"]
    assert float(version.tags["ctkd.validation_accuracy"]) == pytest.approx(best.accuracy, abs=1e-6)
    assert "card.md" in [found.path for found in client.list_artifacts(best.run_id)]


def test_the_winners_student_is_exported_from_its_record_alone(finished):
    directory = finished["directory"]
    result = command("export", "small", "--format", "onnx", "-o", "small.onnx", directory=directory)
    assert (result.code, result.err) == (0, "")
    session = onnxruntime.InferenceSession(directory / "small.onnx", providers=["CPUExecutionProvider"])
    validation = load_train(DatasetConfig("digits", validation=0.15)).validation
    (found,) = session.run(["probabilities"], {"images": validation.pixels})
    accuracy = float((found.argmax(axis=1) == validation.labels).mean())
    assert accuracy == pytest.approx(finished["parent"].data.metrics["best_validation_accuracy"], abs=1e-9)
    (directory / "small.onnx").unlink()


def test_the_winner_trains_to_the_end_and_is_tested_once(finished):
    directory = finished["directory"]
    assert command("export", "small", "-o", "best.yaml", directory=directory).code == 0
    result = command("train", "best.yaml", "--epochs", "8", directory=directory)
    assert result.code == 0, result.err
    kept = json.loads((directory / "trials" / "small" / "final-1" / "result.json").read_text())
    assert kept["train_images"] == 1438
    assert kept["test_images"] == len(load_test(DatasetConfig("digits"))) == 359
    assert kept["config"]["epochs"] == 8
    assert kept["test_accuracy"] > 0.9
    assert f"test accuracy {100 * kept['test_accuracy']:.2f} %" in result.out
    mlflow.set_tracking_uri(f"sqlite:///{directory}/trials/mlflow.db")
    test = load_test(DatasetConfig("digits"))
    served = mlflow.pyfunc.load_model("models:/ctkd-small-final/1").predict(test.pixels).to_numpy()
    assert float((served.argmax(axis=1) == test.labels).mean()) == pytest.approx(kept["test_accuracy"], abs=1e-9)


def test_a_finished_search_is_not_begun_again_under_its_name(finished):
    result = command("run", "space.yaml", directory=finished["directory"])
    assert result.code == 2
    assert "search 'small' has finished" in result.err
    assert "choose another --name" in result.err
    assert "Traceback" not in result.err


def test_ctrl_c_stops_cleanly_and_resume_goes_on_with_the_same_runs(tmp_path):
    # Of some length, so that most of it is left when it is interrupted.
    write_space(tmp_path, dataset=SPACE["dataset"])
    words = ("run", "space.yaml", "--concurrent", "1")
    process = Process(words, directory=tmp_path, stdout=PIPE, stderr=STDOUT)
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("trial 3/") and "stopping" not in "".join(said):
            process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130, "".join(said)
    assert "go on with: ctkd-search run space.yaml --concurrent 1 --resume" in "".join(said)
    folder = SearchFolder(tmp_path / "trials", "small")
    before = {trial.number: trial for trial in folder.trials()}
    assert 3 <= len(before) < TRIALS
    client = MlflowClient(f"sqlite:///{tmp_path}/trials/mlflow.db")
    experiment = client.get_experiment_by_name("small")
    states = {run.info.run_id: run.info.status for run in client.search_runs([experiment.experiment_id])}
    # A trial that had been paused at a rung waits there still.
    waiting = {trial.run_id for trial in before.values() if trial.status == "paused"}
    assert {run_id for run_id, state in states.items() if state == "SCHEDULED"} == waiting
    assert set(states.values()) <= {"FINISHED", "KILLED", "SCHEDULED"}

    result = command(*words, "--resume", directory=tmp_path, whole=False)
    assert result.code == 0, result.said
    after = {trial.number: trial for trial in folder.trials()}
    assert len(after) == TRIALS
    for number, trial in before.items():
        if trial.status in ("finished", "stopped early"):
            assert after[number].epochs == trial.epochs
        assert after[number].run_id == trial.run_id
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == TRIALS + 1
    assert {run.info.status for run in runs} == {"FINISHED"}
    for trial in after.values():
        history = client.get_metric_history(trial.run_id, "loss")
        assert [point.step for point in history] == list(range(1, len(trial.epochs) + 1))


def test_the_time_budget_interrupts_the_trials_that_still_run(tmp_path):
    write_space(tmp_path)
    # Nothing is stopped early, so that most of the time trials run.
    held = ("--epochs", "8", "--set=budget.grace_period=8")
    started = time.monotonic()
    once = command("run", "space.yaml", "--trials", "1", *held, directory=tmp_path, whole=False)
    assert once.code == 0, once.said
    # As long as it took with the teachers' trainings, which are kept: enough for some trials, however busy the machine.
    budget = time.monotonic() - started
    words = ("--trials", "900", *held, f"--time-budget={budget:.0f}s")
    result = command("run", "space.yaml", *words, directory=tmp_path, whole=False)
    assert result.code == 0, result.said
    assert time.monotonic() - started < 4 * budget
    trials = SearchFolder(tmp_path / "trials", "small").trials()
    assert 1 < len(trials) < 900
    assert "running" not in {trial.status for trial in trials}
    cut = [trial for trial in trials if trial.status == "interrupted"]
    assert cut
    assert {trial.reason for trial in cut} == {"the time budget ended"}
    client = MlflowClient(f"sqlite:///{tmp_path}/trials/mlflow.db")
    assert {client.get_run(trial.run_id).info.status for trial in cut} == {"KILLED"}


def test_a_wrong_tracking_server_is_reported_before_any_training(tmp_path):
    write_space(tmp_path)
    result = command("run", "space.yaml", "--tracking-uri", "http://127.0.0.1:9", directory=tmp_path)
    assert result.code == 2
    assert "cannot use MLflow at http://127.0.0.1:9" in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "trials" / "teachers").exists()


def test_a_trial_that_raises_is_recorded_and_the_search_goes_on(tmp_path):
    own = tmp_path / "own.pt"
    torch.save(build("wrn-16-1", Geometry(10, 1, 8), seed=0).state_dict(), own)
    write_space(tmp_path, teachers={**SPACE["teachers"], "expert": {"checkpoint": {"wrn-16-1": str(own)}}})

    def lose(said):
        if "\ntrials:" in said:
            own.unlink(missing_ok=True)  # the experts are prepared, and no trial has read one yet

    result = command("run", "space.yaml", "--epochs", "1", directory=tmp_path, whole=False, heard=lose)
    assert result.code == 0, result.said
    assert "Traceback" not in result.said
    trials = SearchFolder(tmp_path / "trials", "small").trials()
    assert len(trials) == TRIALS
    client = MlflowClient(f"sqlite:///{tmp_path}/trials/mlflow.db")
    for trial in trials:
        lost = trial.values["pair"].startswith("wrn-16-1")
        assert trial.status == ("failed" if lost else "finished")
        assert client.get_run(trial.run_id).info.status == ("FAILED" if lost else "FINISHED")
        assert trial.reason.startswith("cannot read the weights") or not lost
    assert {trial.status for trial in trials} == {"failed", "finished"}


def test_a_preparation_that_fails_can_be_mended_and_run_again(tmp_path):
    write_space(tmp_path)
    wild = command("run", "space.yaml", "--set", "teachers.recipe.lr=1e12", directory=tmp_path)
    assert wild.code == 1
    assert "diverged in epoch" in wild.err
    assert "Traceback" not in wild.err
    client = MlflowClient(f"sqlite:///{tmp_path}/trials/mlflow.db")
    experiment = client.get_experiment_by_name("small")
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["FAILED"]
    words = ("run", "space.yaml", "--trials", "2", "--epochs", "1")
    assert command(*words, directory=tmp_path, whole=False).code == 0


def test_the_ui_answers_on_this_machine_alone_and_ends_with_its_process(finished):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "ctkd_search", "ui", "--port", str(port)]
    process = subprocess.Popen(words, cwd=finished["directory"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        page = answered(f"http://127.0.0.1:{port}/", process)
        assert b"<title>MLflow</title>" in page.read()
        listening = subprocess.run(["ss", "-ltn"], capture_output=True, text=True, check=False).stdout
        assert f"0.0.0.0:{port}" not in listening
        serving = [process.pid, *descendants(process.pid)]
        assert len(serving) <= 3, descendants(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        assert not [pid for pid in serving if psutil.pid_exists(pid)]
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", port))
    finally:
        process.kill()
        process.wait(timeout=30)
