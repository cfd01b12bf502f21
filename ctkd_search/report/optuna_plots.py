"""Optuna's own plots of a search."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
import optuna
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from ctkd_search.metrics import Metric
from ctkd_search.records.store import TrialRecord
from ctkd_search.report import style
from ctkd_search.report.outliers import far_below
from ctkd_search.report.series import judged
from ctkd_search.report.style import Picture
from ctkd_search.space.definition import Space
from ctkd_search.space.distributions import Constant
from ctkd_search.space.parameters import METHOD
from ctkd_search.text import amount, join_words

# With fewer trials an importance is unreliable, because Optuna compares the best tenth with the rest.
ENOUGH = 10
# A parameter that fewer trials have is not plotted.
_VISIBLE = 3
_BESIDE_EACH_OTHER = 4
# Backends of matplotlib that open no window for a figure; with others, Agg draws instead.
_WITHOUT_WINDOWS = ("agg", "inline", "module://matplotlib_inline.backend_inline")


@dataclasses.dataclass(frozen=True)
class Comparable:
    """Trials that can be compared with each other, because all have reached the same epoch.

    Attributes:
        epoch: The epoch.
        study: The trials as a study of Optuna's, with the values of the metric after that epoch.
        trials: Number of trials.
        last: Whether the epoch is the last one of a trial.
        metric: The metric that trials are ranked by.
        left_out: Number of trials that are not among them, because they are far worse.
    """

    epoch: int
    study: optuna.Study
    trials: int
    last: bool
    metric: Metric
    left_out: int = 0


def comparable(space: Space, trials: Sequence[TrialRecord]) -> Comparable | None:
    """Returns the trials at the latest rung, or at the end, that enough of them reached; None before the first rung.

    Optuna's plots leave out trials that were stopped early. ASHA stops most trials of a search, and their values at a
    rung can be compared with those of all others there, so that the plots are made of these values.

    Args:
        space: The space.
        trials: The explored trials.
    """
    rungs = space.rungs
    stops = [space.budget.epochs, *reversed(rungs)]
    reached = {stop: [trial for trial in trials if _has(trial, stop)] for stop in stops}
    enough = min(ENOUGH, len(reached[stops[-1]]))
    if not enough:
        return None
    epoch = next(stop for stop in stops if len(reached[stop]) >= enough)
    study = _study(space, reached[epoch], space.strategy.directions[:1], lambda trial: [judged(trial)[epoch - 1]])
    return Comparable(epoch, study, len(reached[epoch]), epoch == space.budget.epochs, space.strategy.judge)


def importances(found: Comparable, space: Space) -> Picture | str:
    """Draws the importance of each parameter; returns a sentence where that is not possible."""
    if found.trials < ENOUGH:
        return (
            f"Parameter importances are left out: {amount(found.trials, 'trial')} reached epoch {found.epoch}, and "
            f"with fewer than {ENOUGH} trials they would be unreliable."
        )
    if len({trial.value for trial in found.study.trials}) == 1:
        return f"Parameter importances are left out: every trial reached the same {found.metric.label}."
    common = [name for name, count in _counts(space, found).items() if count >= ENOUGH]
    rare = [name for name in _varied(space, found) if name not in common]
    left_out = f" Left out, because fewer than {ENOUGH} trials have it: {', '.join(rare)}." if rare else ""
    if not common:
        return f"Parameter importances are left out: fewer than {ENOUGH} trials have any one of {', '.join(rare)}."
    with _plotting() as plots:
        axis = plots.plot_param_importances(found.study, params=common, target_name=_at(found))
        for bar in axis.patches:
            bar.set_color(style.FINISHED)
        axis.set_xlabel("importance")
        axis.set_ylabel("")
        if axis.get_legend():
            axis.get_legend().remove()
        names = [label.get_text() for label in axis.get_yticklabels()]
        picture = _png(axis.figure, 0.9 + 0.34 * len(names))
    caption = (
        f"The importance of each parameter for the {_at(found)}, in {amount(found.trials, 'trial')} (Optuna's "
        "PED-ANOVA, arXiv 2304.10255): how differently the best tenth of the trials is spread over the parameter."
        + ("" if found.last else " Parameters that matter early need not matter at the end.")
        + left_out
    )
    return Picture("importances", caption, f"Parameters by importance, from the last: {', '.join(names)}.", picture)


def parallel_coordinates(found: Comparable, space: Space) -> Picture | str:
    """Draws every trial as a line through its values, for the parameters that every trial has."""
    found = _without_far_worse(found)
    names = [name for name in _varied(space, found) if all(name in trial.params for trial in found.study.trials)]
    if not names:
        return "Parallel coordinates are left out: no parameter of every trial took several values."
    with _plotting() as plots:
        axis = plots.plot_parallel_coordinate(found.study, params=names, target_name=_at(found))
        figure = axis.figure
        labels = [label.get_text().replace(_at(found), found.metric.label) for label in axis.get_xticklabels()]
        axis.set_xticks(range(len(labels)), labels, rotation=0)
        axis.yaxis.set_major_formatter(style.values_of(found.metric))
        (lines,) = axis.collections
        # The first axis shows the same scale.
        lines.colorbar.remove()
        # The worst trials must be visible on white, too.
        low, high = lines.get_clim()
        beyond = 0.4 * (high - low)
        lines.set_clim(*((low - beyond, high) if found.metric.goal == "max" else (low, high + beyond)))
        for other in figure.axes:
            for label in other.get_yticklabels():
                label.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5})
        picture = _png(figure, 3.8, grid=False)
    left_out = [name for name in _varied(space, found) if name not in names]
    caption = (
        f"Every line is a trial, from its {_at(found)} at the left through its values ("
        f"{amount(found.trials, 'trial')}; dark is better).{_left_out(found)}"
        + (f" Left out, because only some trials have it: {', '.join(left_out)}." if left_out else "")
    )
    return Picture("parallel-coordinates", caption, f"Parallel coordinates of {', '.join(names)}.", picture, wide=True)


def slices(found: Comparable, space: Space) -> list[Picture]:
    """Draws the trials' metric over each single parameter, a few parameters in a picture."""
    found = _without_far_worse(found)
    # As Optuna orders them.
    counts = _counts(space, found)
    # Methods are compared in a section of their own.
    names = sorted(name for name in _varied(space, found) if counts[name] >= _VISIBLE and name != METHOD.name)
    count = math.ceil(len(names) / _BESIDE_EACH_OTHER)
    size = math.ceil(len(names) / max(1, count))
    groups = [names[start : start + size] for start in range(0, len(names), size)] if names else []
    pictures = []
    for number, group in enumerate(groups, start=1):
        with _plotting() as plots:
            axes = plots.plot_slice(found.study, params=group, target_name=_at(found))
            first = axes[0] if len(group) > 1 else axes
            *plotted, colours = first.figure.axes
            # Optuna counts the trials in the plot, which are not all of the search's.
            colours.set(ylabel="earlier to later trials", yticks=[])
            for axis in plotted:
                axis.tick_params(axis="x", labelrotation=25, labelsize=8)
                labels = [text.get_text() for text in axis.get_xticklabels()]
                if any(label.startswith("'") for label in labels):
                    # Optuna quotes choices.
                    axis.set_xticks(axis.get_xticks(), [label.strip("'") for label in labels])
            first.yaxis.set_major_formatter(style.values_of(found.metric))
            picture = _png(first.figure, 2.9)
        caption = (
            f"The {_at(found)} over {join_words(group)}, {amount(found.trials, 'trial')}; dark dots are later ones."
            f"{_left_out(found)}"
        )
        pictures.append(Picture(f"slices-{number}", caption, caption, picture, wide=True))
    return pictures


