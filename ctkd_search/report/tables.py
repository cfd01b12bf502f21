"""Tables that only the report has."""

from __future__ import annotations

from collections.abc import Sequence

from ctkd_search.analysis.early_ranking import agreement
from ctkd_search.display.tables import Row, Table
from ctkd_search.records.store import PAUSED, STOPPED, TrialRecord
from ctkd_search.report.series import Rung
from ctkd_search.space.strategy import Ranking


def rungs_table(
    rungs: Sequence[Rung], explored: Sequence[TrialRecord], ranking: Ranking | None, epochs: int
) -> Table | None:
    """Returns a table of the numbers of trials that each rung stopped, and of how well it ranked the others.

    Args:
        rungs: The scheduler's rungs.
        explored: The explored trials that have epochs.
        ranking: What trials are compared by.
        epochs: Epochs of a trial that is not stopped early.
    """
    if not rungs or ranking is None:
        return None
    rows = []
    for rung in rungs:
        found = agreement(explored, rung.epoch, ranking)
        agrees = f"{found.correlation:.2f} (n = {found.trials})" if found else "-"
        counts = (rung.epoch, rung.reached, rung.stopped, rung.reached - rung.stopped)
        rows.append(Row([*map(str, counts), agrees]))
    stopped = sum(trial.status in (STOPPED, PAUSED) for trial in explored)
    trained, whole = sum(len(trial.epochs) for trial in explored), epochs * len(explored)
    caption = (
        f"Where trials were stopped early: {stopped} of {len(explored)}. They trained {trained:,} of {whole:,} epochs, "
        f"{100 * (1 - trained / whole):.0f} % fewer than without stopping. The last column is the rank correlation of "
        f"the {ranking.label} there with the objective at the end, among the trials that finished."
    )
    heads = ["after epoch", "reached", "stopped", "went on", "agrees with the end"]
    return Table(caption, heads, rows, set(range(5)))
