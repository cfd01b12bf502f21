"""The tables that compare the trials of a search: with each other, by method, with baselines, and over fresh seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ctkd_search.analysis.by_method import MethodStanding, by_method
from ctkd_search.analysis.intervals import Estimate
from ctkd_search.analysis.pareto import front, objective_values
from ctkd_search.analysis.standing import confirmed, gap_to, over_methods
from ctkd_search.display.tables import BASELINE, WINNER, Row, Table
from ctkd_search.metrics import ACCURACY, AT_END, METRIC_OBJECTIVES, OBJECTIVES, Metric, measured
from ctkd_search.records.store import FINISHED, SearchRecord, TrialRecord, contenders, ranked
from ctkd_search.space.baselines import BASELINES
from ctkd_search.space.definition import Space
from ctkd_search.space.distributions import show
from ctkd_search.space.parameters import AUGMENT
from ctkd_search.text import digits

# Rows of a leaderboard, unless others are asked for.
ROWS = 30
# The joint coverage of the intervals of several differences; a verdict is given where one excludes 0.
TOGETHER = "the differences hold together in 95 % of searches"
# The columns of the table of methods; all but the name are numbers.
METHOD_HEADS = (
    *("method", "#", "its best", "mean", "95 % interval", "deviation", "n", "against the winner"),
    *("trials", "epochs"),
)


def heading(metric: Metric) -> str:
    """Returns the heading of a column of values on the validation images."""
    return "validation" if metric is ACCURACY else f"validation {metric.label}"


def headings(metrics: Sequence[Metric]) -> list[str]:
    """Returns the headings of several such columns."""
    return [heading(metrics[0])] if len(metrics) == 1 else [metric.short for metric in metrics]


def measured_of(space: Space) -> list[Metric]:
    """Returns the metrics that tables show of a space's trials, the one they are ranked by first."""
    asked = [
        *space.strategy.metrics,
        *(OBJECTIVES[name].name for name in space.strategy.objectives if name in OBJECTIVES),
    ]
    at_end = [AT_END[name] for name in space.strategy.objectives if name in AT_END]
    return [*measured(asked, space.strategy.judge.key), *at_end]


# Heads the column of values that only some of a search's methods have.
_OWN = "its own"


class ValueColumns:
    """The columns of trials' values: one for each value, or, in a search over methods, for those that all trials have.

    Values of one method alone are written in short into a last column, because most trials have few of them.

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
        """Returns the headings of the columns."""
        return [*(name.replace("attention_layers", "layers") for name in self.names), *[_OWN] * bool(self._own)]

    def cells(self, trial: TrialRecord) -> list[str]:
        """Returns the cells of a trial's row."""
        own = " ".join(self._space.words(trial.values, self._own))
        return [*(cell(trial.values, name) for name in self.names), *[own] * bool(self._own)]


def confirmed_table(trials: Sequence[TrialRecord], leader: TrialRecord | None, judge: Metric) -> Table | None:
    """Returns a table of the means of fresh seeds and their paired differences to the winner."""
    configs = confirmed(trials)
    if not configs:
        return None
    first = next((config for config in configs if config.trial is leader), None)
    several = over_methods(configs)
    rows = []
    for config in configs:
        found = config.estimate
        gap = gap_to(trials, first.trial, config.trial) if first and config is not first else None
        role = WINNER if config is first else BASELINE if config.trial.baseline else ""
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


def methods_table(trials: Sequence[TrialRecord], leader: TrialRecord | None, judge: Metric) -> Table | None:
    """Returns a table of each method's best trial, its mean and its cost."""
    compared = by_method(trials)
    if not compared:
        return None
    rows = [
        Row(method_cells(found, judge), WINNER if leader is not None and found.best is leader else "")
        for found in compared
    ]
    caption = (
        f"The best trial of each method (validation {judge.label}). Mean, interval and deviation are of fresh seeds; "
        f"differences in {judge.difference_unit}, paired by seed where both were confirmed. Trials and epochs are "
        "those that the search has spent on the method."
    )
    return Table(caption, list(METHOD_HEADS), rows, {*range(1, len(METHOD_HEADS))})


