"""The session of a search: what a signal does."""

import contextlib
import os
import signal

import pytest
from support.factories import a_space

from ctkd_search.leases.lease import wait_for
from ctkd_search.search.session import Session
from ctkd_search.search.stop_signal import StopReason


def refuse(text):
    """A print that a signal interrupted: Python raises where a handler writes to the same stream."""
    raise RuntimeError("reentrant call inside <_io.BufferedWriter name=1>")


@contextlib.contextmanager
def handled(session):
    """Signals go to the session."""
    before = signal.signal(signal.SIGINT, session._stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture
def session(tmp_path):
    with wait_for(tmp_path / "leases", "small", "a test") as lease:
        yield Session(a_space(), tmp_path, refuse, lease)


def test_a_signal_in_the_middle_of_a_printed_line_stops_the_trials_and_prints_nothing(session):
    session.tuning = True
    with handled(session):
        os.kill(os.getpid(), signal.SIGINT)
        # The same keystroke, from a parent process.
        os.kill(os.getpid(), signal.SIGINT)
    assert session.stop_signal.reason is StopReason.INTERRUPTED


def test_a_second_signal_ends_at_once(session, monkeypatch):
    session.tuning = True
    with handled(session):
        os.kill(os.getpid(), signal.SIGINT)
        monkeypatch.setattr("ctkd_search.search.session._SAME_KEYSTROKE_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_outside_of_the_trials_ends_at_once(session):
    with handled(session), pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
