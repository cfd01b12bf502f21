"""A search against a remote MLflow: PostgreSQL, artifacts through the server, and a token that nobody gets to see."""

import json

import mlflow
import pytest
from support.here import command
from support.live import Live, few_images
from support.servers import Postgres, Server, TokenGate

from ctkd_search.config import DatasetConfig
from ctkd_search.data import load_test
from ctkd_search.records.store import SearchFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
TOKEN = "tok-5c1e0d9a77"


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    directory = tmp_path_factory.mktemp("remote")
    postgres = Postgres().start()
    server = Server(directory, postgres.uri).start()
    gate = TokenGate(server.port, TOKEN)
    gate.directories = [directory, postgres.data]
    yield gate
    gate.stop()
    server.stop()
    postgres.stop()


def test_everything_works_against_a_remote_server_and_the_token_is_kept_nowhere(gate, tmp_path, monkeypatch):
    environment = {"MLFLOW_TRACKING_URI": gate.uri, "MLFLOW_TRACKING_TOKEN": TOKEN}
    words = ["--trials", "2", "--epochs", "4", "--set", "budget.grace_period=2"]
    more = {"dataset": few_images(tmp_path), "baselines": ["student-alone"], "confirm": {"best": 1, "seeds": 2}}
    live = Live(tmp_path, *words, environment=environment, **more)
    assert live.run(whole=True) == 0, live.said()
    (picture, *_) = sorted((tmp_path / "images" / "test").rglob("*.png"))
    for words in (
        ["export", "small", "-o", "best.yaml"],
        ["train", "best.yaml", "--epochs", "2"],
        ["show", "small"],
        ["ui"],
        ["report", "small"],
        ["export", "small", "--format", "onnx"],
        ["predict", "models:/ctkd-small@champion", picture],
    ):
        ended = command(*words, directory=tmp_path, environment=environment)
        (tmp_path / f"{words[0]}.txt").write_text(ended.said)
        assert ended.code == 0, ended.said

    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", TOKEN)
    mlflow.set_tracking_uri(gate.uri)
    client = mlflow.MlflowClient()
    search = SearchFolder(tmp_path / "trials", "small").search()
    assert search.tracking_uri == gate.uri
    parent = client.get_run(search.run_id)
    assert parent.info.status == "FINISHED"
    # Through the server: neither the driver nor this test has any other way to the artifacts.
    assert parent.info.artifact_uri.startswith("mlflow-artifacts:")
    kept = {file.path for file in client.list_artifacts(search.run_id)}
    assert {"space.yaml", "best.yaml", "leaderboard.csv", "leaderboard.txt", "report"} <= kept
    children = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{search.run_id}'")
    trials = SearchFolder(tmp_path / "trials", "small").trials()
    assert {int(run.data.tags["ctkd.trial"]) for run in children} == {trial.number for trial in trials}
    images = load_test(DatasetConfig(**more["dataset"])).pixels
    assert len(mlflow.pyfunc.load_model("models:/ctkd-small@champion").predict(images)) == 30

    everything = [json.dumps([run.to_dictionary() for run in client.search_runs([parent.info.experiment_id])])]
    for directory in (tmp_path, *gate.directories):
        everything += [path.read_bytes().decode("latin-1") for path in directory.rglob("*") if path.is_file()]
    assert len(everything) > 30
    assert not any(TOKEN in text for text in everything)


def test_a_missing_token_is_reported_before_anything_is_trained(gate, tmp_path):
    live = Live(tmp_path, "--tracking-uri", gate.uri)
    assert live.run() == 2
    last = live.said().splitlines()[-1]
    assert last.startswith(f"ctkd-search: cannot use MLflow at {gate.uri}")
    assert "401" in last
    assert not live.records()
    assert "Traceback" not in live.said()