def trials_table(space: Space, explored: Sequence[TrialRecord], leader: TrialRecord | None, limit: int) -> Table:
    """Returns a table of the best trials that Optuna suggested."""
    metrics, values = measured_of(space), ValueColumns(space, explored)
    order = [*([] if leader is None else [leader]), *(trial for trial in ranked(list(explored)) if trial is not leader)]
    rows = [
        Row(
            [
                str(trial.number),
                *(metric.show(trial.last(metric)) for metric in metrics),
                str(len(trial.epochs)),
                *values.cells(trial),
                trial.status,
            ],
            WINNER if trial is leader else "",
        )
        for trial in order[:limit]
    ]
    heads = ["#", *headings(metrics), "epochs", *(head.replace("_", " ") for head in values.heads()), "ended"]
    more = f"; the best {limit} of {len(order)}" if len(order) > limit else ""
    before = 2 + len(metrics)
    numeric = {before + place for place, name in enumerate(values.names) if _is_number(name, explored)}
    caption = f"Trials by their last validation {metrics[0].label}, one seed each{more}."
    return Table(caption, heads, rows, {*range(before)} | numeric)


def _is_number(name: str, trials: Sequence[TrialRecord]) -> bool:
    return all(isinstance(trial.values.get(name, 0), int | float) for trial in trials)


def baselines_table(trials: Sequence[TrialRecord], leader: TrialRecord | None, judge: Metric) -> Table | None:
    """Returns a table of the baselines and their differences to the winner."""
    baselines = ranked([trial for trial in trials if trial.is_baseline_run])
    if not baselines:
        return None
    rows = []
    for trial in baselines:
        gap = gap_to(trials, leader, trial) if leader and trial.status == FINISHED else None
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
        rows.append(Row(cells, BASELINE))
    heads = ["#", "baseline", "what it is", "pair", heading(judge), "against the winner", "ended"]
    # If the augmentation is searched, all have the first alternative.
    augment = baselines[0].values.get(AUGMENT)
    views = f", augment {augment}," if augment else ""
    caption = (
        f"Baselines, with the same data and budget{views} and never stopped early. Differences in "
        f"{judge.difference_unit}, with an interval where both were confirmed with fresh seeds."
    )
    return Table(caption, heads, rows, {0, 4, 5}, {2})


def pareto_table(
    space: Space, search: SearchRecord, trials: Sequence[TrialRecord], leader: TrialRecord | None
) -> Table | None:
    """Returns a table of the trials on the Pareto front."""
    objectives, costs = space.strategy.objectives, search.costs
    if len(objectives) == 1 or (space.strategy.costs and not costs):
        return None
    metrics = [METRIC_OBJECTIVES[name] for name in objectives if name in METRIC_OBJECTIVES]
    finished = [trial for trial in contenders(trials) if trial.status == FINISHED]
    rows = []
    for trial in front(finished, objectives, costs):
        values = objective_values(trial, objectives, costs)
        reached = [metric.show(value) for metric, value in zip(metrics, values, strict=False)]
        cells = [str(trial.number), trial.values["pair"], *reached, *map(digits, values[len(metrics) :])]
        rows.append(Row(cells, WINNER if trial is leader else ""))
    names = [name.replace("_", " ") for name in objectives if name not in METRIC_OBJECTIVES]
    heads = ["#", "pair", *headings(metrics), *names]
    return Table("Pareto front: no other trial is better in everything.", heads, rows, {0, *range(2, len(heads))})


def method_cells(standing: MethodStanding, judge: Metric) -> list[str]:
    """Returns the cells of a method, in the order of `METHOD_HEADS`."""
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


def spread(found: Estimate, metric: Metric = ACCURACY) -> tuple[str, str, str, str]:
    """Returns the cells of an estimate: mean, 95 % interval, standard deviation, and number of values."""
    interval = "" if math.isinf(found.half_width) else f"± {metric.number(found.half_width)}"
    deviation = "" if math.isnan(found.deviation) else metric.number(found.deviation)
    return metric.show(found.mean), interval, deviation, str(found.n)


def points(gap: Estimate | None, metric: Metric = ACCURACY) -> str:
    """Returns a difference, in percentage points where values are percentages, with its interval if it has one."""
    if gap is None:
        return ""
    spread = "" if math.isinf(gap.half_width) else f" ± {metric.number(gap.half_width)}"
    return f"{metric.signed(gap.mean)}{spread}"


def cell(values: Mapping[str, Any], name: str) -> str:
    """Returns the value of a parameter as a table shows it; an empty text where there is none."""
    if name not in values:
        return ""
    value = values[name]
    return f"{value:.3g}" if isinstance(value, float) else show(value)
