"""The queue of what is to be delivered to MLflow."""

import threading
import time

import pytest
from support.factories import a_trial

from ctkd_search.tracking.deliveries import Deliveries

LONG = 3600.0


@pytest.fixture
def deliveries():
    return Deliveries()


def in_thread(work):
    found = []
    thread = threading.Thread(target=lambda: found.append(work()), daemon=True)
    thread.start()
    return thread, found


def test_a_trial_that_is_noted_again_is_delivered_once_and_as_it_is_then(deliveries):
    deliveries.note(a_trial(1, 0.1))
    later = a_trial(1, 0.2)
    deliveries.note(later)
    assert deliveries.take() is later
    deliveries.close()
    assert deliveries.take() is None


def test_epochs_are_gathered_until_their_time(deliveries):
    deliveries.note(a_trial(1), 0.3)
    began = time.monotonic()
    assert deliveries.take().number == 1
    assert 0.3 <= time.monotonic() - began < 3


def test_further_changes_put_nothing_off(deliveries):
    deliveries.note(a_trial(1), 0.3)
    began = time.monotonic()
    deliveries.note(a_trial(1), LONG)
    assert deliveries.take().number == 1
    assert time.monotonic() - began < 3


def test_a_change_that_does_not_wait_takes_the_gathered_ones_with_it(deliveries):
    deliveries.note(a_trial(1), LONG)
    deliveries.note(a_trial(2), LONG)
    thread, found = in_thread(deliveries.take)
    deliveries.note(a_trial(2))
    thread.join(5)
    assert [trial.number for trial in found] == [2]


def test_what_is_due_first_is_taken_first(deliveries):
    for number, seconds in ((1, 0.2), (2, 0.1), (3, 0.0)):
        deliveries.note(a_trial(number), seconds)
    assert [deliveries.take().number for _ in range(3)] == [3, 2, 1]


def test_flushing_waits_for_what_was_gathered_and_hurries_it(deliveries):
    deliveries.note(a_trial(1), LONG)
    taking, found = in_thread(lambda: (deliveries.take(), deliveries.take()))
    assert deliveries.flush(5)
    # What comes after it is gathered again.
    deliveries.note(a_trial(2), LONG)
    taking.join(0.2)
    assert taking.is_alive()
    deliveries.close()
    taking.join(5)
    assert [trial.number for trial in found[0]] == [1, 2]


def test_flushing_says_if_not_everything_could_be_delivered(deliveries):
    deliveries.note(a_trial(1))
    assert not deliveries.flush(0.05)
    deliveries.take()
    assert not deliveries.flush(0.05)


def test_flushing_waits_as_long_as_one_after_the_other_is_delivered(deliveries):
    for number in range(1, 7):
        deliveries.note(a_trial(number), LONG)

    def slowly():
        while deliveries.take() is not None:
            time.sleep(0.2)

    in_thread(slowly)
    assert deliveries.flush(0.6)
    deliveries.close()


def test_a_first_attempt_is_waited_for_longer_than_one_after_a_failure(deliveries):
    deliveries.note(a_trial(1))

    def fails():
        trial = deliveries.take()
        time.sleep(0.2)
        deliveries.again(trial, LONG)

    began = time.monotonic()
    in_thread(fails)
    assert not deliveries.flush(0.0, LONG)
    assert 0.2 <= time.monotonic() - began < 5


def test_what_could_not_be_delivered_is_taken_again_after_a_pause(deliveries):
    deliveries.note(a_trial(1))
    trial = deliveries.take()
    began = time.monotonic()
    assert deliveries.again(trial, 0.2)
    assert time.monotonic() - began >= 0.2
    assert deliveries.take() is trial


def test_a_change_since_then_is_what_is_taken_again(deliveries):
    deliveries.note(a_trial(1, 0.1))
    trial, later = deliveries.take(), a_trial(1, 0.2)
    deliveries.note(later, LONG)
    deliveries.again(trial, 0.0)
    deliveries.close()
    assert deliveries.take() is later


def test_closing_ends_a_pause_and_allows_one_more_attempt(deliveries):
    deliveries.note(a_trial(1))
    trial = deliveries.take()
    thread, found = in_thread(lambda: deliveries.again(trial, LONG))
    deliveries.close()
    thread.join(5)
    assert found == [True]
    assert deliveries.take() is trial
    assert not deliveries.again(trial, LONG)
