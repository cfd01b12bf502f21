"""The line about the report at the end of a search."""

import types
from pathlib import Path

import pytest

from ctkd_search.records.store import SearchFolder
from ctkd_search.search.run import _write_up


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
