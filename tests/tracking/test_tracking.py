"""MLflow kept in step with the records, on a real store: nothing twice, nothing left open, nothing lost."""

import dataclasses
import time

import pytest
from support.factories import a_search_record, a_trial

from ctkd_search.records.store import FINISHED, INTERRUPTED, RUNNING, STOPPED, WAITING
from ctkd_search.tracking.store import Mlflow
from ctkd_search.tracking.tracker import Parent, Tracker

SEARCH = a_search_record(id="id-1")
VALUES = {"pair": "a/b", "lr": 0.1, "attention_layers": [1, 2]}


def epoch(number):
    return {"epoch": number, "loss": 1 / number, "validation_accuracy": number / 10, "at": 1_700_000_000_000 + number}


def trial(number, epochs=0, status=RUNNING, **more):
    done = [epoch(n) for n in range(1, epochs + 1)]
    return a_trial(number, status=status, values=VALUES, epochs=done, optuna=number, **more)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("mlflow")
    return f"sqlite:///{root}/mlflow.db", root


@pytest.fixture
def mlflow(store, request):
    uri, root = store
    return Mlflow(uri, request.node.name, root / "artifacts")


def tracked(mlflow, records, said=None):
    said = [] if said is None else said
    tracker = Tracker(mlflow, lambda record: f"trial {record.number}", lambda record: "ctkd", said.append)
    tracker.begin(dataclasses.replace(SEARCH), {"seed": 0}, records)
    return tracker


def runs(mlflow):
    found = mlflow.client.search_runs([mlflow.experiment_id])
    return {int(run.data.tags.get("ctkd.trial", 0)): run for run in found if "ctkd.orphan" not in run.data.tags}


def history(mlflow, run, name="loss"):
    return [(point.step, point.value) for point in mlflow.client.get_metric_history(run.info.run_id, name)]


def test_a_trial_is_one_run_with_its_values_and_every_epoch(mlflow):
    tracker = tracked(mlflow, [])
    one = trial(1)
    tracker.trial_started(one)
    for number in (1, 2, 3):
        one.epochs.append(epoch(number))
        tracker.trial_reported(one)
    one.status, one.reason = STOPPED, "after epoch 3"
    tracker.trial_ended(one)
    assert tracker.flush(30)
    tracker.close()
    run = runs(mlflow)[1]
    assert run.data.params == {
        "pair": "a/b",
        "teacher": "a",
        "student": "b",
        "lr": "0.1",
        "attention_layers": "1,2",
    }
    assert history(mlflow, run) == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert "at" not in run.data.metrics
    assert (run.info.status, run.data.tags["ctkd.status"]) == ("FINISHED", STOPPED)
    assert run.data.tags["mlflow.parentRunId"] == tracker.parent_id
    assert tracker.run_id(1) == run.info.run_id


def test_what_was_delivered_before_a_crash_is_not_delivered_twice(mlflow):
    before = tracked(mlflow, [])
    one, two = trial(1, 2), trial(2, 3, FINISHED)
    before.trial_started(one)
    before.trial_ended(two)
    assert before.flush(30)
    before.close()
    # The record of the first went on after its last delivery, and the process died.
    one.epochs.append(epoch(3))
    after = tracked(mlflow, [one, two, trial(3, status=WAITING)])
    assert after.parent_id == before.parent_id
    one.status = FINISHED
    after.trial_ended(one)
    assert after.flush(30)
    after.close()
    found = runs(mlflow)
    assert sorted(found) == [0, 1, 2]
    for run in (found[1], found[2]):
        assert history(mlflow, run) == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
        assert run.info.status == "FINISHED"


