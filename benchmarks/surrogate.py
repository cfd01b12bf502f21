"""A surrogate of a recorded table: the whole training of any config of its space, from the recorded ones.

    python benchmarks/surrogate.py [digits cifar ...]

prints its errors on configs left out, beside those of other ways. The curves of a config are those of a forest of
randomised trees, plus what the forest leaves unexplained of the nearest recorded config: without that, the curves
would have no noise, and searches would find it easier than with real trainings. At a recorded config the surrogate is
that recording. Of the ways that are compared, this one keeps the difference between both sets of images as it is
(`gap`), and its mean is never better than all that were recorded.
"""

from __future__ import annotations

import argparse
import functools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from tables import PLANS, Plan, load

from ctkd_search.space.definition import Space
from ctkd_search.space.distributions import Choice, Constant, Number

Array = np.ndarray[Any, Any]
# Components of the curves that are modelled; the rest is left to the nearest config.
COMPONENTS = 12
TREES = 200
FOLDS = 10
_LOW = 1e-4


@dataclass(frozen=True)
class Training:
    """The training of a config.

    Attributes:
        signals: By name, one value an epoch.
        epochs: Epochs that it runs for; of one that diverges, up to that in which it does.
        diverges: True if it has no end.
        end: Accuracy at its end on the images that the search never sees, in points; 0 if it diverges.
    """

    signals: Mapping[str, Array]
    epochs: int
    diverges: bool
    end: float


class Features:
    """Places of configs in a unit cube, in which distances are taken.

    A number takes one coordinate (its logarithm where the space says so), a choice one for each option, subsets of
    layers one for each layer. A number that has no effect in a config is put into the middle.

    Args:
        space: The space.
    """

    def __init__(self, space: Space) -> None:
        self._entries = {name: entry for name, entry in space.entries.items() if not isinstance(entry, Constant)}

    def of(self, stored: Mapping[str, Any]) -> Array:
        """The coordinates of a config, from its values as Optuna stores them."""
        found: list[float] = []
        for name, entry in self._entries.items():
            found += (
                self._number(entry, stored.get(name))
                if isinstance(entry, Number)
                else self._choice(entry, stored.get(name))
            )
        return np.array(found)

    @staticmethod
    def _number(entry: Number, value: float | None) -> list[float]:
        if value is None:
            return [0.5]
        if entry.log:
            return [math.log(value / entry.low) / math.log(entry.high / entry.low)]
        return [(value - entry.low) / (entry.high - entry.low)]

    @staticmethod
    def _choice(entry: Choice, value: str | None) -> list[float]:
        options = list(entry.options.values())
        if all(isinstance(option, tuple) for option in options):
            chosen = entry.options[value] if value is not None else ()
            return [0.5 * (layer in chosen) for layer in sorted({layer for option in options for layer in option})]
        # Two different options are as far apart as the two ends of a number.
        return [math.sqrt(0.5) * (option == value) for option in entry.options]


def _forward(name: str, values: Array) -> Array:
    """Values on the scale on which they are modelled: logits of accuracies, logarithms of losses."""
    if name.endswith("loss"):
        return np.log(np.maximum(values, _LOW))
    clipped = np.clip(values, 0.01, 1 - 2e-3)
    return np.log(clipped / (1 - clipped))


def _backward(name: str, values: Array) -> Array:
    return np.exp(values) if name.endswith("loss") else 1 / (1 + np.exp(-values))


class Recorded:
    """The recorded trainings of the configs with their first seeds, as rows of numbers.

    Attributes:
        places: Coordinates of all.
        stored: Values of all.
        ended: The numbers of those that did not diverge.
        curves: One row for each of these: every signal at every epoch and the end, on the scale of the model.
        lengths: Epochs of all.
    """

    def __init__(self, content: Mapping[str, Any], features: Features) -> None:
        rows = [
            (point, measured, end)
            for (point, seed), measured, end in zip(content["points"], content["rows"], content["ends"], strict=True)
            if measured is not None and seed == 0
        ]
        self.names = [name for name in content["signals"] if name != "seconds"]
        self.stored = [point for point, _, _ in rows]
        self.places = np.stack([features.of(point) for point in self.stored])
        self.lengths = [len(measured) for _, measured, _ in rows]
        self.epochs = max(self.lengths)
        self.ended = np.array([number for number, (_, _, end) in enumerate(rows) if end])
        self.raw = [
            np.array(measured, dtype=float)[:, [content["signals"].index(name) for name in self.names]]
            for _, measured, _ in rows
        ]
        self.ends = np.array([100 * end[0] if end else 0.0 for _, _, end in rows])
        self.curves = np.stack(
            [
                np.concatenate(
                    [
                        *(_forward(name, self.raw[number][:, column]) for column, name in enumerate(self.names)),
                        _forward("accuracy", self.ends[number : number + 1] / 100),
                    ]
                )
                for number in self.ended
            ]
        )


