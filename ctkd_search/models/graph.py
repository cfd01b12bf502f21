"""The graph of a network, as torch.export traces it for any number of images."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from ctkd_search.errors import WorkFailed
from ctkd_search.text import one_line

# The characters of torch's own message that are told.
_TOLD = 100
# Code whose lines tell the user nothing: torch's and this package's.
_NOT_THEIRS = (f"{Path(torch.__file__).parent}{os.sep}", f"{Path(__file__).parents[1]}{os.sep}", "<")


class NoGraph(WorkFailed):
    """A network that cannot be exported as a graph."""


def graph_of(network: nn.Module, name: str, images: Tensor) -> torch.export.ExportedProgram:
    """Returns the graph of a network, for any number of images.

    Args:
        network: The network, which takes images alone.
        name: Its name, for the message.
        images: At least two images: of one, torch would conclude that there is never more.

    Raises:
        NoGraph: torch.export cannot trace it.
    """
    batch = torch.export.Dim("batch", min=1)
    # Of a network that it cannot trace, torch prints what it has traced so far.
    with quietly(), contextlib.redirect_stderr(io.StringIO()):
        try:
            return torch.export.export(network, (images,), dynamic_shapes=({0: batch},))
        except MemoryError:
            raise
        except Exception as error:  # whatever torch, or the user's code while it is traced, raises
            raise no_graph(name, error) from None


def no_graph(name: str, error: Exception) -> NoGraph:
    """Returns the error of a network that cannot be exported, with the cause and its place in the network's own code.

    Args:
        name: The network's name.
        error: The cause.
    """
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(_NOT_THEIRS)]
    where = f" ({theirs[-1].filename}, line {theirs[-1].lineno})" if theirs else ""
    why = one_line(str(error).partition(" For more information")[0], _TOLD).rstrip(".") or type(error).__name__
    return NoGraph(
        f"{name} cannot be exported as a graph: {why}{where}; its code must compute with torch alone, and branch "
        "neither on the values of images nor on their number"
    )


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keeps the exporters' remarks to themselves; what goes wrong is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