def test_a_run_of_no_known_trial_and_a_second_run_of_one_are_closed_and_tagged_and_the_users_own_is_not(mlflow):
    before = tracked(mlflow, [])
    one = trial(1, 1)
    before.trial_started(one)
    assert before.flush(30)
    before.close()
    lost = [
        mlflow.client.create_run(
            mlflow.experiment_id, tags={"mlflow.parentRunId": before.parent_id, "ctkd.trial": number}
        ).info.run_id
        for number in ("1", "7")
    ]
    own = mlflow.client.create_run(mlflow.experiment_id, tags={"mlflow.parentRunId": before.parent_id}).info.run_id
    after = tracked(mlflow, [one])
    assert after.flush(30)
    after.close()
    found = {run.info.run_id: run for run in mlflow.client.search_runs([mlflow.experiment_id])}
    orphans = {run_id for run_id, run in found.items() if run.data.tags.get("ctkd.orphan") == "true"}
    assert len(orphans) == 2
    assert lost[1] in orphans
    assert {found[run_id].info.status for run_id in orphans} == {"KILLED"}
    assert after.run_id(1) not in orphans
    assert found[own].info.status == "RUNNING"
    assert history(mlflow, found[after.run_id(1)]) == [(1, 1.0)]


def test_an_interrupted_trial_is_killed_and_runs_again_when_it_goes_on(mlflow):
    tracker = tracked(mlflow, [])
    one = trial(1, 1, INTERRUPTED, reason="the time budget ended")
    tracker.trial_ended(one)
    assert tracker.flush(30)
    assert runs(mlflow)[1].info.status == "KILLED"
    one.status, one.reason = RUNNING, ""
    tracker.trial_started(one)
    assert tracker.flush(30)
    tracker.close()
    assert runs(mlflow)[1].info.status == "RUNNING"


@pytest.mark.parametrize("reason", ["the disk is full", "to be tried again: its worker process died"])
def test_a_trial_that_waits_when_the_search_ends_is_not_running(mlflow, reason):
    tracker = tracked(mlflow, [])
    one = trial(1, 1)
    tracker.trial_started(one)
    assert tracker.flush(30)
    one.status, one.reason = WAITING, reason
    tracker.trial_ended(one)
    assert tracker.flush(30)
    tracker.close()
    run = runs(mlflow)[1]
    assert (run.info.status, run.data.tags["ctkd.status"]) == ("SCHEDULED", WAITING)
    assert run.data.tags["ctkd.reason"] == reason


def test_trials_that_a_search_goes_on_with_are_not_running_before_their_turn(mlflow):
    before = tracked(mlflow, [])
    trials = [trial(1, 1, INTERRUPTED), trial(2, 1, INTERRUPTED)]
    for one in trials:
        before.trial_ended(one)
    assert before.flush(30)
    before.close()
    for one in trials:
        one.status = WAITING
    after = tracked(mlflow, trials)
    trials[0].status = RUNNING
    after.trial_started(trials[0])
    assert after.flush(30)
    after.close()
    found = runs(mlflow)
    assert [found[number].info.status for number in (1, 2)] == ["RUNNING", "SCHEDULED"]


def test_the_reason_why_the_parent_ended_is_forgotten_when_the_search_goes_on(mlflow):
    before = tracked(mlflow, [])
    before.finish("KILLED", {}, {"ctkd.reason": "interrupted"})
    before.close()
    after = Tracker(mlflow, str, str, print)
    after.begin(dataclasses.replace(SEARCH, run_id=before.parent_id), {}, [])
    after.close()
    run = runs(mlflow)[0]
    assert (run.info.status, run.data.tags.get("ctkd.reason")) == ("RUNNING", None)


def test_baselines_and_confirmations_are_tagged_as_such(mlflow):
    tracker = tracked(mlflow, [])
    tracker.trial_started(trial(1, kind="baseline", baseline="kd"))
    tracker.trial_started(trial(2, repeats=5))
    assert tracker.flush(30)
    tracker.close()
    found = runs(mlflow)
    assert {key: found[1].data.tags[key] for key in ("ctkd.kind", "ctkd.baseline")} == {
        "ctkd.kind": "baseline",
        "ctkd.baseline": "kd",
    }
    assert (found[2].data.tags["ctkd.kind"], found[2].data.tags["ctkd.confirms"]) == ("confirmation", "5")


