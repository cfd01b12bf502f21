"""The consoles that commands and the Python API print to: a terminal, a notebook, plain lines, or nothing."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import sys
import warnings
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live

# A pipe or a file has no width; tables need not be cut to 80 columns there.
PLAIN_WIDTH = 160
_NOTEBOOK_WIDTH = 110


class PlainConsole(Console):
    """A console that prints text as it is, brackets and colons included, and leaves a broken pipe to its caller."""

    def __init__(self, **options: Any) -> None:
        # Lines are text in a notebook too, and not one HTML output each.
        super().__init__(markup=False, emoji=False, force_jupyter=False, **options)

    def on_broken_pipe(self) -> None:
        """Raises BrokenPipeError; Rich's own console would end the process."""
        raise BrokenPipeError


class LastingConsole(PlainConsole):
    """The console of work that goes on where its lines cannot be written, as on a full disk."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints, or leaves out what cannot be written; what is missing is noticed when the command ends."""
        try:
            super().print(*objects, **options)
        except BrokenPipeError:
            raise
        except OSError:
            del self._buffer[:]


class NotebookConsole(PlainConsole):
    """A console in a notebook: lines as text, and live tables as one output that is replaced."""

    def __init__(self) -> None:
        super().__init__(width=_NOTEBOOK_WIDTH, force_terminal=False)


def standard_console(lasting: bool = False) -> Console:
    """Returns the console of the commands, on standard output.

    Args:
        lasting: Whether the work goes on where its lines cannot be written.
    """
    made = LastingConsole if lasting else PlainConsole
    console = made()
    return console if console.is_terminal else made(width=PLAIN_WIDTH)


def console_for(progress: bool | None) -> Console:
    """Returns the console that shows the progress of a function of the Python API.

    Args:
        progress: True for lines where there is neither a terminal nor a notebook; None for nothing there; False for
            nothing anywhere.
    """
    if progress is False:
        return silent_console()
    if in_notebook():
        return NotebookConsole()
    console = standard_console()
    return console if progress or console.is_terminal else silent_console()


def silent_console() -> Console:
    """Returns a console that prints nothing."""
    return PlainConsole(file=io.StringIO(), quiet=True, width=PLAIN_WIDTH, force_terminal=False)


def text_console(width: int) -> tuple[Console, io.StringIO]:
    """Returns a console that writes plain text, and what it has written; in a notebook too."""
    text = io.StringIO()
    return PlainConsole(file=text, width=width, force_terminal=False), text


def in_notebook() -> bool:
    """Returns whether this process is the kernel of a notebook."""
    # Whoever runs in a kernel has imported it; in other processes it need not be installed.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and getattr(shell, "kernel", None) is not None


def without_widget_advice() -> None:
    """Keeps libraries from advising to install ipywidgets in a notebook: nothing that is shown here needs them.

    PyTorch's and MLflow's libraries import tqdm's bars, which warn when they are imported; Ray notes it then.
    """
    if in_notebook():
        logging.getLogger("ray.widgets.util").setLevel(logging.WARNING)
        with warnings.catch_warnings(), contextlib.suppress(ImportError):
            warnings.simplefilter("ignore")
            importlib.import_module("tqdm.auto")


class NotebookLive:
    """A live table in a notebook: one output that is replaced, and is empty at the end; like Rich's `Live`."""

    def __init__(self) -> None:
        self._handle: Any = None

    def start(self) -> None:
        """Shows an empty output."""
        from IPython.display import display

        self._handle = display(_bundle(""), raw=True, display_id=True)

    def update(self, renderable: RenderableType, *, refresh: bool = False) -> None:
        """Replaces the output."""
        console, text = text_console(_NOTEBOOK_WIDTH)
        console.print(renderable)
        self._show(text.getvalue())

    def stop(self) -> None:
        """Empties the output."""
        self._show("")

    def _show(self, text: str) -> None:
        if self._handle is not None:
            self._handle.update(_bundle(text), raw=True)


def _bundle(text: str) -> dict[str, str]:
    return {"text/plain": text}


def live_on(console: Console) -> Live | NotebookLive | None:
    """Returns a live table on a console; None where there can be none."""
    if isinstance(console, NotebookConsole):
        return NotebookLive()
    return Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
