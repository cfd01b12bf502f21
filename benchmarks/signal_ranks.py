"""Which early signal ranks the trainings of a table as their end does, and which rungs keep the best of them.

    python benchmarks/signal_ranks.py [digits cifar ...] [--draws 2000] [--trials 27]

The end is the accuracy on the images that the search never sees. No search is simulated: `search_arms.py` does that.
A table that is still being recorded is read as far as it is.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from common import header
from scipy.stats import rankdata
from tables import DIRECTORY, PLANS, load

Array = np.ndarray[Any, Any]
# Signals by which trials could be compared, as they are named in the table; of losses less is better.
COMPARED = (
    *("accuracy", "loss", "averaged_0.5_accuracy", "averaged_0.5_loss", "averaged_1_accuracy", "averaged_1_loss"),
)
RUNGS = ((1, 3), (2, 6), (3, 9), (4, 12), (1, 3, 9), (2, 4, 8), (2,), (3,), (4,), (6,), (9,))
REDUCTION = 3
_BOOTSTRAPS = 400
# Fewer recorded trainings than this are not analysed.
FEWEST = 15


class Curves:
    """The recorded trainings of a table's configs with their first seeds.

    Attributes:
        signals: By name: one row a training, one column an epoch; more is better, -inf where a training had diverged.
        ends: Accuracy of each on the unseen images, in points; -inf where it diverged.
        points: The values of each.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        epochs = max(len(rows) for rows in content["rows"] if rows)
        chosen = [
            number
            for number, ((_, seed), rows) in enumerate(zip(content["points"], content["rows"], strict=True))
            if rows is not None and seed == 0
        ]
        self.points = [content["points"][number][0] for number in chosen]
        self.ends = np.array(
            [100 * content["ends"][number][0] if content["ends"][number] else -np.inf for number in chosen]
        )
        self.signals = {}
        for name in COMPARED:
            column, sign = content["signals"].index(name), -1.0 if name.endswith("loss") else 1.0
            values = np.full((len(chosen), epochs), -np.inf)
            for row, number in enumerate(chosen):
                found = [sign * measured[column] for measured in content["rows"][number]]
                if content["ends"][number]:
                    values[row, : len(found)] = found
                else:  # the epoch in which it diverged does not count
                    values[row, : len(found) - 1] = found[:-1]
            self.signals[name] = np.where(np.isfinite(values), values, -np.inf)

    @property
    def epochs(self) -> int:
        """Epochs of a training."""
        return int(self.signals["accuracy"].shape[1])

    @property
    def finished(self) -> Array:
        """The numbers of those that came to their end."""
        return np.flatnonzero(np.isfinite(self.ends))

    def better_half(self) -> Array:
        """The numbers of the half with the better ends."""
        finished = self.finished
        return finished[self.ends[finished] >= np.median(self.ends[finished])]


def seeds_deviation(content: Mapping[str, Any]) -> tuple[float, int]:
    """Standard deviation of the end between two seeds of a config, in points, and the number of such configs."""
    ends: dict[str, list[float]] = {}
    for (point, _), end in zip(content["points"], content["ends"], strict=True):
        if end:
            ends.setdefault(str(sorted(point.items())), []).append(100 * end[0])
    gaps = [both[0] - both[1] for both in ends.values() if len(both) == 2]
    return (float(np.sqrt(np.mean(np.square(gaps)) / 2)) if gaps else float("nan")), len(gaps)


def correlation(values: Array, ends: Array) -> Array:
    """Spearman's correlation of each row of `values` with the same row of `ends`."""
    one, two = (rankdata(each, axis=-1) for each in (values, ends))
    one, two = (each - each.mean(axis=-1, keepdims=True) for each in (one, two))
    scale = np.sqrt((one**2).sum(axis=-1) * (two**2).sum(axis=-1))
    return (one * two).sum(axis=-1) / np.where(scale > 0, scale, np.inf)


