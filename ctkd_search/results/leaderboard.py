"""Tables of trials, as a terminal shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ctkd_search.distributions import show
from ctkd_search.results.store import TrialRecord, best, ranked

if TYPE_CHECKING:
    from rich.table import Table


def percent(accuracy: float) -> str:
    """An accuracy in percent, or a dash where there is none."""
    return f"{100 * accuracy:.2f} %" if accuracy >= 0 else "-"


def clock(seconds: float) -> str:
    """A duration as people write it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def plain_table(*columns: str) -> Table:
    """A table without a frame."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column)
    return table


def leaderboard(trials: Sequence[TrialRecord], title: str, searched: Sequence[str], limit: int | None = None) -> Table:
    """The trials, best first.

    Args:
        trials: The trials.
        title: What stands above.
        searched: The parameters worth a column.
        limit: How many rows at most.
    """
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("#", justify="right")
    table.add_column("validation", justify="right")
    table.add_column("epochs", justify="right")
    for name in searched:
        table.add_column(name.replace("attention_layers", "layers"), justify="left" if name == "pair" else "right")
    table.add_column("ended", no_wrap=True)
    order = ranked(list(trials))
    winner = best(list(trials))
    if winner is not None:
        order.remove(winner)
        order.insert(0, winner)
    for trial in order[:limit]:
        table.add_row(
            str(trial.number),
            percent(trial.accuracy),
            str(len(trial.epochs)),
            *(_cell(trial.values, name) for name in searched),
            trial.status,
            style="bold" if trial is winner else None,
        )
    return table


def _cell(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return ""
    value = values[name]
    return f"{value:.3g}" if isinstance(value, float) else show(value)
