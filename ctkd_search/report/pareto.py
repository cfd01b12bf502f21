"""Pictures of the Pareto front of a search with several objectives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.ticker import FuncFormatter

from ctkd_search.analysis.pareto import front, objective_values
from ctkd_search.metrics import METRIC_OBJECTIVES
from ctkd_search.pairs import split_pair
from ctkd_search.records.store import FINISHED, TrialRecord
from ctkd_search.report import style
from ctkd_search.report.style import Picture
from ctkd_search.space.definition import Space
from ctkd_search.space.sections import COSTS
from ctkd_search.text import digits, join_words

# More dots of a front than this are not named: the table below has them all.
_NAMED = 12
# Numbers of ten digits have room beside each other in so many steps.
_TICKS = 6


def pareto_fronts(
    space: Space, trials: Sequence[TrialRecord], costs: Mapping[str, Mapping[str, float]]
) -> list[Picture]:
    """Draws the first objective over each other one, with the trials on the Pareto front.

    Args:
        space: The space of the search.
        trials: Its trials that Optuna suggested.
        costs: Costs of each student.
    """
    objectives = space.strategy.objectives
    finished = [trial for trial in trials if trial.status == FINISHED]
    if len(objectives) == 1 or not finished:
        return []
    best = front(finished, objectives, costs)
    values = {trial.number: objective_values(trial, objectives, costs) for trial in finished}
    return [_over(space, place, finished, best, values) for place in range(1, len(objectives))]


def _over(
    space: Space,
    place: int,
    finished: Sequence[TrialRecord],
    best: Sequence[TrialRecord],
    values: Mapping[int, Sequence[float]],
) -> Picture:
    """Draws the first objective over the one at a place."""
    judge, name = space.strategy.judge, space.strategy.objectives[place]
    other = METRIC_OBJECTIVES.get(name)
    shown, written = (style.named(other), other.show) if other else (COSTS[name].label, digits)
    points = {trial.number: (values[trial.number][place], values[trial.number][0]) for trial in finished}
    others = [points[trial.number] for trial in finished if trial not in best]
    named = best if len(best) <= _NAMED else ()
    with style.drawing():
        figure, (axis,) = style.sheet(height=3.4)
        if others:
            axis.plot(*zip(*others, strict=True), "o", color=style.STOPPED, ms=5.5, label="another is better")
        ours = [points[trial.number] for trial in best]
        axis.plot(*zip(*ours, strict=True), "o", color=style.WINNER, ms=5.5, label="on the front")
        for trial in named:
            text = f"{trial.number}: {split_pair(trial.values['pair']).student}"
            axis.annotate(
                text, points[trial.number], xytext=(6, 4), textcoords="offset points", fontsize=8.5, parse_math=False
            )
        axis.set(xlabel=shown, ylabel=style.named(judge))
        axis.yaxis.set_major_formatter(style.values_of(judge))
        axis.xaxis.set_major_formatter(style.values_of(other) if other else FuncFormatter(lambda x, _: digits(x)))
        axis.locator_params("x", nbins=_TICKS)
        axis.margins(x=0.12, y=0.12)
        figure.legend(loc="outside upper center", ncols=2, fontsize=8.5)
        picture = style.png(figure)
    caption = (
        f"Validation {judge.label} over {shown} of the {len(finished)} trials that finished. Orange is the Pareto "
        f"front: no other trial is better in every objective{'; a number is that of its trial' * bool(named)}."
    )
    told = join_words([f"{judge.show(y)} at {written(x)}" for x, y in ours[:_NAMED]])
    return Picture(f"pareto-{name}", caption, f"{caption} On the front: {told}.", picture)
