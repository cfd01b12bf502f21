"""Paused trials: which of them go on, and when none of them can any more."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from support.factories import a_space
from support.scheduled import CONTINUE, STOP, a_trial, decision, grouped_asha

from ctkd_search.records.store import DIVERGED, FAILED, FINISHED, PAUSED, STOPPED
from ctkd_search.search.scheduler import GroupedAsha


@pytest.mark.parametrize("status", [DIVERGED, FAILED])
def test_a_trial_that_diverges_or_fails_after_a_rung_counts_there_as_the_worst(status):
    found, known = grouped_asha(budget={"trials": 40})
    assert decision(found, known, 1, 1, 0.9) == CONTINUE
    paused(found, known, (2, 1, 0.6), (3, 1, 0.5))
    assert found.promoted(more=True) is None
    known[1] = a_trial(1, 0.9, 0.9, status=status)
    assert found.promoted(more=True).number == 2
    known[2].status = "running"
    assert found.promoted(more=True) is None
    # It is one of six, of which two go on.
    paused(found, known, (4, 1, 0.4), (5, 1, 0.3))
    assert found.promoted(more=True) is None
    paused(found, known, (6, 1, 0.2))
    assert found.promoted(more=True).number == 3
    # The same when everything is read from the records.
    known[2].status, known[3].status = FINISHED, PAUSED
    assert (
        GroupedAsha(a_space(scheduler={"name": "asha", "signal": "objective", "horizon": 0}), known)
        .promoted(more=True)
        .number
        == 3
    )


def paused(found, known, *trials):
    """Trials that have reached a rung and do not go on: (number, epochs, accuracy)."""
    for number, epochs, accuracy in trials:
        known[number] = a_trial(number, *[accuracy] * epochs, status=PAUSED)
        found.on_trial_result(
            None,
            SimpleNamespace(config={"number": number}),
            {"training_iteration": epochs, "metrics": (("validation_accuracy", accuracy),)},
        )


def test_a_paused_trial_is_promoted_once_its_rung_has_room_the_best_of_the_highest_rung_first():
    found, known = grouped_asha(budget={"trials": 40})
    assert decision(found, known, 1, 1, 0.9) == CONTINUE
    paused(found, known, (2, 1, 0.7), (3, 1, 0.8))
    assert found.promoted(more=True) is None
    paused(found, known, (4, 1, 0.1), (5, 1, 0.2))
    assert found.promoted(more=True) is None  # five have come, of which one goes on
    paused(found, known, (6, 1, 0.3))
    assert found.promoted(more=True).number == 3  # the second best of six
    known[3].status = "running"
    assert found.promoted(more=True) is None
    # At the next rung too.
    assert decision(found, known, 3, 3, 0.5) == CONTINUE
    paused(found, known, (7, 3, 0.4), *((number, 3, 0.3) for number in range(8, 12)))
    assert found.promoted(more=True).number == 7
    # It passes the epochs that it reports again, though better ones have come meanwhile.
    assert decision(found, known, 12, 3, 0.99) == decision(found, known, 13, 3, 0.99) == CONTINUE
    known[7].status = "running"
    assert decision(found, known, 7, 3, 0.4) == CONTINUE


def test_a_trial_is_paused_only_as_long_as_it_may_still_be_promoted():
    found, known = grouped_asha(budget={"trials": 6})
    paused(found, known, (1, 1, 0.9), (2, 1, 0.5), (3, 1, 0.6))
    # Of six trials two go on; as long as these two may fail, any other one may be promoted.
    assert [found.pauses(known[number]) for number in (1, 2, 3)] == [True, True, True]
    known[1], known[3] = a_trial(1, *[0.9] * 9, status=FINISHED), a_trial(3, *[0.6] * 3, status=STOPPED)
    assert [record.number for record in found.hopeless()] == [2]
    assert not found.pauses(known[2])
    # A trial that comes may be the second best, unless it is worse than both.
    paused(found, known, (4, 1, 0.7), (6, 1, 0.4))
    assert [record.number for record in found.hopeless()] == [2, 6]
    # One that failed before the rung will not make room: of five trials one goes on.
    known[5] = a_trial(5, status=FAILED)
    assert [record.number for record in found.hopeless()] == [2, 4, 6]
    # The best one has failed in the end: the next best takes its place.
    known[1].status = FAILED
    assert [record.number for record in found.hopeless()] == [2, 6]


def test_trials_that_are_not_to_be_promoted_are_stopped_at_once():
    found, known = grouped_asha(scheduler={"name": "asha", "promote": False}, budget={"trials": 40})
    paused(found, known, (1, 1, 0.9), (2, 1, 0.5))
    assert not found.pauses(known[2])
    never, known = grouped_asha(scheduler="none")
    known[1] = a_trial(1, 0.5)
    assert not never.pauses(known[1])


def test_after_a_constant_number_of_epochs_all_wait_and_the_best_of_all_are_trained_to_their_end():
    scheduler = {"name": "constant", "best": 2}
    found, known = grouped_asha(scheduler=scheduler, budget={"trials": 4, "grace_period": 2})
    for number, accuracy in ((1, 0.9), (2, 0.5), (3, 0.6), (4, 0.7)):
        assert decision(found, known, number, 1, accuracy) == CONTINUE
        assert decision(found, known, number, 2, accuracy) == STOP
    for number, accuracy in ((1, 0.9), (2, 0.5), (3, 0.6), (4, 0.7)):
        known[number] = a_trial(number, accuracy, accuracy, status=PAUSED)
    assert list(found.hopeless()) == []
    assert found.promoted(more=True) is None
    known[5] = a_trial(5, 0.1, status="running")  # one more is on its way to the rung
    assert found.promoted(more=False) is None
    del known[5]
    first = found.promoted(more=False)
    first.status = "running"
    second = found.promoted(more=False)
    second.status = "running"
    assert (first.number, second.number) == (1, 4)
    assert found.promoted(more=False) is None
    assert [decision(found, known, 4, epoch, 0.7) for epoch in range(1, 9)] == [CONTINUE] * 8
    first.status = FINISHED
    assert list(found.hopeless()) == []
    second.status = FINISHED
    assert [record.number for record in found.hopeless()] == [2, 3]


@pytest.mark.parametrize("status", [DIVERGED, FAILED])
def test_after_a_constant_number_of_epochs_the_next_best_takes_the_place_of_one_that_diverges_or_fails(status):
    found, known = grouped_asha(scheduler={"name": "constant", "best": 1}, budget={"trials": 3, "grace_period": 2})
    paused(found, known, (1, 2, 0.9), (2, 2, 0.5), (3, 2, 0.7))
    # Twice as many as go on are kept.
    assert [record.number for record in found.hopeless()] == [2]
    known[2].status = STOPPED
    for number in (1, 3):
        promoted = found.promoted(more=False)
        assert promoted.number == number
        assert found.promoted(more=False) is promoted
        promoted.status = "running"
        assert found.promoted(more=False) is None
        assert list(found.hopeless()) == []
        promoted.status = status
    assert found.promoted(more=False) is None


def test_after_a_constant_number_of_epochs_no_more_than_the_best_go_on_where_scores_are_equal():
    found, known = grouped_asha(scheduler={"name": "constant", "best": 2}, budget={"trials": 4, "grace_period": 2})
    for number in (3, 1, 4, 2):
        known[number] = a_trial(number, 0.5, 0.5, status=PAUSED)
        assert decision(found, known, number, 2, 0.5) == STOP
    promoted = []
    while (record := found.promoted(more=False)) is not None:
        record.status = "running"
        promoted.append(record.number)
    assert promoted == [1, 2]
    known[1].status = known[2].status = FINISHED
    assert sorted(record.number for record in found.hopeless()) == [3, 4]


def test_of_trials_with_the_same_config_and_score_the_first_alone_goes_on_and_counts():
    found, known = grouped_asha(budget={"trials": 40})
    assert decision(found, known, 1, 1, 0.9, alpha=1.0) == CONTINUE
    assert decision(found, known, 2, 1, 0.9, alpha=2.0) == CONTINUE
    for number in range(3, 9):
        assert decision(found, known, number, 1, 0.9, alpha=1.0) == STOP
        known[number] = a_trial(number, 0.9, alpha=1.0, status=PAUSED)
    assert not found.pauses(known[3])
    assert [record.number for record in found.hopeless()] == list(range(3, 9))
    assert found.promoted(more=False) is None
    # Where it has learned otherwise, as on another machine, it is a trial as any other.
    assert decision(found, known, 9, 1, 0.91, alpha=1.0) == CONTINUE
    known[1] = a_trial(1, *[0.9] * 9, alpha=1.0)
    again, _ = grouped_asha(*known.values(), budget={"trials": 40})
    assert [record.number for record in again.hopeless()] == list(range(3, 9))


def test_trials_are_compared_by_the_signal_that_the_space_names():
    def order(**scheduler):
        """The trials in the order in which the scheduler would promote them."""
        space = a_space(scheduler={"name": "asha", **scheduler}, budget={"trials": 40, "grace_period": 1})
        epoch = {"epoch": 1}
        measured = {
            1: {"validation_accuracy": 0.9, "validation_loss": 0.5},
            2: {"validation_accuracy": 0.8, "validation_loss": 0.4},
        }
        measured[1] |= {"averaged_validation_accuracy": 0.6, "averaged_validation_loss": 0.2}
        measured[2] |= {"averaged_validation_accuracy": 0.7, "averaged_validation_loss": 0.3}
        known = {n: a_trial(n, status=PAUSED, epochs=[{**epoch, **values}]) for n, values in measured.items()}
        return GroupedAsha(space, known).promoted(more=True).number

    assert order(signal="objective", horizon=0) == 1
    assert order(signal="loss", horizon=0) == 2
    assert order(signal="objective", horizon=0.5) == 2
    assert order(signal="loss", horizon=2) == order(signal="loss") == 1
