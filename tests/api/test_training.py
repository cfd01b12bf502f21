"""Final training from Python: the records are the command's, and its object shows them."""

import html
import json
import warnings
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from support import here
from support.factories import a_search
from support.live import CONFIG

import ctkd_search
from ctkd_search.errors import UserError
from ctkd_search.metrics import CLOCKS
from ctkd_search.records.store import SearchFolder
from ctkd_search.students.predictor import open_model

CONTENT = {**CONFIG, "epochs": 2, "dataset": {"name": "digits", "validation": 0.8}}
OPTIONS = {"seeds": 2, "baselines": ["student-alone"], "overrides": {"resources.concurrent_trials": 1}}


class Recorder(ctkd_search.Callback):
    """Keeps what it is told and what the final training showed meanwhile; stops at an event, and may raise."""

    def __init__(self, stop_at=None, raises=False):
        self.heard, self.stop_at, self.raises = [], stop_at, raises

    def _hear(self, final, event):
        self.heard.append(event)
        if event == self.stop_at:
            final.stop()
        if self.raises:
            raise RuntimeError("on purpose")

    def on_search_start(self, search):
        self._hear(search, "search start")

    def on_train_start(self, final):
        self._hear(final, "train start")

    def on_trial_start(self, final, trial):
        self._hear(final, f"start {trial.kind} {trial.number}")

    def on_epoch_end(self, final, trial):
        assert len(final.epochs.query(f"trial == {trial.number}")) == len(trial.epochs)
        self._hear(final, f"epoch {len(trial.epochs)} of {trial.number}")

    def on_trial_end(self, final, trial):
        self._hear(final, f"end {trial.number}: {trial.status}")

    def on_train_end(self, final):
        self.finished, self.tested = final.finished, len(final.table)
        self._hear(final, "train end")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The same final training by command and from Python."""
    import yaml

    found = {"command": tmp_path_factory.mktemp("command"), "python": tmp_path_factory.mktemp("python")}
    for directory in found.values():
        here.fresh_store(directory / "trials" / "mlflow.db")
    (found["command"] / "config.yaml").write_text(yaml.safe_dump(CONTENT))
    ended = here.command(
        *("train", "config.yaml", "--seeds", "2", "--baselines", "student-alone", "--concurrent", "1"),
        directory=found["command"],
        whole=False,
    )
    assert ended.code == 0, ended.said
    root, recorder = found["python"] / "trials", Recorder(raises=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        final = ctkd_search.train(CONTENT, trials_dir=root, progress=False, callbacks=[recorder], **OPTIONS)
    reported = [str(warning.message) for warning in caught if "Recorder" in str(warning.message)]
    return {**found, "final": final, "said": ended.said, "recorder": recorder, "reported": reported}


def comparable(trial):
    """What the record of a training has that does not depend on the machine."""
    epochs = [{key: value for key, value in epoch.items() if key not in (*CLOCKS, "at")} for epoch in trial.epochs]
    return {**vars(trial), "epochs": epochs, "run_id": None}


@pytest.mark.slow
def test_the_same_final_training_by_command_and_from_python_has_the_same_records(trained):
    records = [
        list(map(comparable, SearchFolder(trained[how] / "trials" / "small", "final-1").trials()))
        for how in ("command", "python")
    ]
    assert len(records[0]) == 4
    assert records[0] == records[1]
    assert trained["final"].path == trained["python"] / "trials" / "small" / "final-1"
    assert trained["final"].finished
    assert trained["final"].name == "small/final-1"


@pytest.mark.slow
def test_callbacks_hear_of_every_training_and_may_raise(trained):
    heard = trained["recorder"].heard
    assert heard == [
        "train start",
        *(
            event
            for number, kind in enumerate(["final", "baseline"] * 2, start=1)
            for event in (
                *(f"start {kind} {number}", f"epoch 1 of {number}", f"epoch 2 of {number}"),
                f"end {number}: finished",
            )
        ),
        "train end",
    ]
    assert trained["recorder"].finished
    assert trained["recorder"].tested > 0
    (reported,) = trained["reported"]
    assert "callback Recorder.on_train_start raised RuntimeError: on purpose" in reported
    assert "; the final training goes on, and further exceptions" in reported


@pytest.mark.slow
def test_a_callback_stops_a_final_training_which_is_not_tested_until_it_has_gone_on(tmp_path, capsys):
    here.shared_ray()
    here.fresh_store(tmp_path / "trials" / "mlflow.db")

    def train_with(callback, **options):
        given = {**OPTIONS, "baselines": [], "trials_dir": tmp_path / "trials", **options}
        return ctkd_search.train(CONTENT, callbacks=[callback], progress=True, **given)

    at_once = Recorder(stop_at="train start")
    final = train_with(at_once)
    assert at_once.heard == ["train start", "train end"]
    assert (final.finished, at_once.finished, final.students["status"].tolist()) == (False, False, ["waiting"] * 2)
    assert not (tmp_path / "trials" / "teachers").exists()
    assert "stopped by a callback; go on with: ctkd_search.train(config, resume=True" in capsys.readouterr().out

    # As if it had begun on a machine with other hardware.
    folder = SearchFolder(final.path.parent, final.path.name)
    record = folder.search()
    began_with = record.precision = {"float32": "bfloat16", "bfloat16": "float32"}[record.precision]
    folder.write(record)
    midway = Recorder(stop_at="epoch 1 of 2")
    final = train_with(midway, resume=True)
    assert midway.heard[-2:] == ["end 2: interrupted", "train end"]
    assert (final.finished, len(final.table), final.model) == (False, 0, None)
    assert final.students["status"].tolist() == ["finished", "interrupted"]
    assert final.students["reason"].tolist()[1] == "stopped by a callback"
    assert "test_accuracy" not in final.students, "the first student is not tested alone"
    run = mlflow.MlflowClient(f"sqlite:///{tmp_path}/trials/mlflow.db").get_run(final.mlflow_run_id)
    assert (run.info.status, run.data.tags["ctkd.reason"]) == ("KILLED", "stopped by a callback")
    with pytest.raises(UserError, match=r"the final training in .* cannot be stopped here"):
        final.stop()

    last = Recorder()
    again = train_with(last, resume=True)
    assert (again.path, again.finished, last.finished) == (final.path, True, True)
    assert folder.search().precision == began_with
    assert "epoch 1 of 2" not in last.heard
    assert again.students["test_accuracy"].between(0, 1).all()
    assert again.model


@pytest.mark.slow
def test_the_table_and_the_verdicts_are_those_of_the_command(trained):
    final, result = trained["final"], json.loads((trained["final"].path / "result.json").read_text())
    assert final.result == result
    table = final.table.set_index(["trained", "metric"])
    assert table.loc[("the config", "accuracy"), "mean"] == pytest.approx(result["test_accuracy"])
    alone = result["baselines"]["student-alone"]
    row = table.loc[("student-alone", "accuracy")]
    assert row["mean"] == pytest.approx(alone["test_accuracy"])
    assert row["n"] == 2
    assert row["config_minus_baseline"] == pytest.approx(alone["config_minus_baseline"]["accuracy"]["mean"])
    assert all(sentence in trained["said"] for sentence in final.verdicts)
    assert len(final.verdicts) == 2
    shown = html.unescape(final._repr_html_())
    assert all(sentence in shown for sentence in final.verdicts)
    assert repr(final).startswith("<FinalTraining 'small/final-1': 2 seeds; test accuracy ")


@pytest.mark.slow
def test_students_and_epochs_are_a_row_each(trained):
    final = trained["final"]
    students = final.students
    assert students["trained"].tolist() == ["the config", "student-alone"] * 2
    assert students["seed"].tolist() == [0, 0, 1, 1]
    assert students["test_accuracy"].between(0, 1).all()
    assert len(final.epochs) == 8


@pytest.mark.slow
def test_its_student_takes_raw_images_and_is_exported(trained, tmp_path):
    final, images = trained["final"], torch.zeros(2, 8, 8, 1, dtype=torch.uint8)
    path = final.export(tmp_path / "student.pt2")
    graph = torch.export.load(path).module()
    with torch.inference_mode():
        assert torch.allclose(graph(images), final.student()(images), atol=1e-4)
    exported = final.export(tmp_path / "small.onnx", int8=True, max_drop=100, register=True)
    assert "int8" in (tmp_path / "small.onnx.md").read_text()
    mlflow.set_tracking_uri(f"sqlite:///{final.path.parents[1]}/mlflow.db")
    registered = mlflow.pyfunc.load_model("models:/ctkd-small-final@int8")
    assert np.array_equal(
        registered.predict(images.numpy()).to_numpy(), open_model(str(exported), "").run(images.numpy())
    )
    with pytest.raises(UserError, match="a final training exports a student, as onnx or torch, but not yaml"):
        final.export(tmp_path / "best.yaml")


@pytest.mark.slow
def test_a_search_lists_its_final_trainings(trained):
    (found,) = ctkd_search.Search("small", trained["python"] / "trials").finals
    assert found.path == trained["final"].path


@pytest.mark.parametrize(
    ("config", "options", "reason"),
    [
        (3, {}, "a config must be a path, a mapping or a Search, but got 3"),
        ({**CONTENT, "epoch": 3}, {}, "the config has 1 error:\n  epoch is not a known key"),
        ({"search": {}, "name": "x"}, {}, "the config is a space"),
        (CONTENT, {"seeds": 1, "new_streams": True}, "--new-streams has no effect with one seed"),
        (CONTENT, {"baselines": ["alone"]}, "--baselines: unknown baseline 'alone'"),
        (CONTENT, {"baselines": 5}, "baselines must be names or paths of files, but got 5"),
        (CONTENT, {"baselines": [None]}, "baselines must be names or paths of files, but got [None]"),
        (CONTENT, {"baselines": Path("a,b.yaml")}, "--baselines: the name of the file a,b.yaml, without its suffix,"),
        (CONTENT, {"overrides": {"resources.concurent": 1}}, "resources.concurent is not a known key"),
        (CONTENT, {"overrides": {"train.lr": 1}}, "--set train.lr: train cannot be set here, but only keys of"),
        (CONTENT, {"resume": True}, "there is no unfinished final training in"),
        ("nowhere.yaml", {}, "there is no file nowhere.yaml"),
        (CONTENT, {"seeds": 0}, "seeds must be a whole number of at least 1, but got 0"),
        (CONTENT, {"epochs": 2.0}, "epochs must be a whole number of at least 1, but got 2.0"),
        (CONTENT, {"seed": -1}, "seed must be a whole number from 0 to "),
        (CONTENT, {"seeds": True}, "seeds must be a whole number of at least 1, but got True"),
        (CONTENT, {"overrides": 5}, "overrides must be a mapping of keys to values, but got 5"),
        (CONTENT, {"seeds": np.int64(2), "overrides": None, "callbacks": None, "resume": True}, "there is no unf"),
        (CONTENT, {"callbacks": [print]}, "a callback must be an object derived from ctkd_search.Callback, but got"),
        (CONTENT, {"device": "gpu"}, "device must be cpu or cuda, but got 'gpu'"),
    ],
)
def test_what_cannot_be_trained_is_refused(config, options, reason, own_directory):
    with pytest.raises(UserError) as refused:
        ctkd_search.train(config, progress=False, **options)
    assert reason in str(refused.value)


@pytest.mark.parametrize("content", ["", "{", b"\xff"])
def test_a_damaged_result_is_refused_by_its_name(tmp_path, content):
    path = tmp_path / "result.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=r"cannot read the result .*result\.json \("):
        _ = ctkd_search.FinalTraining(tmp_path).result


def test_the_experiment_that_is_wanted_is_that_of_the_training(own_directory, monkeypatch):
    from ctkd_search.final import run

    asked = []

    def train_final(request, console):
        asked.append(request.tracking.experiment)
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "train_final", train_final)
    for overrides in ({"tracking.experiment": "ours"}, {}):
        with pytest.raises(KeyboardInterrupt):
            ctkd_search.train({**CONTENT, "experiment": "its"}, progress=False, overrides=overrides)
    assert asked == ["ours", "its"]


def test_a_final_training_that_was_killed_before_its_first_record_is_shown(tmp_path):
    a_search(tmp_path, [], {"seeds": 2, "new_streams": False}, name="final-1")
    final = ctkd_search.FinalTraining(tmp_path / "final-1")
    assert final.verdicts == []
    assert final._repr_html_() == "<p>final training final-1</p><p>not tested</p>"
    assert (len(final.table), len(final.students), len(final.epochs)) == (0, 0, 0)
