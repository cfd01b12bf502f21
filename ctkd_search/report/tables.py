"""Tables that only the report has."""

from __future__ import annotations

from collections.abc import Sequence

from ctkd_search.display.tables import Row, Table
from ctkd_search.records.store import STOPPED, TrialRecord
from ctkd_search.report.series import Rung


def rungs_table(rungs: Sequence[Rung], explored: Sequence[TrialRecord]) -> Table | None:
    """Returns a table of the numbers of trials that each rung stopped."""
    if not rungs:
        return None
    rows = [
        Row([str(rung.epoch), str(rung.reached), str(rung.stopped), str(rung.reached - rung.stopped)]) for rung in rungs
    ]
    stopped = sum(trial.status == STOPPED for trial in explored)
    caption = f"Where trials were stopped early: {stopped} of {len(explored)}."
    return Table(caption, ["after epoch", "reached", "stopped", "went on"], rows, {0, 1, 2, 3})
