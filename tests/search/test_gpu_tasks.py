"""Tasks on GPUs, of a Ray that pretends to have them: what they compute is replaced by what needs none."""

import json
import os
from dataclasses import dataclass

import pytest
from support import here

from ctkd_search.resources import Node, Share
from ctkd_search.search import packing
from ctkd_search.space.sections import Resources

pytestmark = pytest.mark.slow
GPUS = 2
GIGABYTE = 10**9


@pytest.fixture(scope="module", autouse=True)
def _pretended():
    here.ray_with_gpus(GPUS)
    yield
    here.stop_ray()


@dataclass
class Ran:
    """A task that has run: its process, and what Ray gave it."""

    pid: int
    gpus: float


@pytest.fixture
def noted(tmp_path):
    """Makes functions that return what they are told to, and write down where; the list of those that have run."""
    path = tmp_path / "ran.jsonl"
    path.touch()

    def returning(result):
        def noting(*arguments):
            import ray

            gpus = ray.get_runtime_context().get_assigned_resources().get("GPU", 0)
            with open(path, "a") as file:
                print(json.dumps({"pid": os.getpid(), "gpus": gpus}), file=file)
            return result

        return noting

    def ran():
        return [Ran(**json.loads(line)) for line in path.read_text().splitlines()]

    return returning, ran


def test_trials_are_packed_by_the_memory_that_a_task_on_a_whole_gpu_measures(tmp_path, noted, monkeypatch):
    returning, ran = noted
    monkeypatch.setattr(packing, "_measure", returning((4 * GIGABYTE, 16 * GIGABYTE)))
    share = packing.pack(
        Share(1.0, 1, 2), [], None, tmp_path, {}, Resources(trials_per_gpu="auto"), [Node(2, 8)], trials=None
    )
    assert share == Share(1 / 3, 1, 6)
    assert [task.gpus for task in ran()] == [1.0]
