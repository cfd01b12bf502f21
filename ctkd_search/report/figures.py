"""Pictures of the confirmation, of attention maps, and of the cost."""

from __future__ import annotations

from collections.abc import Sequence

from ctkd_search.analysis.standing import Confirmed, over_methods
from ctkd_search.records.store import TrialRecord
from ctkd_search.report import fonts, style
from ctkd_search.report.attention import AFTER, BEFORE, EXPERT, Looks
from ctkd_search.report.means import Means, arrows_told, draw_means
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
    names = [_name_of(config.trial, winner, several) for config in configs]
    rows = _rows(names, configs, winner)
    caption = (
        "Confirmed with fresh seeds: every tick is one seed, the diamond their mean, the line its 95 % interval (cut "
        "off where it leaves the picture). Seeds differ in stream, teachers and initial weights, and each is shared by "
        "all rows, so that the paired differences in the table are more precise than the overlap of the lines."
        f"{arrows_told(rows, judge)}"
    )
    means = "; ".join(f"{row.name} {judge.show(row.estimate.mean)}" for row in rows)
    return Picture("confirmation", caption, f"Means with fresh seeds: {means}.", draw_means(rows, judge))


def methods(compared: Sequence[tuple[str, Confirmed]], winner: TrialRecord) -> Picture:
    """Draws the results of each method's best config with fresh seeds.

    Args:
        compared: Methods with their confirmed configs.
        winner: The winner.
    """
    judge = winner.metric
    names = [f"{method} (trial {config.trial.number})" for method, config in compared]
    rows = _rows(names, [config for _, config in compared], winner)
    means = "; ".join(f"{method} {judge.show(config.estimate.mean)}" for method, config in compared)
    caption = (
        "The best config of each method with fresh seeds, drawn as above: every tick is one seed, the diamond their "
        f"mean, the line its 95 % interval.{arrows_told(rows, judge)}"
    )
    return Picture("methods", caption, f"Means of the methods with fresh seeds: {means}.", draw_means(rows, judge))


def _rows(names: Sequence[str], configs: Sequence[Confirmed], winner: TrialRecord) -> list[Means]:
    """Returns the rows of a picture of means."""
    return [
        Means(
            name,
            list(config.values.values()),
            config.estimate,
            style.WINNER if config.trial is winner else _colour(config.trial),
        )
        for name, config in zip(names, configs, strict=True)
    ]


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
