"""Searches in a process that holds Ray already, as a notebook does: they use it, and leave it running."""

import json
import logging

import pytest
from mlflow import MlflowClient
from support import here
from support.live import Live

from ctkd_search.errors import UserError
from ctkd_search.records.store import SearchFolder
from ctkd_search.search.cluster import Cluster

pytestmark = pytest.mark.slow


@pytest.fixture
def ray():
    return here.shared_ray()


def test_the_ray_of_this_process_is_used_and_left_running(ray):
    before = ray.get_runtime_context().gcs_address
    level = logging.getLogger("ray").level
    for address in (None, before, "auto"):
        cluster = Cluster(address)
        assert [(node.gpus, node.cpus) for node in cluster.nodes] == [(0, here.CPUS)]
        cluster.leave()
    assert ray.get_runtime_context().gcs_address == before
    assert logging.getLogger("ray").level == level


def test_another_cluster_than_that_of_this_process_is_refused(ray):
    found = ray.get_runtime_context().gcs_address
    with pytest.raises(UserError) as refused:
        Cluster("127.0.0.1:9")
    assert str(refused.value) == (
        f"cannot join the Ray cluster at 127.0.0.1:9: this process is connected to the one at {found}; leave the "
        "address out to use that one, or call ray.shutdown() first"
    )
    assert ray.is_initialized()


def test_searches_of_one_process_share_its_ray_and_keep_their_own_stores(ray, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    address = ray.get_runtime_context().gcs_address
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        live = Live(tmp_path / name, "--trials", "1", "--epochs", "1", "--set", "budget.grace_period=1")
        assert live.run() == 0, live.said()
    assert ray.get_runtime_context().gcs_address == address
    runs = []
    for name in ("first", "second"):
        client = MlflowClient(f"sqlite:///{tmp_path / name}/trials/mlflow.db")
        runs += [
            {run.info.run_id for run in client.search_runs([client.get_experiment_by_name("small").experiment_id])}
        ]
        kept = json.loads((SearchFolder(tmp_path / name / "trials", "small").path / "search.json").read_text())
        assert kept["run_id"] in runs[-1]
    assert [len(found) for found in runs] == [2, 2]