def print_correlations(curves: Curves, chosen: Array, what: str) -> None:
    """Prints a line for each signal, one column an epoch, and 95 % bootstrap intervals below."""
    drawn = chosen[np.random.default_rng(0).integers(len(chosen), size=(_BOOTSTRAPS, len(chosen)))]
    ends = curves.ends[drawn]
    print(f"\nSpearman correlation with the end, {what}, n = {len(chosen)}; below each its 95 % interval")
    print(f"{'after epoch':23}" + "".join(f"{epoch:>6}" for epoch in range(1, curves.epochs + 1)))
    for name, values in curves.signals.items():
        found = correlation(values[chosen].T, np.broadcast_to(curves.ends[chosen], (curves.epochs, len(chosen))))
        print(f"{name:23}" + "".join(f"{each:6.2f}" for each in found))
        repeated = [correlation(values[drawn, epoch], ends) for epoch in range(curves.epochs)]
        for share in (0.025, 0.975):
            print(" " * 23 + "".join(f"{np.quantile(each, share):6.2f}" for each in repeated))


def print_aligned(curves: Curves) -> None:
    """Prints the correlations where each training is seen so many epochs after the end of its own warm-up."""
    finished = curves.finished
    if any("warmup" not in curves.points[number] for number in finished):
        return
    warmups = np.array([math.ceil(curves.points[number]["warmup"]) for number in finished])
    after = range(1, curves.epochs - int(warmups.max()) + 1)
    print("\nSpearman correlation with the end, each seen so many epochs after its own warm-up, rounded up")
    print(f"{'epochs after warm-up':23}" + "".join(f"{count:>6}" for count in after))
    for name, values in curves.signals.items():
        seen = np.stack([values[finished, warmups + count - 1] for count in after])
        found = correlation(seen, np.broadcast_to(curves.ends[finished], seen.shape))
        print(f"{name:23}" + "".join(f"{each:6.2f}" for each in found))


def halved(values: Array, drawn: Array, rungs: Sequence[int]) -> Array:
    """Which of the drawn trainings are left after successive halving, as a mask of the same shape."""
    left = np.ones(drawn.shape, dtype=bool)
    for rung in rungs:
        scores = np.where(left, values[drawn, rung - 1], -np.inf)
        kept = max(1, round(left[0].sum() / REDUCTION))
        places = np.argsort(-scores, axis=1, kind="stable")[:, :kept]
        left = np.zeros_like(left)
        np.put_along_axis(left, places, True, axis=1)
    return left


def print_halving(curves: Curves, draws: int, trials: int) -> None:
    """Prints for each signal and rungs how often the best survives, and the regret of what is chosen in the end."""
    random = np.random.default_rng(1)
    finished = curves.finished if len(curves.finished) < trials else np.arange(len(curves.ends))
    trials = min(trials, len(finished))
    drawn = np.stack([random.choice(finished, trials, replace=False) for _ in range(draws)])
    ends, chosen_by = curves.ends[drawn], curves.signals["accuracy"][drawn, -1]
    best = ends.max(axis=1)

    def regret(left: Array) -> float:
        chosen = np.where(left, chosen_by, -np.inf).argmax(axis=1)
        return float((best - np.take_along_axis(ends, chosen[:, None], axis=1)[:, 0]).mean())

    none = regret(np.ones(drawn.shape, dtype=bool))
    print(f"\nsuccessive halving of {trials} configs, one in {REDUCTION} goes on at a rung; {draws} draws")
    print(
        "  first the percentage of draws in which the best config survives, then the regret in points of what is chosen"
    )
    print(f"  by the accuracy at the end among the survivors (none stopped: {none:.2f})")
    names = ["".join(f"{part:>13}" for part in [",".join(map(str, rungs))]) for rungs in RUNGS]
    print(f"{'rungs after epochs':23}" + "".join(names))
    costs = [_epochs_each(rungs, trials, curves.epochs) for rungs in RUNGS]
    print(f"{'epochs per config':23}" + "".join(f"{cost:13.1f}" for cost in costs))
    for name, values in curves.signals.items():
        cells = []
        for rungs in RUNGS:
            left = halved(values, drawn, rungs)
            kept = 100 * float((left & (ends >= best[:, None])).any(axis=1).mean())
            cells.append(f"{kept:7.0f} {regret(left):5.2f}")
        print(f"{name:23}" + "".join(cells))


