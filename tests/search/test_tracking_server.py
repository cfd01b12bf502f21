"""A real MLflow server that goes away while a search runs, and comes back, or does not."""

import pytest
from mlflow import MlflowClient
from support.live import Live, few_images, running_with_epochs
from support.servers import Server

from ctkd_search.records.store import SearchFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
EPOCHS = 40


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path).start()
    yield server
    server.stop()


@pytest.fixture
def live(tmp_path, server):
    words = ["--tracking-uri", server.uri, "--epochs", str(EPOCHS), "--set", f"budget.grace_period={EPOCHS}"]
    live = Live(tmp_path, *words, "--concurrent", "1", "--trials", "3", dataset=few_images(tmp_path))
    yield live
    live.stop()


def all_is_there(live, server):
    """Every trial has one run, with every epoch once."""
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("small")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    numbers = sorted(int(run.data.tags.get("ctkd.trial", 0)) for run in runs)
    trials = SearchFolder(live.directory / "trials", "small").trials()
    assert numbers == [0, *(trial.number for trial in trials)]
    for trial in trials:
        for name in ("loss", "validation_accuracy"):
            history = client.get_metric_history(trial.run_id, name)
            assert [point.step for point in history] == list(range(1, EPOCHS + 1))
            assert [point.value for point in history] == [epoch[name] for epoch in trial.epochs]
    return client


def test_a_server_that_dies_and_comes_back_gets_everything(live, server):
    # So many, and so patient at the end, that the server is back in time on a slow machine too.
    live.start("--trials", "12", "--set", "tracking.patience=200")
    live.wait_for(running_with_epochs(5))
    server.stop()
    live.wait_for(lambda now: "does not answer" in now.said())
    done = sum(len(record["epochs"]) for record in live.records())
    # The search does not wait for it.
    live.wait_for(lambda now: sum(len(record["epochs"]) for record in now.records()) > done + 20)
    server.start()
    assert live.process.wait(timeout=700) == 0, live.said()
    assert "MLflow answers again" in live.said()
    assert "Traceback" not in live.said()
    client = all_is_there(live, server)
    assert client.get_model_version_by_alias("ctkd-small", "champion").version == "1"


def test_what_a_server_never_got_is_delivered_when_the_search_goes_on(live, server):
    live.start("--set", "tracking.patience=3")
    live.wait_for(running_with_epochs(5))
    server.stop()
    assert live.process.wait(timeout=700) == 1, live.said()
    assert "its results are kept, but MLflow at" in live.said()
    assert "--resume" in live.said().splitlines()[-1]
    assert "Traceback" not in live.said()
    trials = SearchFolder(live.directory / "trials", "small").trials()
    assert [trial.status for trial in trials] == ["finished"] * 3
    server.start()
    assert live.run("--resume") == 0, live.said()
    all_is_there(live, server)


def test_a_run_that_somebody_deleted_does_not_stop_the_search(live, server):
    live.start()
    live.wait_for(running_with_epochs(5))
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("small")
    (run,) = [r for r in client.search_runs([experiment.experiment_id]) if r.data.tags.get("ctkd.trial") == "1"]
    client.delete_run(run.info.run_id)
    live.process.wait(timeout=700)
    assert "MLflow refuses trial 1 (" in live.said()
    trials = SearchFolder(live.directory / "trials", "small").trials()
    assert [trial.status for trial in trials] == ["finished"] * 3
    assert "Traceback" not in live.said()