class Process:
    """The mean of a Gaussian process for each component of the curves.

    Args:
        places: Coordinates of the configs.
        curves: Their curves, a row each.
    """

    def __init__(self, places: Array, curves: Array) -> None:
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

        self._middle = curves.mean(axis=0)
        # Every signal at every epoch weighs by how far it varies.
        self._scale = np.maximum(curves.std(axis=0), 1e-6)
        scaled = (curves - self._middle) / self._scale
        _, _, axes = np.linalg.svd(scaled, full_matrices=False)
        self._axes = axes[: min(COMPONENTS, len(axes))]
        lengths, weights = [], []
        for part in (scaled @ self._axes.T).T:
            spread = max(float(part.std()), 1e-6)
            signal = ConstantKernel(1.0, (1e-2, 1e3)) * RBF(np.ones(places.shape[1]), (0.15, 30.0))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                fit = GaussianProcessRegressor(signal + WhiteKernel(0.3, (1e-3, 2.0))).fit(places, part / spread)
            fitted = fit.kernel_.k1
            lengths.append(np.broadcast_to(fitted.k2.length_scale, places.shape[1]))
            weights.append(float(fitted.k1.constant_value) * spread * fit.alpha_.ravel())
        self._lengths, self._weights = np.stack(lengths), np.stack(weights)
        self._places = places[None] / self._lengths[:, None]

    def __call__(self, place: Array) -> Array:
        """The curve at a place."""
        gaps = self._places - (place / self._lengths)[:, None]
        parts = (np.exp(-0.5 * (gaps**2).sum(axis=2)) * self._weights).sum(axis=1)
        found: Array = self._middle + parts @ self._axes * self._scale
        return found


class Forest:
    """The mean of randomised trees for the curves.

    Args:
        places: Coordinates of the configs.
        curves: Their curves, a row each.
    """

    def __init__(self, places: Array, curves: Array) -> None:
        from sklearn.ensemble import ExtraTreesRegressor

        fit = ExtraTreesRegressor(TREES, min_samples_leaf=2, random_state=0).fit(places, curves)
        trees = [made.tree_ for made in fit.estimators_]
        # All trees in one array, which is walked at once: for one place that is faster than a tree after the other.
        starts = np.cumsum([0, *(tree.node_count for tree in trees)])[:-1]
        self._starts = starts
        self._feature = np.concatenate([tree.feature for tree in trees])
        self._threshold = np.concatenate([tree.threshold for tree in trees])
        self._left, self._right = (
            np.concatenate([getattr(tree, name) + start for tree, start in zip(trees, starts, strict=True)])
            for name in ("children_left", "children_right")
        )
        self._values = np.concatenate([tree.value[:, :, 0] for tree in trees])
        self._depth = max(tree.max_depth for tree in trees)

    def __call__(self, place: Array) -> Array:
        """The curve at a place."""
        nodes, place = self._starts.copy(), place.astype(np.float32)
        for _ in range(self._depth):
            feature = self._feature[nodes]
            onward = np.where(place[feature] <= self._threshold[nodes], self._left[nodes], self._right[nodes])
            nodes = np.where(feature >= 0, onward, nodes)
        found: Array = self._values[nodes].mean(axis=0)
        return found


class Both:
    """The mean of a Gaussian process and a forest.

    Args:
        places: Coordinates of the configs.
        curves: Their curves, a row each.
    """

    def __init__(self, places: Array, curves: Array) -> None:
        self._process, self._forest = Process(places, curves), Forest(places, curves)

    def __call__(self, place: Array) -> Array:
        """The curve at a place."""
        return (self._process(place) + self._forest(place)) / 2


class Nearest:
    """The curve of the nearest config.

    Args:
        places: Coordinates of the configs.
        curves: Their curves, a row each.
    """

    def __init__(self, places: Array, curves: Array) -> None:
        self._places, self._curves = places, curves

    def __call__(self, place: Array) -> Array:
        """The curve at a place."""
        found: Array = self._curves[((self._places - place) ** 2).sum(axis=1).argmin()]
        return found


