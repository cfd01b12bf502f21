"""Pictures of the confirmation, of attention maps, and of the cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from ctkd_search.analysis.standing import Confirmed, over_methods
from ctkd_search.metrics import Metric
from ctkd_search.records.store import TrialRecord
from ctkd_search.report import fonts, style
from ctkd_search.report.attention import AFTER, BEFORE, EXPERT, Looks
from ctkd_search.report.outliers import far_below
from ctkd_search.report.spending import Spending
from ctkd_search.report.style import Picture
from ctkd_search.text import clock


def confirmation(configs: Sequence[Confirmed], winner: TrialRecord) -> Picture:
    """Draws the results of every confirmed config and baseline with fresh seeds.

    Args:
        configs: The confirmed configs, best mean first.
        winner: The winner.
    """
    judge = winner.metric
    several = over_methods(configs)
    rows = [(_name_of(config.trial, winner, several), config) for config in configs]
    told = _told_of(configs)
    caption = (
        "Confirmed with fresh seeds: every tick is one seed, the diamond their mean, the line its 95 % interval (cut "
        "off where it leaves the picture). Seeds differ in stream, teachers and initial weights, and each is shared by "
        f"all rows, so that the paired differences in the table are more precise than the overlap of the lines.{told}"
    )
    means = "; ".join(f"{name} {judge.show(config.estimate.mean)}" for name, config in rows)
    return Picture("confirmation", caption, f"Means with fresh seeds: {means}.", _means(rows, winner))


def methods(compared: Sequence[tuple[str, Confirmed]], winner: TrialRecord) -> Picture:
    """Draws the results of each method's best config with fresh seeds.

    Args:
        compared: Methods with their confirmed configs.
        winner: The winner.
    """
    judge = winner.metric
    rows = [(f"{method} (trial {config.trial.number})", config) for method, config in compared]
    means = "; ".join(f"{method} {judge.show(config.estimate.mean)}" for method, config in compared)
    caption = (
        "The best config of each method with fresh seeds, drawn as above: every tick is one seed, the diamond their "
        f"mean, the line its 95 % interval.{_told_of([config for _, config in compared])}"
    )
    return Picture("methods", caption, f"Means of the methods with fresh seeds: {means}.", _means(rows, winner))


def _means(rows: Sequence[tuple[str, Confirmed]], winner: TrialRecord) -> bytes:
    """Draws means with their intervals and seeds, a row each; of rows far below the others, an arrow and the mean."""
    judge, configs = winner.metric, [config for _, config in rows]
    outside = _outside(configs)
    low, high = _limits([config for row, config in enumerate(configs) if row not in outside], judge)
    with style.drawing():
        figure, (axis,) = style.sheet(height=0.75 + 0.38 * len(configs))
        for row, config in enumerate(configs):
            colour = style.WINNER if config.trial is winner else _colour(config.trial)
            if row in outside:
                _arrow(axis, row, judge.show(config.estimate.mean), colour, left=judge.sign > 0)
                continue
            found = config.estimate
            if not math.isinf(found.half_width):
                ends = (found.mean - found.half_width, found.mean + found.half_width)
                axis.plot(ends, (row, row), color=colour, lw=2.2, alpha=0.55)
            values = list(config.values.values())
            axis.plot(values, [row] * len(values), "|", color=colour, ms=11, mew=1.3)
            axis.plot(found.mean, row, "D", color=colour, ms=6.5, mec="white")
        axis.set_yticks(range(len(configs)), [name for name, _ in rows])
        axis.set_xlim(low, high)
        axis.set_ylim(len(configs) - 0.5, -0.5)
        axis.grid(visible=False, axis="y")
        axis.xaxis.set_major_formatter(style.values_of(judge))
        axis.set_xlabel(style.named(judge))
        return style.png(figure)


def _limits(configs: Sequence[Confirmed], judge: Metric) -> tuple[float, float]:
    """Returns the ends of the axis: an interval from few seeds may reach far beyond the possible values of shares."""
    points = [value for config in configs for value in config.values.values()]
    margin = max(0.01, 0.6 * (max(points) - min(points)))
    highest = max(points) + margin
    return max(0.0, min(points) - margin), min(1.0, highest) if judge.unit == "%" else highest


def _outside(configs: Sequence[Confirmed]) -> set[int]:
    """Returns the positions of the configs of which an arrow is drawn; see `far_below`."""
    if not configs:
        return set()
    return far_below([list(config.values.values()) for config in configs], configs[0].trial.metric.sign)


def _arrow(axis: Axes, row: int, value: str, colour: str, left: bool) -> None:
    """Draws an arrow at the edge of an axis, and beside it the value that lies beyond."""
    edge, inside, side = (0.0, 0.02, "left") if left else (1.0, 0.98, "right")
    across = axis.get_yaxis_transform()
    axis.plot(edge, row, "<" if left else ">", color=colour, ms=7, transform=across, clip_on=False)
    axis.text(inside, row, value, color=colour, transform=across, ha=side, va="center", fontsize=8.5)


def _told_of(configs: Sequence[Confirmed]) -> str:
    """Returns the sentence on arrows, if there are any."""
    return " An arrow stands for a mean far outside the picture, beside its value." if _outside(configs) else ""


def attention(looks: Looks) -> Picture:
    """Draws images with the attention maps of the expert and of the student."""
    # The columns of a row: the image, then for each layer a gap and the three networks.
    places: list[tuple[int, str] | None] = [(0, "image")]
    for layer in looks.layers:
        places += [None, (layer, EXPERT), (layer, BEFORE), (layer, AFTER)]
    widths = [0.2 if place is None else 1.0 for place in places]
    rows = len(looks.images)
    labels, legend = _row_labels(looks.classes)
    with style.drawing():
        height = 0.6 + rows * min(0.8, 0.93 * style.WIDTH / sum(widths))
        figure, axes = style.sheet(rows, len(places), height=height, width_ratios=widths)
        for index, axis in enumerate(axes):
            row, column = divmod(index, len(places))
            place = places[column]
            axis.set(xticks=[], yticks=[])
            axis.grid(visible=False)
            axis.spines[:].set_visible(False)
            if place is None:
                axis.set_visible(False)
            elif place[1] == "image":
                image = looks.images[row]
                axis.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray")
                label = axis.set_ylabel(labels[row], rotation=0, ha="right", va="center", fontsize=8.5)
                label.set_parse_math(False)
            else:
                # One scale for the three maps of a layer, so that a map without a focus is dark.
                brightest = max(looks.maps[place[0], name][row].max() for name in (EXPERT, BEFORE, AFTER))
                found = looks.maps[place][row]
                axis.imshow(found, cmap="inferno", vmin=0.0, vmax=brightest, interpolation="bilinear")
            if place is not None and row == 0:
                layer, name = place
                colour = {EXPERT: style.EXPERT, AFTER: style.WINNER}.get(name, style.INK)
                text = f"layer {layer}\n{name}" if name == EXPERT else name.replace(" ", "\n")
                axis.set_title(text, fontsize=8.5, color=colour)
        picture = style.png(figure)
    numbers = "; ".join(
        f"layer {layer}: {before:.2f} before, {after:.2f} after" for layer, (before, after) in looks.similarity.items()
    )
    caption = (
        "Attention maps of the networks on a few validation images, as in figure 3 of the CTKD paper: the expert, "
        "the student with its initial weights, and the winner's student. Bright is where activations are strong; the "
        "three maps of a layer share one scale. Mean cosine similarity with the expert's map over "
        f"{looks.compared:,} validation "
        f"images: {numbers}.{legend}"
    )
    return Picture("attention", caption, f"Attention maps on {rows} images. {numbers}.", picture, wide=True)


def cost(spending: Spending) -> Picture | None:
    """Draws the time that the search spent, and the estimate for live teachers; None where either is unknown."""
    spent, live = spending.spent, spending.live
    if spent is None or live is None:
        return None
    # Each part, with its colour, with recorded teachers and with live ones.
    parts = (
        ("teachers, before the trials", style.EXPERT, spending.teachers, spending.experts),
        ("trials", style.FINISHED, spending.trials, spending.trials),
        ("recording experts, once", "#C8A2C8", spending.recording, 0.0),
        ("scratch teachers, in every trial", style.SCRATCH, 0.0, spending.live_scratch),
        ("experts, in every trial", "#DDAAD0", 0.0, spending.live_expert),
    )
    minutes = [[(seconds or 0.0) / 60 for seconds in both] for _, _, *both in parts]
    with style.drawing():
        figure, (axis,) = style.sheet(height=2.1)
        lefts = [0.0, 0.0]
        for (name, colour, *_), widths in zip(parts, minutes, strict=True):
            axis.barh((0, 1), widths, left=lefts, height=0.6, color=colour, label=name)
            lefts = [left + width for left, width in zip(lefts, widths, strict=True)]
        for row, end in enumerate(lefts):
            axis.text(end, row, f" {clock(60 * end)}", va="center")
        axis.set_yticks((0, 1), ["recorded teachers\n(measured)", "live teachers\n(estimate)"])
        axis.set_ylim(1.5, -0.5)
        axis.set_xlim(0, max(lefts) * 1.14)
        axis.grid(visible=False, axis="y")
        axis.set_xlabel("minutes, summed over everything that ran side by side")
        figure.legend(loc="outside upper center", ncols=3, fontsize=8.5)
        picture = style.png(figure)
    caption = "The time that the search spent, and an estimate of the time with live teachers."
    return Picture("cost", caption, f"Recorded teachers: {clock(spent)}; live, estimated: {clock(live)}.", picture)


def _name_of(trial: TrialRecord, winner: TrialRecord, several_methods: bool) -> str:
    if trial.baseline:
        return f"{trial.baseline} ({trial.values['pair']})"
    method = f" ({trial.method})" if several_methods else ""
    return f"{'winner: ' if trial is winner else ''}trial {trial.number}{method}"


def _colour(trial: TrialRecord) -> str:
    return style.BASELINE if trial.baseline else style.FINISHED


def _row_labels(names: Sequence[str]) -> tuple[list[str], str]:
    """Returns the labels of the rows, with numbers for names that no installed font has, and a legend of those."""
    numbered = {row: name for row, name in enumerate(names, start=1) if not fonts.is_drawable(name)}
    labels = [f"row {row}" if row in numbered else _short(name) for row, name in enumerate(names, start=1)]
    legend = "; ".join(f"row {row}: {name}" for row, name in numbered.items())
    return labels, f" {legend}." if legend else ""


def _short(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= 10 else f"{name[:9]}…"