def test_a_run_that_was_deleted_is_given_up_once_and_the_others_go_on(mlflow):
    said = []
    tracker = tracked(mlflow, [], said)
    one, two = trial(1, 1), trial(2, 1)
    tracker.trial_started(one)
    assert tracker.flush(30)
    mlflow.client.delete_run(tracker.run_id(1))
    for number in (2, 3):
        for record in (one, two):
            record.epochs.append(epoch(number))
            tracker.trial_reported(record)
        assert tracker.flush(30)
    tracker.close()
    assert [line for line in said if "MLflow refuses trial 1 (" in line] == said
    assert len(said) == 1
    assert history(mlflow, runs(mlflow)[2]) == [(1, 1.0), (2, 0.5), (3, 1 / 3)]


def test_the_parent_follows_the_best_so_far_and_repeats_nothing(mlflow):
    before = tracked(mlflow, [])
    one, two, three = trial(1, 2, FINISHED), trial(2, 1, STOPPED), trial(3, 4, FINISHED)
    for number, record in enumerate((one, two, three)):
        record.epochs = [{**point, "at": point["at"] + 100 * number} for point in record.epochs]
    for record in (one, two):
        before.trial_ended(record)
    assert before.flush(30)
    before.close()
    after = tracked(mlflow, [one, two])
    after.trial_ended(three)
    assert after.flush(30)
    after.close()
    parent = mlflow.client.get_run(after.parent_id)
    assert history(mlflow, parent, "best_validation_accuracy") == [(1, 0.2), (2, 0.4)]
    assert history(mlflow, parent, "epochs_trained") == [(1, 2), (2, 7)]


def test_what_the_parent_was_not_told_before_a_kill_it_is_told_when_nothing_is_left_to_do(mlflow, monkeypatch):
    with monkeypatch.context() as killed:
        killed.setattr(Tracker, "_deliver_standings", lambda tracker, objective: None)
        before, one = tracked(mlflow, []), trial(1, 2, FINISHED)
        before.trial_ended(one)
        assert before.flush(30)
        before.close()
    assert not history(mlflow, mlflow.client.get_run(before.parent_id), "trials_finished")
    after = tracked(mlflow, [one])
    assert after.flush(30)
    after.close()
    assert history(mlflow, mlflow.client.get_run(after.parent_id), "trials_finished") == [(1, 1)]


def test_the_parent_is_told_of_many_finished_trials_in_one_request(mlflow, monkeypatch):
    tracker, told = tracked(mlflow, []), []
    log = mlflow.log

    def noted(run_id, **content):
        if run_id == tracker.parent_id:
            told.append([point.step for point in content["points"] if point.name == "trials_finished"])
        log(run_id, **content)

    monkeypatch.setattr(mlflow, "log", noted)
    for number in (1, 2, 3):
        tracker.trial_ended(trial(number, 2, FINISHED))
    assert tracker.flush(30)
    tracker.close()
    assert [step for steps in told for step in steps] == [1, 2, 3]
    assert len(told) == 1


def test_a_parent_run_that_was_deleted_is_given_up_once_and_the_trials_go_on(mlflow):
    said = []
    tracker = tracked(mlflow, [], said)
    mlflow.client.delete_run(tracker.parent_id)
    for number in (1, 2):
        tracker.trial_ended(trial(number, 2, FINISHED))
        assert tracker.flush(30)
    tracker.close()
    assert len(said) == 1
    assert said[0].startswith("MLflow refuses the search's own run (")
    assert {number: run.info.status for number, run in runs(mlflow).items()} == {1: "FINISHED", 2: "FINISHED"}


