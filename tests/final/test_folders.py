"""The directories of final trainings: resumed ones and new ones."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
from support.owners import elsewhere, impatient

from ctkd_search import data
from ctkd_search.config import DatasetConfig, MethodConfig, TrialConfig
from ctkd_search.errors import UserError
from ctkd_search.final.folders import earlier_training, new_folder
from ctkd_search.final.plan import FinalPlan
from ctkd_search.records.finals import final_folders
from ctkd_search.records.store import SearchFolder, new_record

METHOD = MethodConfig(
    "ctkd", {"step_loss": "kl", "temperature": 6.0, "alpha": 0.5, "beta": 30.0, "attention_layers": (2, 3)}
)
PLAN = FinalPlan("x", TrialConfig(DatasetConfig("digits"), 2, "wrn-10-1", "resnet8", METHOD), 2, baselines=("kd",))


@pytest.fixture
def begun(tmp_path):
    splits = data.load_train(PLAN.config.dataset)

    def begin(number, plan=PLAN, finished=False):
        record = new_record(f"x/final-{number}", plan.content(), splits, ["ctkd"])
        record.finished = finished
        folder = SearchFolder(tmp_path, f"final-{number}")
        folder.write(record)
        return folder

    return begin


def test_final_trainings_are_numbered_after_the_last(tmp_path):
    assert [new_folder(tmp_path).name for _ in range(3)] == ["final-1", "final-2", "final-3"]
    (tmp_path / "final-10").mkdir()
    (tmp_path / "final-x").mkdir()
    assert new_folder(tmp_path).name == "final-11"
    assert [folder.name for folder in final_folders(tmp_path)] == [f"final-{n}" for n in (1, 2, 3, 10, 11)]


def test_resume_takes_the_newest_unfinished_final_training(tmp_path, begun):
    for number, finished in ((1, False), (2, True), (9, False), (10, False), (11, True)):
        begun(number, finished=finished)
    (tmp_path / "final-12").mkdir()  # of an earlier version, without a record
    assert earlier_training(tmp_path, PLAN, True, print).name == "final-10"


def test_resume_refuses_a_changed_plan_with_the_differences(tmp_path, begun):
    begun(1)
    config = dataclasses.replace(PLAN.config, epochs=3, train=dataclasses.replace(PLAN.config.train, lr=0.05))
    changed = FinalPlan("x", config, 5, new_streams=True, baselines=("kd", "at"))
    with pytest.raises(UserError) as caught:
        earlier_training(tmp_path, changed, True, print)
    assert str(caught.value).splitlines() == [
        f"the final training in {tmp_path / 'final-1'} began with another plan; leave --resume out to begin a new one:",
        "  baselines: ['kd'] before, ['kd', 'at'] now",
        "  config.epochs: 2 before, 3 now",
        "  config.train.lr: 0.1 before, 0.05 now",
        "  new_streams: False before, True now",
        "  seeds: 2 before, 5 now",
    ]


@pytest.mark.parametrize("finished", [True, None])
def test_resume_without_an_unfinished_final_training_is_refused(tmp_path, begun, finished):
    if finished:
        begun(1, finished=True)
    with pytest.raises(UserError, match="there is no unfinished final training in "):
        earlier_training(tmp_path, PLAN, True, print)


def test_a_new_final_training_names_an_unfinished_one_with_the_same_plan(tmp_path, begun):
    said = []
    begun(1, dataclasses.replace(PLAN, seeds=3))
    begun(2, finished=True)
    assert earlier_training(tmp_path, PLAN, False, said.append) is None
    assert said == []
    begun(3)
    assert earlier_training(tmp_path, PLAN, False, said.append) is None
    assert said == [
        f"the final training in {tmp_path / 'final-3'} has the same plan and has not finished; go on "
        "with it by adding --resume"
    ]


def test_a_new_final_training_begins_beside_one_whose_record_is_damaged_and_resume_names_it(tmp_path, begun):
    (begun(1).path / "search.json").write_text("{")
    begun(2)
    (begun(3).path / "search.json").write_text("{")
    said = []
    assert earlier_training(tmp_path, PLAN, False, said.append) is None
    assert said[0].startswith("the newest final training is left alone: ")
    assert str(tmp_path / "final-3") in said[0]
    assert said[1].startswith(f"the final training in {tmp_path / 'final-2'} has the same plan and has not finished")
    with pytest.raises(UserError, match="final-3"):
        earlier_training(tmp_path, PLAN, True, print)
    shutil.rmtree(tmp_path / "final-3")
    assert earlier_training(tmp_path, PLAN, True, print).name == "final-2"


def test_a_final_training_whose_process_died_elsewhere_has_not_finished_and_is_not_run(tmp_path, begun, monkeypatch):
    impatient(monkeypatch)
    said = []
    begun(1)
    elsewhere(tmp_path / "final-1", name="owner")
    assert earlier_training(tmp_path, PLAN, False, said.append) is None
    assert "waiting up to" in said[0]
    assert said[1].endswith("has the same plan and has not finished; go on with it by adding --resume")


def test_of_files_of_baselines_what_changed_in_them_is_told_and_for_others_the_list(tmp_path, begun):
    tuned = dataclasses.replace(PLAN.config, epochs=2, train=dataclasses.replace(PLAN.config.train, lr=0.05))
    plan = dataclasses.replace(PLAN, baselines=("kd", "mine"), files={"mine": tuned})
    begun(1, plan)
    changed = dataclasses.replace(tuned, train=dataclasses.replace(tuned.train, lr=0.2))
    for other, line in (
        (PLAN, "baselines: ['kd', 'mine'] before, ['kd'] now"),
        (dataclasses.replace(plan, files={"mine": changed}), "files.mine.train.lr: 0.05 before, 0.2 now"),
    ):
        with pytest.raises(UserError) as caught:
            earlier_training(tmp_path, other, True, print)
        assert str(caught.value).splitlines()[1:] == [f"  {line}"]
