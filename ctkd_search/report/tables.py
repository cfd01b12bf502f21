"""The tables of a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ctkd_search.analysis.by_method import by_method
from ctkd_search.analysis.pareto import front, objective_values
from ctkd_search.analysis.standing import gap_to, over_methods
from ctkd_search.display.leaderboard import (
    METHOD_HEADS,
    TOGETHER,
    ValueColumns,
    amount,
    heading,
    headings,
    measured_of,
    method_cells,
    points,
    spread,
)
from ctkd_search.metrics import OBJECTIVES
from ctkd_search.records.store import FINISHED, STOPPED, TrialRecord, contenders, ranked
from ctkd_search.report.facts import Standing
from ctkd_search.report.series import Rung
from ctkd_search.space.baselines import BASELINES

_ROWS = 20


@dataclass(frozen=True)
class Row:
    """A row of a table: its cells, and whose it is (``winner``, ``baseline`` or nobody's)."""

    cells: list[str]
    role: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: What it shows.
        heads: Its headings.
        rows: Its rows.
        numbers: Places of the columns that hold numbers.
        prose: Places of the columns that hold sentences, which may be broken.
    """

    caption: str
    heads: list[str]
    rows: list[Row]
    numbers: set[int] = field(default_factory=set)
    prose: set[int] = field(default_factory=set)


def confirmed_table(standing: Standing) -> Table | None:
    """Means of fresh seeds, and paired differences to the winner."""
    configs = standing.confirmed
    if not configs:
        return None
    first = next((config for config in configs if config.trial is standing.winner), None)
    judge = standing.winner.metric
    several = over_methods(configs)
    rows = []
    for config in configs:
        found = config.estimate
        gap = gap_to(standing.trials, first.trial, config.trial) if first and config is not first else None
        role = "winner" if config is first else "baseline" if config.trial.baseline else ""
        alone = "winner" if config is first else "trial"
        what = config.trial.baseline or (config.trial.method if several else alone)
        rows.append(
            Row(
                [
                    str(config.trial.number),
                    what,
                    config.trial.values["pair"],
                    *spread(found, judge),
                    points(gap, judge),
                ],
                role,
            )
        )
    heads = ["#", "what", "pair", "mean", "95 % interval", "deviation", "n", "against the winner"]
    caption = (
        f"Validation {judge.label} with fresh seeds, best mean first; differences in {judge.difference_unit}, paired "
        f"by seed; {TOGETHER}."
    )
    return Table(caption, heads, rows, {0, 3, 4, 5, 6, 7})


def methods_table(standing: Standing) -> Table | None:
    """The best of each method, and what each has spent."""
    compared = by_method(standing.trials)
    if not compared:
        return None
    judge = standing.winner.metric
    rows = [Row(method_cells(found, judge), "winner" if found.best is standing.winner else "") for found in compared]
    caption = (
        f"The best trial of each method (validation {judge.label}). Mean, interval and deviation are of fresh seeds; "
        f"differences in {judge.difference_unit}, paired by seed where both were confirmed. Trials and epochs are what "
        "the search has spent on the method."
    )
    return Table(caption, list(METHOD_HEADS), rows, {*range(1, len(METHOD_HEADS))})


def trials_table(standing: Standing) -> Table:
    """The best of the trials that were searched."""
    explored, metrics = standing.explored, measured_of(standing.space)
    values = ValueColumns(standing.space, explored)
    order = [standing.winner, *(trial for trial in ranked(explored) if trial is not standing.winner)]
    rows = [
        Row(
            [
                str(trial.number),
                *(metric.show(trial.last(metric)) for metric in metrics),
                str(len(trial.epochs)),
                *values.cells(trial),
                trial.status,
            ],
            "winner" if trial is standing.winner else "",
        )
        for trial in order[:_ROWS]
    ]
    heads = ["#", *headings(metrics), "epochs", *(head.replace("_", " ") for head in values.heads()), "ended"]
    more = f"; the best {_ROWS} of {len(order)}" if len(order) > _ROWS else ""
    before = 2 + len(metrics)
    numeric = {before + place for place, name in enumerate(values.names) if _is_number(name, explored)}
    caption = f"Trials by their last validation {metrics[0].label}, one seed each{more}."
    return Table(caption, heads, rows, {*range(before)} | numeric)


def _is_number(name: str, trials: Sequence[TrialRecord]) -> bool:
    return all(isinstance(trial.values.get(name, 0), int | float) for trial in trials)


def baselines_table(standing: Standing) -> Table | None:
    """What the winner is compared with."""
    baselines = ranked([trial for trial in standing.trials if trial.baseline and trial.repeats is None])
    if not baselines:
        return None
    judge = standing.winner.metric
    rows = []
    for trial in baselines:
        gap = gap_to(standing.trials, standing.winner, trial) if trial.status == FINISHED else None
        name = str(trial.baseline)
        what = BASELINES.get(name, "")
        cells = [
            str(trial.number),
            name,
            what,
            trial.values["pair"],
            trial.reached,
            points(gap, judge),
            trial.status,
        ]
        rows.append(Row(cells, "baseline"))
    heads = ["#", "baseline", "what it is", "pair", heading(judge), "against the winner", "ended"]
    caption = (
        f"Baselines, with the same data and budget and never stopped early. Differences in {judge.difference_unit}, "
        "with an interval where both were confirmed with fresh seeds."
    )
    return Table(caption, heads, rows, {0, 4, 5}, {2})


def pareto_table(standing: Standing) -> Table | None:
    """The trials that no other one beats in everything."""
    objectives, costs = standing.space.strategy.objectives, standing.search.costs
    if len(objectives) == 1 or (standing.space.strategy.costs and not costs):
        return None
    metrics = [OBJECTIVES[name] for name in objectives if name in OBJECTIVES]
    finished = [trial for trial in contenders(standing.trials) if trial.status == FINISHED]
    rows = []
    for trial in front(finished, objectives, costs):
        values = objective_values(trial, objectives, costs)
        reached = [metric.show(value) for metric, value in zip(metrics, values, strict=False)]
        cells = [str(trial.number), trial.values["pair"], *reached, *map(amount, values[len(metrics) :])]
        rows.append(Row(cells, "winner" if trial is standing.winner else ""))
    names = [name.replace("_", " ") for name in objectives if name not in OBJECTIVES]
    heads = ["#", "pair", *headings(metrics), *names]
    return Table("Pareto front: no other trial is better in everything.", heads, rows, {0, *range(2, len(heads))})


def rungs_table(rungs: Sequence[Rung], explored: Sequence[TrialRecord]) -> Table | None:
    """How many trials each rung stopped."""
    if not rungs:
        return None
    rows = [
        Row([str(rung.epoch), str(rung.reached), str(rung.stopped), str(rung.reached - rung.stopped)]) for rung in rungs
    ]
    stopped = sum(trial.status == STOPPED for trial in explored)
    caption = f"Where trials were stopped early: {stopped} of {len(explored)}."
    return Table(caption, ["after epoch", "came so far", "stopped there", "went on"], rows, {0, 1, 2, 3})
