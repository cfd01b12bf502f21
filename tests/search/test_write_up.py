"""The lines about the student and the report at the end of a search and of a final training."""

import types
from pathlib import Path

import pytest
from support.factories import a_search_record, digits_space
from support.final import a_config
from support.kept_students import a_search_with_students

from ctkd_search.data import load_train
from ctkd_search.final import run as final
from ctkd_search.final.plan import FinalPlan
from ctkd_search.models.graph import NoGraph
from ctkd_search.records.store import FINISHED, SearchFolder
from ctkd_search.search.run import _hand_over, _write_up


@pytest.fixture
def session(monkeypatch):
    """A session whose MLflow server is away."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    from mlflow import MlflowClient

    client = MlflowClient("http://127.0.0.1:9")
    tracker = types.SimpleNamespace(mlflow=types.SimpleNamespace(client=client), parent_id="0" * 32)
    return types.SimpleNamespace(tracker=tracker, trials_dir=Path("trials"), say=print)


def test_a_report_that_mlflow_does_not_get_is_still_named(session, monkeypatch, tmp_path):
    page = tmp_path / "index.html"
    page.write_text("<html>")
    monkeypatch.setattr("ctkd_search.report.page.write_report", lambda *_, **__: page)
    said = _write_up(session, SearchFolder(Path("trials"), "one"), types.SimpleNamespace(name="one"), None)
    assert said.startswith(f"report: {page}; it could not be logged to MLflow (")


def test_a_report_that_cannot_be_written_is_reported_with_the_command_for_another(session, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ctkd_search.report.page.write_report", full)
    said = _write_up(session, SearchFolder(Path("trials"), "one"), types.SimpleNamespace(name="one"), None)
    assert said.startswith("the report could not be written (")
    assert said.endswith("try again with: ctkd-search report one")


class Runs:
    """The runs in MLflow, and what is logged to the parent."""

    mlflow = types.SimpleNamespace(place="here")

    def __init__(self):
        self.logged, self.closed = [], None

    def flush(self, seconds):
        return True

    def run_id(self, number):
        return f"run {number}"

    def log_text(self, text, name):
        self.logged.append(name)

    def finish(self, status, metrics, tags):
        self.closed = (status, tags["ctkd.model"])


def no_graph(*_):
    raise NoGraph("my_code:make_net cannot be exported as a graph: it branches; its code must not")


SAID = "no student is registered: my_code:make_net cannot be exported as a graph: it branches; its code must not; "


def test_a_student_that_is_no_graph_is_told_and_the_search_is_concluded_without_it(monkeypatch, tmp_path):
    monkeypatch.setattr("ctkd_search.students.registration.register", no_graph)
    concluded = []
    monkeypatch.setattr("ctkd_search.tracking.parent_run.conclude_parent", lambda *given: concluded.append(given[-1]))
    a_search_with_students(tmp_path)
    folder = SearchFolder(tmp_path, "digits")
    record, trials, runs = folder.search(), folder.trials(), Runs()
    space = digits_space()
    splits = load_train(space.dataset)
    session = types.SimpleNamespace(space=space, tracker=runs)
    lines = _hand_over(session, folder, record, trials, trials[1], splits, False)
    assert lines == [
        f"{SAID}its weights and its config are kept, and once its code is mended, this writes it: ctkd-search export "
        "digits --format torch"
    ]
    assert (record.model, concluded, runs.logged) == (None, [""], ["best.yaml"])
    # One that was not kept is told as before.
    (line,) = _hand_over(session, folder, record, trials, trials[0], splits, False)
    assert line.startswith("no student is registered: that of trial 1 was not kept, or cannot be read; to train it ")


def test_a_final_training_whose_student_is_no_graph_is_concluded_without_it(monkeypatch, tmp_path):
    monkeypatch.setattr("ctkd_search.final.registration.register_final", no_graph)
    plan, runs = FinalPlan("digits", a_config(), seeds=1), Runs()
    trials = plan.trials()
    trials[0].status, trials[0].test = FINISHED, {"accuracy": 0.5, "loss": 1.0, "images": 100}
    folder, record, space = SearchFolder(tmp_path, "final-1"), a_search_record(), digits_space()
    session = types.SimpleNamespace(space=space, tracker=runs, say=print)
    splits = load_train(plan.config.dataset)
    outcome = final._hand_over(session, folder, record, trials, splits, plan, plan.config, False)
    assert outcome == (
        f"{SAID}student.pt is kept, and once its code is mended, this writes it: ctkd-search export digits --final "
        "--format torch"
    )
    assert (record.model, runs.closed) == (None, ("FINISHED", ""))
