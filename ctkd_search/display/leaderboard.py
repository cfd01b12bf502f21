"""Tables of trials, as a terminal shows them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ctkd_search.analysis.by_method import MethodStanding, by_method
from ctkd_search.analysis.intervals import Estimate
from ctkd_search.analysis.pareto import front
from ctkd_search.analysis.standing import Confirmed, confirmed, gap_to, over_methods, verdicts, winner
from ctkd_search.metrics import ACCURACY, OBJECTIVES, Metric, measured
from ctkd_search.pairs import split_pair
from ctkd_search.records.store import FINISHED, SearchRecord, TrialRecord, contenders, ranked
from ctkd_search.space.definition import Space
from ctkd_search.space.distributions import show

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# What intervals beside several differences promise; a verdict is said where one excludes 0.
TOGETHER = "the differences hold together in 95 % of searches"
# What a table says of a method; all but its name are numbers.
METHOD_HEADS = (
    *("method", "#", "its best", "mean", "95 % interval", "deviation", "n", "against the winner"),
    *("trials", "epochs"),
)


def percent(accuracy: float) -> str:
    """An accuracy in percent, or a dash where there is none."""
    return f"{100 * accuracy:.2f} %" if accuracy >= 0 else "-"


def heading(metric: Metric) -> str:
    """What stands above a column of values on the validation images."""
    return "validation" if metric is ACCURACY else f"validation {metric.label}"


def headings(metrics: Sequence[Metric]) -> list[str]:
    """What stands above several such columns beside each other."""
    return [heading(metrics[0])] if len(metrics) == 1 else [metric.short for metric in metrics]


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
    title = f"search {search.name}, begun {search.started}"
    console.print(_explored(space, explored, leader, title, limit))
    if len(explored) > limit:
        console.print(f"and {len(explored) - limit} more; ctkd-search show {search.name} --limit N shows them")
    if len(space.strategy.objectives) > 1 and (search.costs or not space.strategy.costs):
        console.print(_pareto(space, search, explored))
    compared = by_method(trials)
    if compared:
        console.print(_methods(compared, leader, space.strategy.judge))
    baselines = ranked([trial for trial in trials if trial.baseline and trial.repeats is None])
    if baselines:
        console.print(_baselines(baselines, trials, leader, space.strategy.judge))
    again = confirmed(trials)
    if again:
        console.print(_confirmed(again, trials, leader, space.strategy.judge))
        for sentence in verdicts(trials):
            console.print(sentence, highlight=False, soft_wrap=True)


def measured_of(space: Space) -> list[Metric]:
    """What tables show of a space's trials: what they are judged by first."""
    asked = [
        *space.strategy.metrics,
        *(OBJECTIVES[name].name for name in space.strategy.objectives if name in OBJECTIVES),
    ]
    return measured(asked, space.strategy.judge.key)


# Heads the column of what only some of a search's methods have.
_OWN = "its own"


class ValueColumns:
    """What tables show of trials' values: a column for each, or, of a search over methods, for those that all have.

    What is one method's own stands in a last column in short, because most trials have most of it not.

    Args:
        space: The space.
        trials: The trials that are shown.
    """

    def __init__(self, space: Space, trials: Sequence[TrialRecord]) -> None:
        names = [name for name in space.entries if any(name in trial.values for trial in trials)]
        own = [name for name in names if any(name not in trial.values for trial in trials)]
        self._space = space
        self._own = own if len(space.methods()) > 1 else []
        self.names = [name for name in names if name not in self._own]

    def heads(self) -> list[str]:
        """What stands above them."""
        return [*(name.replace("attention_layers", "layers") for name in self.names), *[_OWN] * bool(self._own)]

    def cells(self, trial: TrialRecord) -> list[str]:
        """What stands in a trial's row."""
        own = " ".join(self._space.words(trial.values, self._own))
        return [*(cell(trial.values, name) for name in self.names), *[own] * bool(self._own)]


def _explored(space: Space, trials: Sequence[TrialRecord], leader: TrialRecord | None, title: str, limit: int) -> Table:
    metrics, values = measured_of(space), ValueColumns(space, trials)
    reached, heads = headings(metrics), values.heads()
    numbers = ("#", *reached, "epochs", *(head for head in heads if head not in {"pair", "method", _OWN}))
    table = plain_table("#", *reached, "epochs", *heads, "ended", title=title, right=numbers)
    order = ranked(list(trials))
    if leader is not None:
        order.remove(leader)
        order.insert(0, leader)
    for trial in order[:limit]:
        table.add_row(
            str(trial.number),
            *(metric.show(trial.last(metric)) for metric in metrics),
            str(len(trial.epochs)),
            *values.cells(trial),
            trial.status,
            style="bold" if trial is leader else None,
        )
    return table