def print_choices(curves: Curves, draws: int, trials: int) -> None:
    """Prints how far what each signal chooses at the end, of trainings that finished, is below the table's best."""
    random = np.random.default_rng(2)
    trials = min(trials, len(curves.finished))
    drawn = np.stack([random.choice(curves.finished, trials, replace=False) for _ in range(draws)])
    print(f"\nchosen at the end, of {trials} that finished: points below the best of the table; {draws} draws")
    for name, values in curves.signals.items():
        chosen = np.take_along_axis(drawn, values[drawn, -1].argmax(axis=1)[:, None], axis=1)[:, 0]
        print(f"{name:23}{float((curves.ends.max() - curves.ends[chosen]).mean()):6.2f}")


def _epochs_each(rungs: Sequence[int], trials: int, epochs: int) -> float:
    left, spent, before = trials, 0, 0
    for rung in (*rungs, epochs):
        spent += left * (rung - before)
        left, before = max(1, round(left / REDUCTION)), rung
    return spent / trials


def print_bias(curves: Curves, epochs: Sequence[int]) -> None:
    """Prints how far each signal prefers large values of each number of the config, compared with the end."""
    finished = curves.finished
    numbers = [
        name
        for name in curves.points[0]
        if all(isinstance(curves.points[each].get(name, 0.0), int | float) for each in finished)
        and all(name in curves.points[each] for each in finished)
    ]
    print("\nSpearman correlation of (rank by the signal - rank by the end) with the config's numbers; 0: not biased")
    print(f"{'':23}{'epoch':>6}" + "".join(f"{name:>17}" for name in numbers))
    ends = rankdata(curves.ends[finished])
    for name, values in curves.signals.items():
        for epoch in epochs:
            gap = rankdata(values[finished, epoch - 1]) - ends
            found = [
                float(correlation(gap[None], np.array([[curves.points[each][number] for each in finished]]))[0])
                for number in numbers
            ]
            print(f"{name:23}{epoch:>6}" + "".join(f"{each:17.2f}" for each in found))


def analyse(name: str, draws: int, trials: int) -> None:
    """Prints everything about a table."""
    content = load(name)
    recorded = sum(rows is not None for rows in content["rows"])
    if recorded < FEWEST:
        print(f"\n## {name}: {recorded} of {len(content['rows'])} trainings recorded, too few")
        return
    curves = Curves(content)
    ends = np.sort(curves.ends[curves.finished])[::-1]
    deviation, pairs = seeds_deviation(content)
    print(f"\n## {name}: {recorded} of {len(content['rows'])} trainings recorded, {len(curves.ends)} configs,")
    print(f"{len(curves.ends) - len(ends)} diverged; at their end on unseen images, in points: best {ends[0]:.2f},")
    print(f"a tenth above {np.quantile(ends, 0.9):.2f}, half above {np.median(ends):.2f}, worst {ends[-1]:.2f};")
    print(f"deviation between two seeds of a config {deviation:.2f} (n = {pairs})")
    print_correlations(curves, curves.finished, "all that came to their end")
    print_correlations(curves, curves.better_half(), "the better half")
    print_aligned(curves)
    print_halving(curves, draws, trials)
    print_choices(curves, draws, trials)
    print_bias(curves, (1, 2, 3, 4, 6))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", choices=[*PLANS, []], help="tables; all that are recorded if none is named")
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--trials", type=int, default=27, help="configs of a successive halving, and of a choice")
    options = parser.parse_args()
    header(f"early signals, {time.strftime('%Y-%m-%d %H:%M')}")
    for name in options.names or [name for name in PLANS if (DIRECTORY / f"{name}.json.gz").is_file()]:
        analyse(name, options.draws, options.trials)


if __name__ == "__main__":
    main()