def _without_far_worse(found: Comparable) -> Comparable:
    """Returns the trials without those beside which the others could not be told apart."""
    trials = found.study.trials
    outside = far_below([[trial.value or 0.0] for trial in trials], found.metric.sign)
    if not outside:
        return found
    study = optuna.create_study(directions=found.study.directions)
    study.add_trials([trial for position, trial in enumerate(trials) if position not in outside])
    return dataclasses.replace(found, study=study, trials=len(trials) - len(outside), left_out=len(outside))


def _left_out(found: Comparable) -> str:
    return f" Left out: {amount(found.left_out, 'trial')} far worse than the others." if found.left_out else ""


def _study(space: Space, trials: Sequence[TrialRecord], directions: list[str], values: Any) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=directions)
    distributions = {name: space.entries[name].distribution() for name in _searched(space)}  # type: ignore[union-attr]
    for trial in trials:
        chosen = {name: distributions[name] for name in trial.stored}
        study.add_trial(optuna.create_trial(values=values(trial), params=trial.stored, distributions=chosen))
    return study


def _searched(space: Space) -> list[str]:
    return [name for name, entry in space.entries.items() if not isinstance(entry, Constant)]


def _counts(space: Space, found: Comparable) -> dict[str, int]:
    """Returns the number of trials that have each of the searched parameters."""
    return {name: sum(name in trial.params for trial in found.study.trials) for name in _searched(space)}


