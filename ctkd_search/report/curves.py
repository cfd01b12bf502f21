"""Pictures of accuracies over epochs and over the search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ctkd_search.metrics import ACCURACY, Metric
from ctkd_search.pairs import split_pair
from ctkd_search.records.store import FINISHED, PAUSED, STOPPED, TrialRecord
from ctkd_search.report import style
from ctkd_search.report.outliers import far_below
from ctkd_search.report.series import Finish, Rung, judged, mean_curve
from ctkd_search.report.style import Picture
from ctkd_search.space.baselines import is_teacherless
from ctkd_search.text import amount, percent

# Shorter trainings need no enlarged second half.
_ZOOMED = 4


def best_over_time(finishes: Sequence[Finish], winner: TrialRecord, end: tuple[float, int]) -> Picture:
    """Draws the best value so far over time and over epochs.

    Args:
        finishes: The trials that finished, in the order in which they did.
        winner: The winner.
        end: Seconds and epochs at the end of the last trial.
    """
    unit, divisor = _unit(end[0])
    judge = winner.metric
    outside = far_below([[finish.value] for finish in finishes], judge.sign)
    shown = [finish.value for position, finish in enumerate(finishes) if position not in outside]
    with style.drawing():
        figure, axes = style.sheet(columns=2, height=2.9, sharey=True)
        places = ([finish.seconds / divisor for finish in finishes], [float(finish.epochs) for finish in finishes])
        for axis, xs, last in zip(axes, places, (end[0] / divisor, float(end[1])), strict=True):
            best = [finish.best for finish in finishes]
            axis.step([*xs, last], [*best, best[-1]], where="post", color=style.INK, lw=1.6, label="best so far")
            axis.plot(xs, [f.value for f in finishes], "o", color=style.FINISHED, ms=4, label="trial that finished")
            for x, finish in zip(xs, finishes, strict=True):
                if finish.trial == winner.number:
                    axis.plot(x, finish.value, "*", color=style.WINNER, ms=14, label="winner", zorder=4)
            axis.set_xlim(0, last * 1.02)
            if outside:
                axis.set_ylim(*_range_of(shown))
            axis.yaxis.set_major_formatter(style.values_of(judge))
        axes[0].set(xlabel=f"{unit} in which trials ran", ylabel=style.named(judge))
        axes[1].set(xlabel="epochs trained by all trials together")
        axes[1].legend(loc=_free_corner(judge))
        picture = style.png(figure)
    caption = (
        f"The best validation {judge.label} of a finished trial so far, over the time in which trials ran (left; "
        "pauses left out) and over the epochs that all suggested trials together had trained (right). Every dot is a "
        "trial that finished; trials that were stopped early cost epochs but have no dot."
        + (f" Left out: {amount(len(outside), 'trial')} far worse than the others." if outside else "")
    )
    moving = "rising" if judge.goal == "max" else "falling"
    first, final = judge.show(finishes[0].best), judge.show(finishes[-1].best)
    alt = f"Best validation {judge.label} {moving} from {first} to {final}."
    return Picture("best-so-far", caption, alt, picture)


def learning_curves(trials: Sequence[TrialRecord], winner: TrialRecord, rungs: Sequence[Rung]) -> Picture:
    """Draws every trial's learning curve, with marks of early stops, the winner and the baselines of its pair.

    Args:
        trials: Every trial of the search.
        winner: The winner.
        rungs: The scheduler's rungs.
    """
    explored = [trial for trial in trials if trial.explores and trial.epochs and trial is not winner]
    baselines = baselines_of(trials, winner)

    def draw(axis: Axes) -> None:
        for rung in rungs:
            axis.axvline(rung.epoch, color=style.FAINT, lw=5, zorder=0)
        for trial in explored:
            stopped = trial.status in (STOPPED, PAUSED)
            colour = style.STOPPED if stopped else style.FINISHED
            axis.plot(_epochs(trial.epochs), judged(trial), color=colour, lw=1, zorder=2 if stopped else 3)
            if trial.status != FINISHED:
                axis.plot(len(trial.epochs), judged(trial)[-1], "x" if stopped else ".", color=colour, ms=6, mew=1.6)
        for number, (name, trial) in enumerate(baselines.items()):
            line = style.LINES[number % len(style.LINES)]
            values = judged(trial)
            axis.plot(_epochs(values), values, color=style.BASELINE, lw=1.5, ls=line, label=name, zorder=4)
        values = judged(winner)
        axis.plot(_epochs(values), values, "o-", ms=3.5, color=style.WINNER, lw=2.4, zorder=5, label="winner")
        for label, colour, mark, ended in (
            ("finished", style.FINISHED, "", (FINISHED,)),
            ("stopped early", style.STOPPED, "x", (STOPPED, PAUSED)),
        ):
            if any(trial.status in ended for trial in explored):
                axis.plot([], [], color=colour, lw=1, marker=mark, mew=1.6, label=label)

    finished = [trial for trial in (*explored, *baselines.values(), winner) if trial.status == FINISHED]
    picture = _whole_and_end(draw, [judged(trial) for trial in finished], winner.metric, height=4.0)
    stopped_at = ", ".join(f"{rung.stopped} after epoch {rung.epoch}" for rung in rungs if rung.stopped)
    caption = (
        f"Validation {winner.metric.label} of every trial after each epoch. "
        + ("Grey bars are the scheduler's rungs; a cross is where it stopped a trial. " if rungs else "")
        + "The winner is orange"
        + (f", the baselines of {winner.values['pair']} are blue" if baselines else "")
        + ". Curves of one seed each."
    )
    alt = f"Learning curves of {len(explored) + 1} trials; stopped early: {stopped_at or 'none'}."
    return Picture("learning-curves", caption, alt, picture)


def baselines_of(trials: Sequence[TrialRecord], winner: TrialRecord) -> dict[str, TrialRecord]:
    """Returns the baselines of a trial's pair, and those of its student without a teacher, by name."""
    student = split_pair(winner.values["pair"]).student
    found: dict[str, TrialRecord] = {}
    for trial in trials:
        if trial.is_baseline_run and trial.epochs:
            name, pair = str(trial.baseline), trial.values["pair"]
            if pair == winner.values["pair"] or (is_teacherless(name) and split_pair(pair).student == student):
                found[name] = trial
    return found


