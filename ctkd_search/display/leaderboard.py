"""The leaderboard of a search, as a terminal shows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ctkd_search.analysis.standing import verdicts, winner
from ctkd_search.analysis.warm_start import brought
from ctkd_search.display.comparisons import baselines_table, confirmed_table, methods_table, pareto_table, trials_table
from ctkd_search.display.tables import Table, for_terminal
from ctkd_search.records.store import SearchRecord, TrialRecord
from ctkd_search.space.definition import Space

if TYPE_CHECKING:
    from rich.console import Console


def print_leaderboard(
    space: Space, search: SearchRecord, trials: Sequence[TrialRecord], limit: int, console: Console
) -> None:
    """Prints the trials of a search, its baselines, its verdicts, and what earlier searches brought.

    Args:
        space: Its space.
        search: Its own record.
        trials: Its trials.
        limit: Maximum number of explored trials.
        console: The console to print to.
    """
    console.print(f"search {search.name}, begun {search.started}", highlight=False, soft_wrap=True)
    hidden = sum(trial.explores for trial in trials) > limit
    for part in leaderboard_parts(space, search, trials, limit):
        if isinstance(part, str):
            console.print(part, highlight=False, soft_wrap=True)
            continue
        console.print(for_terminal(part))
        if hidden:  # of the first table alone
            console.print(f"more trials: ctkd-search show {search.name} --limit N", highlight=False, soft_wrap=True)
            hidden = False


def leaderboard_parts(
    space: Space, search: SearchRecord, trials: Sequence[TrialRecord], limit: int
) -> Iterator[Table | str]:
    """Yields the tables of a leaderboard, that of the explored trials first, and the sentences that follow them.

    Args:
        space: Its space.
        search: Its own record.
        trials: Its trials.
        limit: Maximum number of explored trials.
    """
    leader, judge = winner(trials), space.strategy.judge
    yield trials_table(space, [trial for trial in trials if trial.explores], leader, limit)
    again = confirmed_table(trials, leader, judge)
    for table in (
        pareto_table(space, search, trials, leader),
        methods_table(trials, leader, judge),
        baselines_table(trials, leader, judge),
        again,
    ):
        if table is not None:
            yield table
    if again is not None:
        yield from verdicts(trials)
    yield from brought(search.warm_start, trials)
