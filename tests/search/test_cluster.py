"""A Ray cluster of two machines, on one: joined, used, and one of them lost."""

import signal

import pytest
from ray.cluster_utils import Cluster
from support import here
from support.live import Live, descendants, few_images, running_with_epochs
from support.processes import PIPE, STDOUT, Process
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
    live = Live(tmp_path, "--address", cluster.address, dataset={**few_images(tmp_path), "loading": "stored"})
    yield live
    live.stop()


def shared_files(live, kinds="*"):
    """Files that the machines share, each with the number by which the disk knows it.

    Left out are notes of use, and files that are being written, whose names begin with a dot.
    """
    found = (live.directory / "trials" / "teachers").glob(f"{kinds}-*/**/*")
    return {
        str(path.relative_to(live.directory)): path.stat().st_ino
        for path in found
        if path.name != "used.json" and not path.name.startswith(".") and path.is_file()
    }


def kinds_of(live):
    return sorted(entry.about["kind"] for entry in CacheIndex(live.directory / "trials" / "teachers").all())


def test_both_machines_work_and_what_they_share_is_written_once(live, cluster):
    live.start("--epochs", "40", "--set", "budget.grace_period=40", "--trials", "8")
    live.wait_for(lambda now: working_on(cluster.head_node) and working_on(cluster.second))
    pictures = shared_files(live, "pictures")
    assert pictures
    live.wait_for(lambda now: sum(record["status"] == "finished" for record in now.records()) >= 2)
    # By now all of it has been recorded: every epoch's maps too.
    shared = shared_files(live)
    assert live.process.wait(timeout=700) == 0, live.said()
    assert "trials: 2 trials at once" in live.said()
    assert live.said().count("teacher wrn-10-1: trained 40 epochs") == 1
    assert kinds_of(live) == ["maps", "pictures", "teacher"]
    assert pictures.items() <= shared.items()
    assert shared_files(live) == shared
    assert [t.status for t in SearchFolder(live.directory / "trials", "small").trials()] == ["finished"] * 8


def test_the_trials_of_a_lost_machine_go_on_elsewhere(live, cluster):
    live.start("--epochs", "120", "--set", "budget.grace_period=120", "--trials", "2")
    live.wait_for(lambda now: working_on(cluster.second) and running_with_epochs(3)(now))
    before = {record["number"]: len(record["epochs"]) for record in live.records()}
    pictures = shared_files(live, "pictures")
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
    assert kinds_of(live) == ["maps", "pictures", "teacher"]
    assert pictures
    assert pictures.items() <= shared_files(live).items()


JOINS_AFTER_ITS_OWN = """
import os, sys
import ray
from ctkd_search.search.cluster import Cluster

Cluster(None).leave()
assert "RAY_AUTH_MODE" not in os.environ
joined = Cluster(sys.argv[1])

@ray.remote(num_returns="streaming")
def count():
    for number in range(3):
        yield number

stream = count.remote()
assert ray.wait([stream], timeout=60)[0], "nothing arrives"
print([ray.get(reference) for reference in stream])
joined.leave()
"""


def test_a_process_joins_it_that_has_had_a_ray_of_its_own(tmp_path, cluster):
    process = Process([cluster.address], code=JOINS_AFTER_ITS_OWN, directory=tmp_path, stdout=PIPE, stderr=STDOUT)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert said.splitlines()[-1] == "[0, 1, 2]"


def test_an_address_where_nobody_listens_is_reported(tmp_path):
    live = Live(tmp_path, "--address", "127.0.0.1:9")
    assert live.run_alone() == 2
    assert "cannot join the Ray cluster at 127.0.0.1:9" in live.said()
    assert "Traceback" not in live.said()
