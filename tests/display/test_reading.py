"""The progress of reading images."""

import io

import pytest
from rich.console import Console

from ctkd_search.data.watching import watcher
from ctkd_search.display import reading


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test turns."""

    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

    turned = Clock()
    monkeypatch.setattr(reading, "time", turned)
    return turned


def shown(terminal):
    return Console(
        file=io.StringIO(), force_terminal=terminal, width=200, color_system=None, _environ={"TERM": "xterm"}
    )


def test_what_takes_long_is_reported_line_by_line_where_there_is_no_terminal(clock):
    console = shown(terminal=False)
    with reading.shown_on(console):
        for done in range(0, 2001, 100):
            watcher().progress("decoding the training images", done, 2000)
            clock.now += 4.0
        watcher().note("skipping [1] of 3: a.png")
    assert console.file.getvalue().splitlines() == [
        "decoding the training images: 800 of 2,000",
        "decoding the training images: 1,600 of 2,000",
        "skipping [1] of 3: a.png",
    ]


def test_what_is_done_at_once_is_not_told():
    for terminal in (True, False):
        console = shown(terminal)
        with reading.shown_on(console):
            for done in range(0, 2001, 100):
                watcher().progress("decoding the training images", done, 2000)
        assert console.file.getvalue() == ""


def test_a_terminal_gets_a_bar_that_goes_when_it_is_done_or_broken_off(clock):
    def told(last):
        console = shown(terminal=True)
        with reading.shown_on(console):
            for done in range(0, last + 1, 100):
                watcher().progress("decoding the training images", done, 2000)
                clock.now += 1.0
            if last == 2000:
                assert console.file.getvalue().endswith(("\x1b[2K", "\x1b[?25h"))
        return console.file.getvalue()

    for last in (2000, 500):
        text = told(last)
        assert "decoding the training images" in text
        assert "/2000" in text
        assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1


def test_elsewhere_progress_is_silent_and_notes_are_logged(caplog):
    with reading.shown_on(shown(terminal=False)):
        pass
    watcher().progress("decoding", 1, 2)
    watcher().note("skipping a.png")
    assert [record.getMessage() for record in caplog.records] == ["skipping a.png"]
