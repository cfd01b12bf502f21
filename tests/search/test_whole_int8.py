"""A whole search of accuracy against int8: what is measured, when, and where it is shown."""

from __future__ import annotations

import re

import mlflow
import onnxruntime
import pytest
from support.here import command
from support.live import SPACE, Live
from support.studies import study_of

from ctkd_search import data
from ctkd_search.config import DatasetConfig
from ctkd_search.records.states import read_state, state_path
from ctkd_search.records.store import SearchFolder
from ctkd_search.students.formats import onnx_model
from ctkd_search.students.kept import trial_student
from ctkd_search.students.quantisation import calibration_images, prepared, quantised

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
SMALL, LARGE, TOO_LARGE = "wrn-10-1/resnet8x0.5", "wrn-10-1/resnet8", "wrn-10-1/resnet20"


def test_accuracy_is_searched_against_int8(tmp_path):
    few = {"name": "digits", "validation": 0.5}
    live = Live(
        tmp_path,
        dataset=few,
        budget={"trials": 4, "epochs": 4, "grace_period": 2, "reduction_factor": 2},
        search={**SPACE["search"], "pair": {"choice": [SMALL, LARGE, TOO_LARGE]}},
        objectives=["validation_accuracy", "int8_validation_accuracy", "int8_latency_ms"],
        limits={"max_onnx_bytes": 200_000},
        resources={"concurrent_trials": 1, "cpus_per_trial": 1},
    )
    assert live.run(whole=True) == 0, live.said()
    root = tmp_path / "trials"
    folder = SearchFolder(root, "small")
    record, trials = folder.search(), folder.trials()
    assert record.costs["resnet8x0.5"]["onnx_bytes"] < record.costs["resnet8"]["onnx_bytes"] < 200_000
    assert record.costs["resnet20"]["onnx_bytes"] > 200_000
    assert f"pair {TOO_LARGE} is left out: resnet20 has" in live.said()
    assert all(costs["int8_latency_ms"] > 0 for costs in record.costs.values())
    finished = [trial for trial in trials if trial.status == "finished"]
    assert finished
    for trial in trials:
        measured = ["int8_validation_accuracy" in epoch for epoch in trial.epochs]
        assert measured == [len(trial.epochs) == 4 and number == 4 for number in range(1, len(trial.epochs) + 1)]
    study = study_of(root, "small")
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MAXIMIZE", "MINIMIZE"]
    for trial in finished:
        student = trial.values["pair"].split("/")[1]
        told = study.trials[trial.optuna].values
        assert told == [
            trial.value,
            trial.epochs[-1]["int8_validation_accuracy"],
            record.costs[student]["int8_latency_ms"],
        ]
    # The accuracy of a student that was kept, measured again from its weights.
    kept = next(trial for trial in finished if read_state(state_path(folder.states, trial.number)))
    found = trial_student(root, "small", str(kept.number))
    splits = data.load_train(DatasetConfig(**few))
    model = quantised(prepared(onnx_model(found.served, found.metadata)), calibration_images(splits.train))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    answers = session.run(["probabilities"], {"images": splits.validation.pixels})[0].argmax(axis=1)
    right = (answers == splits.validation.labels).mean()
    assert kept.epochs[-1]["int8_validation_accuracy"] == pytest.approx(right)
    store = mlflow.MlflowClient(f"sqlite:///{root}/mlflow.db")
    logged = store.get_metric_history(kept.run_id, "int8_validation_accuracy")
    assert [(entry.step, entry.value) for entry in logged] == [(4, pytest.approx(right))]
    shown = command("show", "small", directory=tmp_path).out.partition("Pareto front")[2]
    assert "int8" in shown
    assert "int8 latency ms" in shown
    page = (root / "small" / "report" / "index.html").read_text()
    assert {path.name for path in (root / "small" / "report").glob("pareto-*.png")} == {
        "pareto-int8_validation_accuracy.png",
        "pareto-int8_latency_ms.png",
    }
    assert "int8 accuracy" in page
    card = next(text for path in root.rglob("card.md") if "In int8, its ONNX file has" in (text := path.read_text()))
    winner = re.search(r"It is the student of trial (\d+)", card)[1]
    accuracy = next(trial for trial in trials if str(trial.number) == winner).epochs[-1]["int8_validation_accuracy"]
    assert f"int8 accuracy {100 * accuracy:.2f} %" in card
