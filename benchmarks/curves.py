"""A table of real learning curves: a grid of configs on scikit-learn's digits, each trained to its end.

`record_curves.py` records it into `curves.json`, and `regret.py` searches it. The space is continuous, as a user would
write it. The grid cuts each of its ranges into cells of equal size in the logarithm, and has the centre of each cell:
a suggestion's curve is that of the config whose values are nearest, and each config is as likely to be hit by chance.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ctkd_search.config import TrialConfig
from ctkd_search.errors import UserError
from ctkd_search.space.definition import Space
from ctkd_search.space.distributions import Constant, Number
from ctkd_search.space.reader import space_of

FILE = Path(__file__).with_name("curves.json")
SPACE = """
name: digits-grid
dataset: {name: digits, validation: 0.15}
augment: {crop: 1, flip: false}
budget: {epochs: 9}
teachers: {recipe: {batch_size: 64, lr: 0.05, schedule: milestones, precision: float32}}
train: {batch_size: 64, precision: float32, schedule: milestones}
search:
  pair: wrn-16-1/resnet8
  step_loss: {choice: [kl, mse]}
  temperature: {float: [1, 20], log: true, when: {step_loss: kl}}
  alpha: {float: [0.01, 5], log: true}
  beta: {float: [0.3, 60], log: true}
  attention_layers: {choice: [[1, 2, 3], [2, 3], [3]]}
  lr: {float: [0.01, 0.5], log: true}
"""
# Into how many cells each range is cut.
CELLS = {"temperature": 3, "alpha": 4, "beta": 3, "lr": 5}

Values = Mapping[str, Any]


def grid_space(**sections: Any) -> Space:
    """The space; sections that are given replace its own."""
    return space_of({**yaml.safe_load(SPACE), **sections})


def axes(space: Space) -> dict[str, tuple[Any, ...]]:
    """The grid's values of each searched parameter."""
    return {
        name: tuple(_centres(entry, CELLS[name])) if isinstance(entry, Number) else entry.values()
        for name, entry in space.entries.items()
        if not isinstance(entry, Constant)
    }


def points(space: Space) -> list[Values]:
    """The searched values of every config of the grid: those that have an effect, each config once."""
    grid = axes(space)
    found = {}
    for combination in itertools.product(*grid.values()):
        values = space.effective({**space.decode({}), **dict(zip(grid, combination, strict=True))})
        found[_key(values)] = {name: values[name] for name in grid if name in values}
    return list(found.values())


def config(space: Space, point: Values) -> TrialConfig:
    """The config of a point."""
    return space.config({**space.decode({}), **point})


def _centres(entry: Number, cells: int) -> list[float]:
    ratio = entry.high / entry.low
    return [float(f"{entry.low * ratio ** ((cell + 0.5) / cells):.4g}") for cell in range(cells)]


def _nearest(entry: Number, cells: int, value: float) -> float:
    share = math.log(value / entry.low) / math.log(entry.high / entry.low)
    return _centres(entry, cells)[min(int(cells * share), cells - 1)]


def _key(values: Values) -> tuple[Any, ...]:
    return tuple(sorted((name, value) for name, value in values.items() if name != "pair"))


@dataclass(frozen=True)
class Table:
    """The recorded curves.

    Attributes:
        space: The space that they are of.
        curves: Validation accuracy after each epoch, by the config's key. One that has fewer epochs than the others
            diverged in its last one.
    """

    space: Space
    curves: Mapping[tuple[Any, ...], list[float]]

    def curve(self, values: Values) -> list[float]:
        """The curve of the config that is nearest to these values."""
        near = {
            name: _nearest(entry, CELLS[name], values[name]) if isinstance(entry, Number) else values[name]
            for name in values
            if (entry := self.space.entries.get(name)) is not None
        }
        return self.curves[_key(near)]

    def final(self, values: Values) -> float:
        """Accuracy of that config at its end."""
        return self.curve(values)[-1]

    def finals(self) -> list[float]:
        """Accuracy of every config at its end, best first."""
        return sorted((curve[-1] for curve in self.curves.values()), reverse=True)


def read_table(path: Path) -> Table:
    """Reads the recorded curves.

    Raises:
        UserError: They are not complete, or of another grid.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    space = grid_space()
    if content["space"] != yaml.safe_load(SPACE) or None in content["curves"]:
        raise UserError(f"{path} is of another grid, or not complete; record_curves.py records it")
    return Table(space, {_key(point): curve for point, curve in zip(points(space), content["curves"], strict=True)})