def test_the_machine_is_watched_until_the_search_ends(mlflow, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    tracker = tracked(mlflow, [])
    tracker.watch_machine()
    end = time.monotonic() + 30
    while "system/cpu_utilization_percentage" not in mlflow.client.get_run(tracker.parent_id).data.metrics:
        assert time.monotonic() < end
        time.sleep(0.1)
    tracker.close()
    measured = len(mlflow.client.get_metric_history(tracker.parent_id, "system/cpu_utilization_percentage"))
    time.sleep(1)
    assert len(mlflow.client.get_metric_history(tracker.parent_id, "system/cpu_utilization_percentage")) == measured


def test_what_a_test_came_to_is_delivered_once_and_after_a_crash_too(mlflow):
    one, two = trial(1, 2, FINISHED), trial(2, 2, FINISHED)
    tracker = tracked(mlflow, [one, two])
    assert tracker.flush(30)
    one.test = {"accuracy": 0.75, "loss": 0.5, "images": 100}
    tracker.trial_tested(one)
    tracker.trial_tested(one)
    assert tracker.flush(30)
    tracker.close()
    two.test = {"accuracy": 0.25, "loss": 1.5, "images": 100}
    tracker = tracked(mlflow, [one, two])
    assert tracker.flush(30)
    tracker.close()
    found = runs(mlflow)
    assert history(mlflow, found[1], "test_accuracy") == [(2, 0.75)]
    assert history(mlflow, found[2], "test_accuracy") == [(2, 0.25)]
    assert history(mlflow, found[2], "test_loss") == [(2, 1.5)]
    assert history(mlflow, found[1]) == history(mlflow, found[2]) == [(1, 1.0), (2, 0.5)]


def test_without_patience_everything_is_delivered_where_mlflow_answers(mlflow, monkeypatch):
    tracker = tracked(mlflow, [])
    tracker.trial_ended(trial(1, 3, FINISHED))
    assert tracker.flush(0.0)
    assert {run.info.status for number, run in runs(mlflow).items() if number} == {"FINISHED"}
    monkeypatch.setattr(mlflow, "log", None)  # as of a server that is away
    tracker.trial_ended(trial(2, 3, FINISHED))
    assert not tracker.flush(0.0)
    tracker.close()


def test_a_parent_run_may_be_something_else_than_a_search(mlflow):
    tracker = Tracker(mlflow, str, str, print)
    parent = Parent("s: final training", {"ctkd.kind": "train", "ctkd.final": "final-1"}, "final.yaml")
    run_id = tracker.begin(dataclasses.replace(SEARCH, space={"seeds": 2}), {"seeds": 2}, [], parent)
    tracker.close()
    run = mlflow.client.get_run(run_id)
    assert run.info.run_name == "s: final training"
    assert {"ctkd.kind": "train", "ctkd.final": "final-1", "ctkd.search_id": "id-1"}.items() <= run.data.tags.items()
    assert [artifact.path for artifact in mlflow.client.list_artifacts(run_id)] == ["final.yaml"]


def test_a_run_that_was_begun_just_before_a_crash_is_described_when_the_search_goes_on(mlflow):
    search = dataclasses.replace(SEARCH, id="id-2")
    create = mlflow.client.create_run
    parent = create(mlflow.experiment_id, tags={"ctkd.search_id": "id-2"}).info.run_id
    create(mlflow.experiment_id, tags={"mlflow.parentRunId": parent, "ctkd.trial": "1"})
    tracker = Tracker(mlflow, str, str, print)
    assert tracker.begin(search, {"seed": 0}, [trial(1, 0, status=WAITING)]) == parent
    assert tracker.flush(30)
    tracker.close()
    found = runs(mlflow)
    assert found[0].data.params == {"seed": "0"}
    assert found[1].data.params == {
        "pair": "a/b",
        "lr": "0.1",
        "attention_layers": "1,2",
        "teacher": "a",
        "student": "b",
    }