def _methods(compared: Sequence[MethodStanding], leader: TrialRecord | None, judge: Metric) -> Table:
    title = f"by method, the best of each (validation {judge.label}; trials and epochs are those of the search)"
    table = plain_table(*METHOD_HEADS, title=title, right=METHOD_HEADS[1:])
    for standing in compared:
        style = "bold" if standing.best is leader else None
        table.add_row(*method_cells(standing, judge), style=style)
    return table


def method_cells(standing: MethodStanding, judge: Metric) -> list[str]:
    """The row of a method, under `METHOD_HEADS`."""
    best, mean = standing.best, standing.mean
    return [
        standing.method,
        "" if best is None else str(best.number),
        "" if best is None else best.reached,
        *(("", "", "", "") if mean is None else spread(mean.estimate, judge)),
        points(standing.gap, judge),
        str(standing.trials),
        str(standing.epochs),
    ]


def _baselines(
    baselines: Sequence[TrialRecord], trials: Sequence[TrialRecord], leader: TrialRecord | None, judge: Metric
) -> Table:
    title = "baselines, with the same budget and never stopped early"
    right = ("#", heading(judge), "against the winner")
    table = plain_table(*right, "baseline", "pair", "ended", title=title, right=right)
    for trial in baselines:
        gap = gap_to(trials, leader, trial) if leader and trial.status == FINISHED else None
        table.add_row(
            str(trial.number),
            trial.reached,
            points(gap, judge),
            str(trial.baseline),
            trial.values["pair"],
            trial.status,
        )
    return table


def _confirmed(
    configs: Sequence[Confirmed], trials: Sequence[TrialRecord], leader: TrialRecord | None, judge: Metric
) -> Table:
    right = ("#", "mean", "95 % interval", "deviation", "n", "against the winner")
    title = f"confirmed with fresh seeds (validation {judge.label}; {TOGETHER})"
    table = plain_table(
        "#", "mean", "95 % interval", "deviation", "n", "against the winner", "what", title=title, right=right
    )
    first = next((config for config in configs if config.trial is leader), None)
    several = over_methods(configs)
    for config in configs:
        found = config.estimate
        gap = gap_to(trials, first.trial, config.trial) if first and config is not first else None
        table.add_row(
            str(config.trial.number),
            *spread(found, judge),
            points(gap, judge),
            config.trial.baseline or (config.trial.method if several else "trial"),
            style="bold" if config is first else None,
        )
    return table


def spread(found: Estimate, metric: Metric = ACCURACY) -> tuple[str, str, str, str]:
    """The cells of an estimate: mean, 95 % interval, standard deviation, and how many values."""
    interval = "" if math.isinf(found.half_width) else f"± {metric.number(found.half_width)}"
    deviation = "" if math.isnan(found.deviation) else metric.number(found.deviation)
    return metric.show(found.mean), interval, deviation, str(found.n)


def _pareto(space: Space, search: SearchRecord, explored: Sequence[TrialRecord]) -> Table:
    objectives = space.strategy.objectives
    metrics = [OBJECTIVES[name] for name in objectives if name in OBJECTIVES]
    costs = [name for name in objectives if name not in OBJECTIVES]
    title = "Pareto front: no other trial is better in everything"
    right = ("#", *headings(metrics), *costs)
    table = plain_table(*right, "pair", title=title, right=right)
    finished = [trial for trial in contenders(explored) if trial.status == FINISHED]
    for trial in front(finished, objectives, search.costs):
        student = split_pair(trial.values["pair"]).student
        reached = (metric.show(trial.last(metric)) for metric in metrics)
        numbers = (amount(search.costs[student][name]) for name in costs)
        table.add_row(str(trial.number), *reached, *numbers, trial.values["pair"])
    return table


def points(gap: Estimate | None, metric: Metric = ACCURACY) -> str:
    """A difference, in percentage points where values are percentages, with its interval where there is one."""
    if gap is None:
        return ""
    spread = "" if math.isinf(gap.half_width) else f" ± {metric.number(gap.half_width)}"
    return f"{metric.signed(gap.mean)}{spread}"


def cell(values: Mapping[str, Any], name: str) -> str:
    """The value of a parameter as a table shows it; nothing where there is none."""
    if name not in values:
        return ""
    value = values[name]
    return f"{value:.3g}" if isinstance(value, float) else show(value)
