"""The tables of a final training."""

from __future__ import annotations

from collections.abc import Sequence

from ctkd_search.analysis.final_lines import Line, ahead_of
from ctkd_search.display.comparisons import points, spread
from ctkd_search.display.tables import WINNER, Row, Table
from ctkd_search.metrics import Metric


def tables(found: Sequence[Line]) -> list[Table]:
    """Returns a table for each metric, with a row for the config and for each baseline."""
    return [_table(found, metric) for metric in found[0].metrics]


def _table(found: Sequence[Line], metric: Metric) -> Table:
    caption = f"final training (test {metric.label} over the seeds; the differences hold together in 95 % of cases)"
    heads = ["trained", f"test {metric.label}", "95 % interval", "deviation", "n", "config minus baseline", "lost"]
    rows = [
        Row([line.label, *_cells(found, line, metric), _lost(line)], WINNER if line is found[0] else "")
        for line in found
    ]
    return Table(caption, heads, rows, {1, 2, 3, 4, 5})


def _cells(found: Sequence[Line], line: Line, metric: Metric) -> list[str]:
    """Returns the cells of a line: mean, interval, deviation, number of seeds, and difference to the config."""
    known = line.estimate(metric)
    cells = spread(known, metric) if known else ("-", "", "", "0")
    return [*cells, points(None if line is found[0] else ahead_of(found, line, metric), metric)]


def _lost(line: Line) -> str:
    """Returns the numbers of trainings that yielded no student, by status."""
    counts = {status: sum(trial.status == status for trial in line.lost) for status in ("diverged", "failed")}
    return ", ".join(f"{count} {status}" for status, count in counts.items() if count)
