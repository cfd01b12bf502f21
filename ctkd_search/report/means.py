"""The picture of means over seeds, with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from ctkd_search.analysis.intervals import Estimate
from ctkd_search.metrics import Metric
from ctkd_search.report import style
from ctkd_search.report.outliers import far_below


@dataclass(frozen=True)
class Means:
    """A row of the picture.

    Attributes:
        name: Its label.
        values: The value of each seed.
        estimate: Their mean with its interval.
        colour: Its colour.
    """

    name: str
    values: Sequence[float]
    estimate: Estimate
    colour: str


def draw_means(rows: Sequence[Means], metric: Metric, images: str = "validation") -> bytes:
    """Draws means with their intervals and seeds, a row each; of rows far below the others, an arrow and the mean.

    Args:
        rows: The rows, from above.
        metric: The metric of the values.
        images: Name of the images that they were measured on, for the axis.
    """
    outside = _outside(rows, metric)
    with style.drawing():
        figure, (axis,) = style.sheet(height=0.75 + 0.38 * len(rows))
        for position, row in enumerate(rows):
            found = row.estimate
            if position in outside:
                _arrow(axis, position, metric.show(found.mean), row.colour, left=metric.sign > 0)
                continue
            if not math.isinf(found.half_width):
                ends = (found.mean - found.half_width, found.mean + found.half_width)
                axis.plot(ends, (position, position), color=row.colour, lw=2.2, alpha=0.55)
            axis.plot(row.values, [position] * len(row.values), "|", color=row.colour, ms=11, mew=1.3)
            axis.plot(found.mean, position, "D", color=row.colour, ms=6.5, mec="white")
        axis.set_yticks(range(len(rows)), [row.name for row in rows])
        axis.set_xlim(*_limits([row for position, row in enumerate(rows) if position not in outside], metric))
        axis.set_ylim(len(rows) - 0.5, -0.5)
        axis.grid(visible=False, axis="y")
        axis.xaxis.set_major_formatter(style.values_of(metric))
        axis.set_xlabel(style.named(metric, images))
        return style.png(figure)


def arrows_told(rows: Sequence[Means], metric: Metric) -> str:
    """Returns the sentence on the arrows of the picture, if there are any."""
    told = " An arrow stands for a mean far outside the picture, beside its value."
    return told if _outside(rows, metric) else ""


def _outside(rows: Sequence[Means], metric: Metric) -> set[int]:
    """Returns the positions of the rows of which an arrow is drawn."""
    return far_below([row.values for row in rows], metric.sign)


def _limits(rows: Sequence[Means], metric: Metric) -> tuple[float, float]:
    """Returns the ends of the axis: an interval from few seeds may reach far beyond the possible values of shares."""
    points = [value for row in rows for value in row.values]
    margin = max(0.01, 0.6 * (max(points) - min(points)))
    highest = max(points) + margin
    return max(0.0, min(points) - margin), min(1.0, highest) if metric.unit == "%" else highest


def _arrow(axis: Axes, row: int, value: str, colour: str, left: bool) -> None:
    """Draws an arrow at the edge of an axis, and beside it the value that lies beyond."""
    edge, inside, side = (0.0, 0.02, "left") if left else (1.0, 0.98, "right")
    across = axis.get_yaxis_transform()
    axis.plot(edge, row, "<" if left else ">", color=colour, ms=7, transform=across, clip_on=False)
    axis.text(inside, row, value, color=colour, transform=across, ha=side, va="center", fontsize=8.5)