class Surrogate:
    """The training of any config of a table's space.

    Args:
        space: The space.
        content: The table.
    """

    def __init__(self, space: Space, content: Mapping[str, Any]) -> None:
        self.features = Features(space)
        self.recorded = Recorded(content, self.features)
        places = self.recorded.places[self.recorded.ended]
        self._mean = Forest(places, self.recorded.curves)
        self._residuals = self.recorded.curves - np.stack([self._mean(place) for place in places])
        self._rows = {int(number): row for row, number in enumerate(self.recorded.ended)}
        self.best = float(self.recorded.ends.max())

    @property
    def epochs(self) -> int:
        """Epochs of a training."""
        return self.recorded.epochs

    def training(self, stored: Mapping[str, Any]) -> Training:
        """The training of a config, from its values as Optuna stores them.

        It diverges if that of the nearest recorded config does, in the same epoch and with its curves.
        """
        place = self.features.of(stored)
        nearest = int(((self.recorded.places - place) ** 2).sum(axis=1).argmin())
        names = self.recorded.names
        if nearest not in self._rows:
            raw = self.recorded.raw[nearest]
            return Training({name: raw[:, column] for column, name in enumerate(names)}, len(raw), True, 0.0)
        curve = self._mean(place) + self._residuals[self._rows[nearest]]
        epochs = self.epochs
        signals = {
            name: _backward(name, curve[column * epochs : (column + 1) * epochs]) for column, name in enumerate(names)
        }
        return Training(signals, epochs, False, float(100 * _backward("accuracy", curve[-1:])[0]))


def surrogate_of(name: str, trainings: int | None = None) -> tuple[Space, Surrogate]:
    """The space and the surrogate of a table, or of its first trainings."""
    plan: Plan = PLANS[name]
    space = plan.read()
    return space, Surrogate(space, load(name, trainings))


def errors_left_out(recorded: Recorded) -> dict[str, dict[str, float]]:
    """Errors on configs left out, by the way to predict them.

    With `+ nearest`, what the prediction leaves unexplained of the nearest config is added.

    Returns:
        By way: `end` and `median`, the mean and median absolute error of the end in points; `rank`, Spearman's
        correlation of predicted and real ends; `early` and `late`, the same of the averaged accuracy after a sixth and
        two thirds of the epochs; `gap` and `real gap`, the deviation of the difference of the end between both sets of
        images, as predicted and as recorded.
    """
    places, curves = recorded.places[recorded.ended], recorded.curves
    folds = np.random.default_rng(0).permutation(len(places)) % FOLDS
    ways: dict[str, Callable[[Array, Array], Callable[[Array], Array]]]
    ways = {"nearest config": Nearest, "forest": Forest, "Gaussian process": Process, "both": Both}
    found = {name: np.zeros_like(curves) for way in ways for name in (way, f"{way} + nearest")}
    for fold in range(FOLDS):
        kept, left = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        near = Nearest(places[kept], np.arange(len(kept))[:, None])
        for way, make in ways.items():
            model = make(places[kept], curves[kept])
            for number in left:
                closest = kept[int(near(places[number])[0])]
                found[way][number] = model(places[number])
                found[f"{way} + nearest"][number] = found[way][number] + curves[closest] - model(places[closest])
    epochs, column = recorded.epochs, recorded.names.index("averaged_1_accuracy")
    early, late = (column * epochs + round(share * epochs) - 1 for share in (1 / 6, 2 / 3))
    last = recorded.names.index("accuracy") * epochs + epochs - 1
    return {
        way: _errors(curves, values, early, late, last)
        for way, values in found.items()
        if way != "nearest config + nearest"
    }


def _errors(curves: Array, values: Array, early: int, late: int, last: int) -> dict[str, float]:
    real, predicted = (100 * _backward("accuracy", each[:, -1]) for each in (curves, values))
    return {
        "end": float(np.abs(real - predicted).mean()),
        "median": float(np.median(np.abs(real - predicted))),
        "rank": float(spearmanr(real, predicted).statistic),
        "early": float(spearmanr(curves[:, early], values[:, early]).statistic),
        "late": float(spearmanr(curves[:, late], values[:, late]).statistic),
        "gap": float(np.std(predicted - 100 * _backward("accuracy", values[:, last]))),
        "real gap": float(np.std(real - 100 * _backward("accuracy", curves[:, last]))),
    }


@functools.cache
def _features(name: str) -> Features:
    return Features(PLANS[name].read())


def print_errors(names: Sequence[str]) -> None:
    """Prints a table for each."""
    for name in names:
        recorded = Recorded(load(name), _features(name))
        print(f"\n{name}: {len(recorded.ended)} configs, each left out once ({FOLDS} folds)")
        ranks = f"{'rank of end':>13}{'of epoch 3':>12}{'of epoch 12':>13}"
        print(f"{'':30}{'end, points':>12}{'median':>9}{ranks}{'gap':>8}{'real gap':>10}")
        for way, errors in errors_left_out(recorded).items():
            print(
                f"{way:30}{errors['end']:12.2f}{errors['median']:9.2f}{errors['rank']:13.2f}"
                f"{errors['early']:12.2f}{errors['late']:13.2f}{errors['gap']:8.2f}{errors['real gap']:10.2f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="+", choices=PLANS)
    print_errors(parser.parse_args().names)


if __name__ == "__main__":
    main()
