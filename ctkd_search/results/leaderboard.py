"""Tables of trials, as a terminal shows them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ctkd_search.distributions import show
from ctkd_search.pairs import split_pair
from ctkd_search.results.pareto import front
from ctkd_search.results.standing import Confirmed, Estimate, confirmed, gap_to, verdicts, winner
from ctkd_search.results.store import FINISHED, SearchRecord, TrialRecord, contenders, ranked
from ctkd_search.space import Space
from ctkd_search.strategy import ACCURACY

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def percent(accuracy: float) -> str:
    """An accuracy in percent, or a dash where there is none."""
    return f"{100 * accuracy:.2f} %" if accuracy >= 0 else "-"


def clock(seconds: float) -> str:
    """A duration as people write it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def amount(value: float) -> str:
    """A cost with its digits, not as a power of ten."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.6g}"


def plain_table(*columns: str, title: str | None = None, right: Sequence[str] = ()) -> Table:
    """A table without a frame.

    Args:
        columns: Headings.
        title: What stands above.
        right: The headings of columns that are aligned to the right.
    """
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", no_wrap=column == "ended")
    return table


def print_leaderboard(
    space: Space, search: SearchRecord, trials: Sequence[TrialRecord], limit: int, console: Console
) -> None:
    """Prints how a search stands: its trials, its baselines, and what the confirmation says.

    Args:
        space: Its space.
        search: Its own record.
        trials: Its trials.
        limit: How many of the explored trials at most.
        console: Where to.
    """
    explored = [trial for trial in trials if trial.explores]
    leader = winner(trials)
    searched = [name for name in space.entries if any(name in trial.values for trial in explored)]
    console.print(_explored(explored, leader, f"search {search.name}, begun {search.started}", searched, limit))
    if len(explored) > limit:
        console.print(f"and {len(explored) - limit} more; ctkd-search show {search.name} --limit N shows them")
    if len(space.strategy.objectives) > 1 and search.costs:
        console.print(_pareto(space, search, explored))
    baselines = ranked([trial for trial in trials if trial.baseline and trial.repeats is None])
    if baselines:
        console.print(_baselines(baselines, trials, leader))
    again = confirmed(trials)
    if again:
        console.print(_confirmed(again, leader))
        for sentence in verdicts(trials):
            console.print(sentence, highlight=False, soft_wrap=True)


def _explored(
    trials: Sequence[TrialRecord],
    leader: TrialRecord | None,
    title: str,
    searched: Sequence[str],
    limit: int,
) -> Table:
    heads = [name.replace("attention_layers", "layers") for name in searched]
    numbers = ("#", "validation", "epochs", *(head for head in heads if head != "pair"))
    table = plain_table("#", "validation", "epochs", *heads, "ended", title=title, right=numbers)
    order = ranked(list(trials))
    if leader is not None:
        order.remove(leader)
        order.insert(0, leader)
    for trial in order[:limit]:
        table.add_row(
            str(trial.number),
            percent(trial.accuracy),
            str(len(trial.epochs)),
            *(cell(trial.values, name) for name in searched),
            trial.status,
            style="bold" if trial is leader else None,
        )
    return table


def _baselines(baselines: Sequence[TrialRecord], trials: Sequence[TrialRecord], leader: TrialRecord | None) -> Table:
    title = "baselines, with the same budget and never stopped early"
    right = ("#", "validation", "against the winner")
    table = plain_table("#", "validation", "against the winner", "baseline", "pair", "ended", title=title, right=right)
    for trial in baselines:
        gap = gap_to(trials, leader, trial) if leader and trial.status == FINISHED else None
        table.add_row(
            str(trial.number),
            percent(trial.accuracy),
            points(gap),
            str(trial.baseline),
            trial.values["pair"],
            trial.status,
        )
    return table


def _confirmed(configs: Sequence[Confirmed], leader: TrialRecord | None) -> Table:
    right = ("#", "mean", "95 % interval", "deviation", "n", "against the winner")
    title = "confirmed with fresh seeds (validation accuracy)"
    table = plain_table(
        "#", "mean", "95 % interval", "deviation", "n", "against the winner", "what", title=title, right=right
    )
    first = next((config for config in configs if config.trial is leader), None)
    for config in configs:
        found = config.estimate
        gap = config.difference(first) if first and config is not first else None
        table.add_row(
            str(config.trial.number),
            *spread(found),
            points(gap),
            config.trial.baseline or "trial",
            style="bold" if config is first else None,
        )
    return table


def spread(found: Estimate) -> tuple[str, str, str, str]:
    """The cells of an estimated accuracy: mean, 95 % interval, standard deviation, and how many values."""
    interval = "" if math.isinf(found.half_width) else f"± {100 * found.half_width:.2f}"
    deviation = "" if math.isnan(found.deviation) else f"{100 * found.deviation:.2f}"
    return percent(found.mean), interval, deviation, str(found.n)


def _pareto(space: Space, search: SearchRecord, explored: Sequence[TrialRecord]) -> Table:
    objectives = space.strategy.objectives
    costs = [name for name in objectives if name != ACCURACY]
    title = "Pareto front: no other trial is better in everything"
    table = plain_table("#", "validation", *costs, "pair", title=title, right=("#", "validation", *costs))
    finished = [trial for trial in contenders(explored) if trial.status == FINISHED]
    for trial in front(finished, objectives, search.costs):
        student = split_pair(trial.values["pair"]).student
        numbers = (amount(search.costs[student][name]) for name in costs)
        table.add_row(str(trial.number), percent(trial.accuracy), *numbers, trial.values["pair"])
    return table


def points(gap: Estimate | None) -> str:
    """A difference in percentage points, with its interval where there is one."""
    if gap is None:
        return ""
    spread = "" if math.isinf(gap.half_width) else f" ± {100 * gap.half_width:.2f}"
    return f"{100 * gap.mean:+.2f}{spread}"


def cell(values: Mapping[str, Any], name: str) -> str:
    """The value of a parameter as a table shows it; nothing where there is none."""
    if name not in values:
        return ""
    value = values[name]
    return f"{value:.3g}" if isinstance(value, float) else show(value)
