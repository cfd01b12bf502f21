"""The picture of a final training: the test results of the config and of its baselines."""

from __future__ import annotations

from collections.abc import Sequence

from ctkd_search.final.results import CONFIG, Line
from ctkd_search.report import style
from ctkd_search.report.fonts import fonts_for
from ctkd_search.report.means import Means, draw_means


def means_picture(found: Sequence[Line]) -> bytes | None:
    """Draws every seed, the means and their intervals, the config first; None where there is nothing to compare.

    Args:
        found: The config and its baselines.
    """
    judge = found[0].judge
    rows = []
    for line in found:
        estimate = line.estimate(judge)
        if estimate is not None:
            colour = style.WINNER if line.name == CONFIG else style.BASELINE
            rows.append(Means(line.name, list(line.values(judge).values()), estimate, colour))
    if len(rows) < 2:
        return None
    with fonts_for([row.name for row in rows]):
        return draw_means(rows, judge, "test")
