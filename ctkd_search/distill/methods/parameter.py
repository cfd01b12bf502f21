"""A parameter that a search may vary: its name, possible values, default and the source of the default."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ctkd_search import pairs
from ctkd_search.fields import Range

# Sources of defaults.
PAPER = "the paper"
CODE = "the authors' code"
# RepDistiller, and comparisons with its settings, as mdistiller's.
COMPARISONS = "the comparisons since arXiv 1910.10699"
OURS = "this package's own"


@dataclass(frozen=True)
class Parameter:
    """A parameter that a search may vary.

    Attributes:
        name: Its name in a space.
        default: Its value if a space does not set it.
        source: Source of the default: `PAPER`, `CODE`, `COMPARISONS`, `OURS`, or a text.
        help: One line for the help, with the unit.
        note: Further text for the reference.
        symbol: Prefix of its value in a trial's short name.
        kind: ``float``, ``int``, ``choice`` (one of `choices`), ``layers`` (numbers of feature maps) or ``pair``.
        range: Possible numbers, for ``float`` and ``int``.
        choices: Possible values, for ``choice``.
        only_with: Values of other parameters without which this one has no effect: either the values, or
            a `Range` that they must lie in.
        term: Term of the loss that it weighs, which is left out if it is 0.
        side: Side of the images that the default is for, in pixels, if it weighs a mean over the positions of a feature
            map, which shrinks as positions become more; None otherwise. See `ctkd_search.space.defaults`.
        all_layers: Whether its default is all feature maps that teacher and student both have, for ``layers``;
            `default` is that of networks with three.
        last_layer: Whether its default is the last of these alone; see `all_layers`.
        least_positions: Positions that a layer's map must have to be in that default, if the pair has such a map.
    """

    name: str
    default: Any
    help: str
    symbol: str = ""
    kind: str = "float"
    range: Range | None = None
    choices: tuple[Any, ...] = ()
    only_with: Mapping[str, tuple[Any, ...] | Range] = field(default_factory=dict)
    note: str = ""
    term: str = ""
    side: int | None = None
    all_layers: bool = False
    last_layer: bool = False
    least_positions: int = 1
    source: str = ""

    @property
    def layers_of_pair(self) -> str:
        """Returns which of the feature maps that both networks have are its default; empty if its default is fixed."""
        return "all" if self.all_layers else "the last" if self.last_layer else ""

    @property
    def default_note(self) -> str:
        """Returns how its default depends on the networks and the images; empty if it does not."""
        if self.layers_of_pair:
            needed = f", of {self.least_positions} positions or more" if self.least_positions > 1 else ""
            return f"left out, {self.layers_of_pair} that both networks have{needed}"
        if self.side is None:
            return ""
        return f"the default is for images of {self.side} pixels a side, and grows with the positions of the maps"

    def fault(self, value: Any) -> str | None:
        """Returns what is wrong with a value, or None."""
        if self.kind in {"float", "int"}:
            if isinstance(value, bool) or not isinstance(value, int if self.kind == "int" else (int, float)):
                return f"must be {'a whole number' if self.kind == 'int' else 'a number'}, but got {value!r}"
            return self.range.fault(value) if self.range is not None else None
        if self.kind == "choice" and value not in self.choices:
            near = difflib.get_close_matches(str(value), map(str, self.choices), n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            return f"must be one of {', '.join(map(str, self.choices))}, but got {value!r}{hint}"
        if self.kind == "pair":
            return _pair_fault(value)
        if self.kind == "layers" and not _is_layers(value):
            return f"must be a list of different layer numbers from 1, as in [2, 3], but got {value!r}"
        return None


def _pair_fault(value: Any) -> str | None:
    if not isinstance(value, str):
        return f"must be {pairs.RULE}, but got {value!r}"
    try:
        pairs.split_pair(value)
    except ValueError as error:
        return str(error)
    return None


def _is_layers(value: Any) -> bool:
    numbers = isinstance(value, list | tuple) and all(type(item) is int and item >= 1 for item in value)
    return numbers and len(value) > 0 and len(set(value)) == len(value)


def allows(allowed: tuple[Any, ...] | Range, value: Any) -> bool:
    """Returns whether a value is one of those allowed, or in the range allowed."""
    if isinstance(allowed, Range):
        return value in allowed
    return _comparable(value) in map(_comparable, allowed)


def _comparable(value: Any) -> Any:
    """Returns layers as text, as conditions have them; everything else as it is."""
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else value