def teaching(groups: Mapping[str, tuple[str, Sequence[Sequence[float]]]]) -> Picture:
    """Draws scratch teacher, taught student and student alone over the epochs (figure 5a of arXiv 1907.09643).

    Args:
        groups: By label, the colour and the curves of each seed.
    """

    def draw(axis: Axes) -> None:
        for label, (colour, curves) in groups.items():
            if len(curves) > 1:
                for curve in curves:
                    axis.plot(_epochs(curve), curve, color=colour, lw=0.8, alpha=0.4)
            mean = mean_curve(curves)
            axis.plot(_epochs(mean), mean, "o-", ms=3, color=colour, lw=2.2, label=label)

    picture = _whole_and_end(draw, [curve for _, curves in groups.values() for curve in curves], ACCURACY, height=3.6)
    most = max(len(curves) for _, curves in groups.values())
    caption = "Validation accuracy after each epoch, as in figure 5a of the CTKD paper. " + (
        f"Thick lines are means of the seeds with which the winner was confirmed ({most}), thin lines single seeds."
        if most > 1
        else "One seed each."
    )
    lasts = ", ".join(f"{label} {percent(mean_curve(curves)[-1])}" for label, (_, curves) in groups.items())
    return Picture(
        "teaching", caption, f"{amount(len(groups), 'learning curve')}; after the last epoch: {lasts}.", picture
    )


def _whole_and_end(
    draw: Callable[[Axes], None], curves: Sequence[Sequence[float]], metric: Metric, height: float
) -> bytes:
    """Draws curves over all epochs and, for longer trainings, their second half enlarged.

    Args:
        draw: Draws the curves into axes.
        curves: The curves that set the range of the enlarged half, but for those far worse than the others.
        metric: The metric of the curves.
        height: Height in inches.
    """
    last = max((len(curve) for curve in curves), default=0)
    middle = (last + 1) // 2
    ends = [curve[middle - 1 :] for curve in curves if len(curve) >= middle]
    outside = far_below(ends, metric.sign)
    values = [value for position, end in enumerate(ends) if position not in outside for value in end]
    with style.drawing():
        if last < _ZOOMED:
            figure, axes = style.sheet(height=height)
        else:
            figure, axes = style.sheet(columns=2, height=height, width_ratios=(3, 2))
            axes[1].set(xlim=(middle - 0.2, last + 0.3), ylim=_range_of(values))
        for axis in axes:
            draw(axis)
            axis.set(xlabel="epoch" if axis is axes[0] else f"epochs {middle} to {last}, enlarged")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.yaxis.set_major_formatter(style.values_of(metric))
        axes[0].set_ylabel(style.named(metric))
        axes[0].legend(loc="best", frameon=True, framealpha=0.8, edgecolor="none")
        return style.png(figure)


def _range_of(values: Sequence[float]) -> tuple[float, float]:
    """Returns the ends of an axis with these values."""
    margin = 0.04 * (max(values) - min(values)) + 0.001
    return min(values) - margin, max(values) + margin


def _free_corner(metric: Metric) -> str:
    """Returns the corner that improving curves leave free."""
    return "lower right" if metric.goal == "max" else "upper right"


def _epochs(curve: Sequence[object]) -> range:
    return range(1, len(curve) + 1)


def _unit(seconds: float) -> tuple[str, float]:
    """Returns a readable unit for a time, and the seconds of that unit."""
    if seconds < 180:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds < 10800 else ("hours", 3600.0)
