"""The searcher between Ray and Optuna."""

from __future__ import annotations

from ray.tune.search import Searcher
from support.factories import a_space
from support.simulation import Simulation, study_in

from ctkd_search.records.store import (
    BASELINE,
    FAILED,
    FINISHED,
    RUNNING,
    SEARCHED,
    STOPPED,
    WAITING,
    SearchFolder,
)
from ctkd_search.records.trial_configs import config_of
from ctkd_search.search.scheduler import GroupedAsha
from ctkd_search.search.searcher import OptunaSearcher


def test_a_searcher_hands_out_what_waits_first_and_asks_for_no_more_than_it_should(tmp_path):
    space = a_space(budget={"trials": 3}, sampler="random", baselines=["kd"])
    simulation = Simulation(space, tmp_path, lambda record: None, 2, durable=False)
    searcher, records, handed = simulation.searcher, simulation.records, {}

    def asked(name):
        answer = searcher.suggest(name)
        if not isinstance(answer, dict):
            return answer
        handed[name] = records[answer["number"]]
        assert answer["config"] == config_of(space, handed[name])
        handed[name].status = RUNNING
        return answer["number"]

    def ended(name, status):
        handed[name].status = status
        searcher.on_trial_complete(name, error=status == WAITING)

    assert [asked("a"), asked("b"), asked("c")] == [1, 2, None]  # two at once
    ended("a", FINISHED)
    assert asked("d") == 3
    ended("d", WAITING)  # it failed, and is to be tried again
    ended("b", FINISHED)
    assert [asked("e"), asked("f")] == [3, 4]
    ended("e", FINISHED)
    assert asked("g") == 5
    ended("f", STOPPED)
    assert asked("h") is None  # there are enough, but this one may fail
    ended("g", WAITING)
    assert asked("i") == 5
    ended("i", FAILED)
    assert asked("j") == Searcher.FINISHED
    assert [record.kind for record in records.values()] == [BASELINE, BASELINE, SEARCHED, SEARCHED, SEARCHED]


def test_a_searcher_that_can_note_nothing_any_more_stops_the_search(tmp_path):
    (tmp_path / "file").touch()
    space, told_why, records = a_space(sampler="random"), [], {}
    study = study_in(None, space)
    scheduler = GroupedAsha(space, records)
    folder = SearchFolder(tmp_path / "file", "x")
    searcher = OptunaSearcher(space, folder, study, records, 1, 5, told_why.append, scheduler)
    assert searcher.suggest("a") is None
    assert "cannot write to the directory" in str(told_why[0])
    assert records == {}
    # Once it can be noted, the trial that was drawn for it is taken.
    folder = SearchFolder(tmp_path, "x")
    searcher = OptunaSearcher(space, folder, study, records, 1, 5, told_why.append, scheduler)
    assert searcher.suggest("b")["number"] == 1
    assert (records[1].optuna, len(study.study.trials), len(told_why)) == (0, 1, 1)
