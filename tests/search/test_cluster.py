"""A Ray cluster of two machines, on one: joined, used, and one of them lost."""

import signal

import pytest
from ray.cluster_utils import Cluster
from support import here
from support.live import Live, descendants, few_images, running_with_epochs
from support.ray_workers import fork_ray_workers

from ctkd_search.cache_index import CacheIndex
from ctkd_search.records.store import SearchFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def raylet(node):
    return node.all_processes["raylet"][0].process


def working_on(node):
    """Processes of trials on a machine."""
    names = ("ray::DistillationTrial", "ray::ResourceTrainable")
    return [pid for pid, line in descendants(raylet(node).pid).items() if line.startswith(names)]


@pytest.fixture
def cluster():
    # A process has one Ray.
    here.stop_ray()
    # Processes that import torch anew may take longer than Ray waits for them, where other tests run beside.
    fork_ray_workers()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.second = cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


@pytest.fixture
def live(tmp_path, cluster):
    live = Live(tmp_path, "--address", cluster.address, dataset=few_images(tmp_path))
    yield live
    live.stop()


def test_both_machines_work_and_the_teacher_is_trained_once(live, cluster):
    live.start("--epochs", "60", "--set", "budget.grace_period=60")
    live.wait_for(lambda now: working_on(cluster.head_node) and working_on(cluster.second))
    assert live.process.wait(timeout=700) == 0, live.said()
    assert "trials: 2 trials at once" in live.said()
    assert live.said().count("teacher wrn-10-1: trained 60 epochs") == 1
    kinds = [entry.about["kind"] for entry in CacheIndex(live.directory / "trials" / "teachers").all()]
    assert sorted(kinds) == ["maps", "teacher"]
    assert [t.status for t in SearchFolder(live.directory / "trials", "small").trials()] == ["finished"] * 4


def test_the_trials_of_a_lost_machine_go_on_elsewhere(live, cluster):
    live.start("--epochs", "120", "--set", "budget.grace_period=120", "--trials", "2")
    live.wait_for(lambda now: working_on(cluster.second) and running_with_epochs(3)(now))
    before = {record["number"]: len(record["epochs"]) for record in live.records()}
    raylet(cluster.second).send_signal(signal.SIGKILL)
    assert live.process.wait(timeout=700) == 0, live.said()
    trials = SearchFolder(live.directory / "trials", "small").trials()
    assert [trial.status for trial in trials] == ["finished"] * 2
    assert sum(trial.retries for trial in trials) >= 1
    assert before
    for trial in trials:
        assert [epoch["epoch"] for epoch in trial.epochs] == list(range(1, 121))
    assert "going on from its last epoch" in live.said()
    assert "Traceback" not in live.said()


def test_an_address_where_nobody_listens_is_reported(tmp_path):
    live = Live(tmp_path, "--address", "127.0.0.1:9")
    assert live.run_alone() == 2
    assert "cannot join the Ray cluster at 127.0.0.1:9" in live.said()
    assert "Traceback" not in live.said()
