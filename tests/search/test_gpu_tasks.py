"""Tasks on GPUs, of a Ray that pretends to have them: what they compute is replaced by what needs none."""

import dataclasses
import json
import os
import time
from dataclasses import dataclass

import pytest
import torch
from support import here
from support.factories import a_space
from support.methods import with_values
from support.tiny import CTKD, TINY, changed, tiny_splits

from ctkd_search.config import ExpertConfig
from ctkd_search.distill.asked import augmented_teacher
from ctkd_search.distill.recording import Preparation
from ctkd_search.errors import WorkFailed
from ctkd_search.leases.lease import wait_for
from ctkd_search.resources import Node, Share
from ctkd_search.search import costs, packing, precision, prepare
from ctkd_search.search.session import Session
from ctkd_search.space.sections import Resources

pytestmark = pytest.mark.slow
GPUS = 2
GIGABYTE = 10**9
# Two teachers to train, whose mean is judged.
ENSEMBLE = changed(
    dataclasses.replace(TINY, method=with_values(CTKD, expert_kd=0.5)), "teachers.expert", ExpertConfig(ensemble=2)
)


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

    @property
    def ended(self):
        return not os.path.exists(f"/proc/{self.pid}")


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

        def streaming(*arguments):
            yield noting()

        return streaming if isinstance(result, Preparation) else noting

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


def measure_costs(share):
    space = a_space(search={"pair": "wrn-10-1/resnet8", "lr": {"float": [0.01, 0.1]}})
    assert costs.measure_costs(space, tiny_splits(), share) == {"resnet8": {"params": 1}}


def prepare_teachers(share, teachers):
    """Trains the ensemble, and judges it."""
    splits, need, said = tiny_splits(), prepare.need_of(ENSEMBLE), []
    prepare.prepare_teachers(
        *([need], {augmented_teacher(ENSEMBLE): "wrn-10-1"}, "x", splits, splits, teachers, share, said.append),
        check_time=lambda: None,
    )
    assert said[-1] == "the ensemble of 2 experts: 50.00 % validation accuracy"


def test_an_ensemble_that_cannot_be_judged_is_told_in_a_line(tmp_path, noted, monkeypatch):
    returning, _ = noted

    def judged(*arguments):
        raise MemoryError("no room for two experts")

    monkeypatch.setattr(prepare, "_train", returning(Preparation(2, 2, done=True)))
    monkeypatch.setattr(prepare, "_ensemble_accuracy", judged)
    line = "^judging the ensemble of 2 experts failed: no room for two experts$"
    with pytest.raises(WorkFailed, match=line):
        prepare_teachers(Share(0, 1, 2, cores=2), tmp_path)


@pytest.mark.parametrize("share", [Share(1 / 4, 1, 8, cores=2), Share(2.0, 1, 1, cores=2)], ids=["packed", "two GPUs"])
def test_a_teacher_has_whole_gpus_however_small_the_part_of_a_trial(tmp_path, noted, monkeypatch, share):
    returning, ran = noted
    monkeypatch.setattr(prepare, "_train", returning(Preparation(2, 2, done=True)))
    monkeypatch.setattr(prepare, "_ensemble_accuracy", returning(0.5))
    prepare_teachers(share, tmp_path)
    assert [task.gpus for task in ran()] == [max(1.0, share.gpus)] * 3


def test_a_process_with_a_gpu_ends_with_its_task_and_one_without_works_for_others(tmp_path, noted, monkeypatch):
    returning, ran = noted
    monkeypatch.setattr(costs, "_measured", returning({"params": 1}))
    monkeypatch.setattr(prepare, "_train", returning(Preparation(2, 2, done=True)))
    monkeypatch.setattr(prepare, "_ensemble_accuracy", returning(0.5))
    for share in (Share(0, 1, 2), Share(1.0, 1, 2)):
        measure_costs(share)
        prepare_teachers(share, tmp_path)
    tasks = ran()
    without, ending = ([task for task in tasks if bool(task.gpus) is on_gpu] for on_gpu in (False, True))
    assert [len(without), len(ending)] == [4, 4]
    # A process that has computed on a GPU cannot change to another one.
    assert len({task.pid for task in ending}) == 4
    assert len({task.pid for task in without}) < 4
    end = time.monotonic() + 30
    while not all(task.ended for task in ending) and time.monotonic() < end:
        time.sleep(0.1)
    assert [task.ended for task in ending] == [True] * 4


@pytest.mark.parametrize(("before", "found", "asked"), [(None, "float32", 1), ("bfloat16", "bfloat16", 0)])
def test_the_gpu_of_a_trial_is_asked_for_its_precision_where_this_machine_has_none_and_the_work_begins(
    tmp_path, noted, monkeypatch, before, found, asked
):
    returning, ran = noted
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(precision, "resolve_precision", returning("float32"))
    here.fresh_store(tmp_path / "mlflow.db")
    with (
        wait_for(tmp_path / "leases", "small", "a test") as lease,
        Session(a_space(), tmp_path, pytest.fail, lease, precision=before) as session,
    ):
        assert session.precision == found
        assert [session.space.train.precision, session.space.teachers.recipe.precision] == [found] * 2
    assert [task.gpus for task in ran()] == [1.0] * asked
