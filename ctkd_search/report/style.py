"""The style of pictures, and their rendering as PNG."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import Formatter, PercentFormatter, ScalarFormatter

from ctkd_search.metrics import Metric
from ctkd_search.report import fonts

# Colours after Okabe and Ito, which colour-blind people can distinguish; one for each role in every picture.
WINNER, SCRATCH, EXPERT, BASELINE = "#D55E00", "#009E73", "#AA4499", "#0072B2"
FINISHED, STOPPED, INK, FAINT = "#4D4D4D", "#B8B8B8", "#222222", "#E4E4E4"
# Line styles that distinguish the baselines.
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))

WIDTH, _DPI = 8.0, 160
_LOOK = {
    "font.size": 9.5,
    "axes.edgecolor": "#999999",
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True)
class Picture:
    """A picture of the report.

    Attributes:
        name: Name of its file, without the suffix.
        caption: The caption.
        alt: The alternative text for people who cannot see it.
        png: The file's content.
        wide: Whether it is scrolled on a telephone, where it would be too small otherwise.
    """

    name: str
    caption: str
    alt: str
    png: bytes
    wide: bool = False


def percents() -> PercentFormatter:
    """Returns the formatter of an axis of accuracies."""
    return PercentFormatter(1.0, symbol=" %")


def values_of(metric: Metric) -> Formatter:
    """Returns the formatter of an axis of a metric."""
    return percents() if metric.unit == "%" else ScalarFormatter()


def named(metric: Metric, images: str = "validation") -> str:
    """Returns the label of an axis of a metric that was measured on these images."""
    return f"{images} {metric.label}" + ("" if metric.unit == "%" else f" ({metric.unit})")


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Applies the report's style while the block runs, and restores matplotlib's settings."""
    with matplotlib.rc_context({**_LOOK, "font.family": fonts.families()}), warnings.catch_warnings():
        # Characters that no font has are drawn as boxes; names of classes are replaced by numbers then.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def sheet(rows: int = 1, columns: int = 1, height: float = 3.4, **options: Any) -> tuple[Figure, list[Axes]]:
    """Returns an empty figure that is not registered with pyplot, and its axes.

    Args:
        rows: Number of rows of axes.
        columns: Number of columns of axes.
        height: Height in inches.
        options: Passed to matplotlib's ``Figure.subplots``.
    """
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, list(axes.flat)


def png(figure: Figure, tight: bool = False) -> bytes:
    """Returns a figure as a PNG, with a resolution for print.

    Args:
        figure: The figure.
        tight: Whether to crop it to its content, for figures without a layout.
    """
    buffer = io.BytesIO()
    cut: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": 0.1} if tight else {}
    # Without matplotlib's own metadata, which would make the file depend on its version.
    how: dict[str, Any] = {"dpi": _DPI, "facecolor": "white", "metadata": {"Software": None}, **cut}
    figure.savefig(buffer, format="png", pil_kwargs={"optimize": True}, **how)
    return buffer.getvalue()
