"""Consoles: what the Python API prints in a terminal, in a notebook, and elsewhere."""

import io
import os
import sys
import types

import pytest
from rich.table import Table

from ctkd_search.display import consoles
from ctkd_search.display.consoles import NotebookConsole, console_for, in_notebook, live_on, standard_console


class Handle:
    """A display of a notebook, which keeps what it shows."""

    def __init__(self, shown):
        self.shown = [shown]

    def update(self, shown, raw):
        assert raw
        self.shown.append(shown)


@pytest.fixture
def notebook(monkeypatch):
    """A kernel: what it displays."""
    displayed = []

    def display(shown, raw, display_id):
        assert raw
        assert display_id
        displayed.append(Handle(shown))
        return displayed[-1]

    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    shown = types.ModuleType("IPython.display")
    shown.display = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    return displayed


def printed(console):
    console.file = io.StringIO()
    console.print("a [b] line")
    return console.file.getvalue()


@pytest.mark.parametrize(("progress", "text"), [(None, ""), (False, ""), (True, "a [b] line\n")])
def test_without_a_terminal_lines_are_printed_where_they_are_asked_for(progress, text):
    assert not in_notebook()
    console = console_for(progress)
    assert printed(console) == text
    assert live_on(console) is None


def test_a_shell_of_ipython_in_a_terminal_is_no_notebook(notebook, monkeypatch):
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: types.SimpleNamespace())
    assert not in_notebook()
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: None)
    assert not in_notebook()


@pytest.mark.parametrize("progress", [None, True])
def test_in_a_notebook_lines_are_text_and_the_live_table_is_one_output(notebook, progress):
    console = console_for(progress)
    assert isinstance(console, NotebookConsole)
    assert printed(console) == "a [b] line\n"
    live = live_on(console)
    live.start()
    table = Table()
    table.add_column("[x]")
    for number in (1, 2):
        table.add_row(str(number))
        live.update(table, refresh=True)
    live.stop()
    (handle,) = notebook
    texts = [shown["text/plain"] for shown in handle.shown]
    assert (texts[0], texts[-1]) == ("", "")
    assert "[x]" in texts[1]
    assert "2" not in texts[1]
    assert "2" in texts[2]


def test_a_notebook_may_be_told_to_be_silent(notebook):
    assert printed(console_for(False)) == ""


def test_the_commands_print_in_a_notebooks_shell_as_elsewhere(notebook, monkeypatch):
    """`!ctkd-search` is a process of its own, and `main` in a notebook prints text."""
    assert printed(standard_console()) == "a [b] line\n"
    assert not isinstance(standard_console(), NotebookConsole)
    assert standard_console().width == consoles.PLAIN_WIDTH


def test_work_goes_on_where_its_lines_cannot_be_written(monkeypatch):
    with open("/dev/full", "w", encoding="utf-8") as full, io.StringIO() as room:
        monkeypatch.setattr(sys, "stdout", full)
        console = standard_console(lasting=True)
        console.print("lost")
        with pytest.raises(OSError, match="No space left"):
            standard_console().print("lost")
        monkeypatch.setattr(sys, "stdout", room)
        console.print("printed")
        assert room.getvalue() == "printed\n"
        # Python writes what is left at its own end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
