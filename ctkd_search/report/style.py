"""How pictures look, and how a drawing becomes a PNG."""

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

# After Okabe and Ito, colours which people who see fewer colours tell apart; one for each role on every picture.
WINNER, SCRATCH, EXPERT, BASELINE = "#D55E00", "#009E73", "#AA4499", "#0072B2"
FINISHED, STOPPED, INK, FAINT = "#4D4D4D", "#B8B8B8", "#222222", "#E4E4E4"
# What tells baselines from each other, beside their names.
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
        name: Name of its file, without the ending.
        caption: What it shows.
        alt: The same for those who do not see it.
        png: The file's content.
        wide: Whether it would be too small on a telephone, so that it is scrolled there.
    """

    name: str
    caption: str
    alt: str
    png: bytes
    wide: bool = False


def percents() -> PercentFormatter:
    """Writes accuracies at an axis."""
    return PercentFormatter(1.0, symbol=" %")


def values_of(metric: Metric) -> Formatter:
    """Writes values of a metric at an axis."""
    return percents() if metric.unit == "%" else ScalarFormatter()


def named(metric: Metric) -> str:
    """What stands beside an axis."""
    return f"validation {metric.label}" + ("" if metric.unit == "%" else f" ({metric.unit})")


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Draws with the report's look, and leaves matplotlib's settings as they were."""
    with matplotlib.rc_context({**_LOOK, "font.family": fonts.families()}), warnings.catch_warnings():
        # What no font has is shown as a box; names of classes are written as numbers then.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def sheet(rows: int = 1, columns: int = 1, height: float = 3.4, **options: Any) -> tuple[Figure, list[Axes]]:
    """An empty drawing, which pyplot knows nothing of, and its axes.

    Args:
        rows: Axes below each other.
        columns: Axes beside each other.
        height: Inches.
        options: Handed to matplotlib's ``Figure.subplots``.
    """
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, list(axes.flat)


def png(figure: Figure, tight: bool = False) -> bytes:
    """A drawing as a PNG, fine enough for print.

    Args:
        figure: The drawing.
        tight: Whether to cut it to what is drawn, where no layout keeps that inside.
    """
    buffer = io.BytesIO()
    cut: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": 0.1} if tight else {}
    # Matplotlib's own note would make the file depend on its version.
    how: dict[str, Any] = {"dpi": _DPI, "facecolor": "white", "metadata": {"Software": None}, **cut}
    figure.savefig(buffer, format="png", pil_kwargs={"optimize": True}, **how)
    return buffer.getvalue()
