"""ASHA after an interruption, and the time budget."""

import pickle
from types import SimpleNamespace

from ctkd_search.results.store import TrialRecord
from ctkd_search.search.scheduler import Deadline, Ladder
from ctkd_search.space import Budget

BUDGET = Budget(trials=9, epochs=9, grace_period=1, reduction_factor=3)


def record(name, *accuracies):
    epochs = [{"epoch": number, "validation_accuracy": value} for number, value in enumerate(accuracies, start=1)]
    return TrialRecord(name, 1, {}, {}, epochs=epochs)


def decision(ladder, epoch, accuracy):
    """What becomes of a new trial that reports this."""
    trial = SimpleNamespace(trial_id=f"new {epoch} {accuracy}")
    ladder.on_trial_add(None, trial)
    return ladder.on_trial_result(None, trial, {"training_iteration": epoch, "validation_accuracy": accuracy})


def test_a_new_ladder_lets_the_first_trial_pass():
    assert decision(Ladder(BUDGET), 1, 0.1) == "CONTINUE"


def test_a_ladder_knows_the_trials_of_before():
    ladder = Ladder(BUDGET, [record("a", 0.5, 0.6, 0.9), record("b", 0.6), record("c", 0.7, 0.7, 0.8)])
    # At the first rung 0.5, 0.6 and 0.7 were seen, of which the best third goes on; at the second 0.9 and 0.8.
    assert decision(ladder, 1, 0.62) == "STOP"
    assert decision(ladder, 1, 0.7) == "CONTINUE"
    assert decision(ladder, 3, 0.81) == "STOP"
    assert decision(ladder, 3, 0.95) == "CONTINUE"


def test_what_was_stopped_stays_stopped():
    stopped = record("b", 0.1, 0.2)
    stopped.status = "stopped early"
    ladder = Ladder(BUDGET, [record("a", 0.5), stopped])
    trial = SimpleNamespace(trial_id="b")
    ladder.on_trial_add(None, trial)
    reports = [{"training_iteration": epoch, "validation_accuracy": 0.9} for epoch in (1, 2)]
    assert [ladder.on_trial_result(None, trial, report) for report in reports] == ["CONTINUE", "STOP"]


def test_rungs_are_those_that_the_budget_announces():
    assert sorted(epoch for epoch, _ in Ladder(BUDGET)._brackets[0]._rungs)[:-1] == BUDGET.rungs()


def test_a_ladder_comes_back_from_a_pickle_as_the_current_one():
    old = pickle.dumps(Ladder(BUDGET))
    current = Ladder(BUDGET, [record("a", 0.5)])
    assert pickle.loads(old) is current


def test_a_deadline_ends_the_search_and_no_trial_alone():
    assert Deadline(None).left() is None
    assert not Deadline(None).stop_all()
    assert 99 < Deadline(100).left() <= 100
    assert not Deadline(100).stop_all()
    assert Deadline(0).stop_all()
    assert Deadline(0)("trial", {}) is False


def test_a_deadline_comes_back_from_a_pickle_as_the_current_one():
    old = pickle.dumps(Deadline(1))
    current = Deadline(100)
    assert pickle.loads(old) is current