def _varied(space: Space, found: Comparable) -> list[str]:
    """Returns the searched parameters that took several values."""
    values = {name: {trial.params.get(name) for trial in found.study.trials} - {None} for name in _searched(space)}
    return [name for name, taken in values.items() if len(taken) > 1]


def _has(trial: TrialRecord, epoch: int) -> bool:
    return len(trial.epochs) >= epoch and math.isfinite(judged(trial)[epoch - 1])


def _at(found: Comparable) -> str:
    return f"validation {found.metric.label} after epoch {found.epoch}"


@contextlib.contextmanager
def _plotting() -> Iterator[Any]:
    """Yields Optuna's plots, which pyplot draws; closes its figures and restores its settings afterwards."""
    # As it is set, without choosing one where none is yet.
    backend = dict.__getitem__(matplotlib.rcParams, "backend")
    opens_windows = not (isinstance(backend, str) and backend.lower() in _WITHOUT_WINDOWS)
    if opens_windows:
        matplotlib.use("Agg")
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as plots

    before = set(pyplot.get_fignums())
    with style.drawing(), warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # The caption contains the number of trials.
        warnings.filterwarnings("ignore", message="Some regimes for parameter")
        try:
            yield plots
        finally:
            for number in set(pyplot.get_fignums()) - before:
                pyplot.close(number)
            if opens_windows:
                _restore_backend(backend)


def _restore_backend(backend: Any) -> None:
    """Gives back the backend that the user's own figures have; the value for none yet lets pyplot choose one."""
    from matplotlib import pyplot

    try:
        pyplot.switch_backend(backend)
    except ImportError:  # named in the environment, but without a display
        matplotlib.rcParams["backend"] = backend


def _png(figure: Figure, height: float, grid: bool = True) -> bytes:
    """Returns one of Optuna's drawings as a PNG in the report's style."""
    figure.set_size_inches(style.WIDTH, height)
    figure.suptitle("")
    for axis in figure.axes:
        axis.set_title("")
        axis.set_title("", loc="left")
        axis.set_facecolor("white")
        axis.grid(visible=grid)
        if grid:
            axis.grid(color=style.FAINT)
        for side in (axis.xaxis, axis.yaxis):
            side.label.set(color=style.INK, fontsize=9.5)
            side.set_tick_params(labelsize=8.5, labelcolor=style.INK)
            if side.get_scale() == "log":
                low, high = side.get_view_interval()
                side.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 20 * low else (1,)))
                side.set_major_formatter(StrMethodFormatter("{x:g}"))
                side.set_minor_formatter(NullFormatter())
    return style.png(figure, tight=True)
