"""Entries of a space for parameters: a range, a choice, subsets of layers, or a constant."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ctkd_search.config import plain
from ctkd_search.distill.methods.base import Parameter
from ctkd_search.pairs import ARROW, settled_pair
from ctkd_search.space.document import unknown

if TYPE_CHECKING:
    import optuna

# A fault is reported as (keys inside the entry, message).
# Numbers tell no more steps of a range apart.
_MOST_STEPS = 2**53

Report = Callable[[tuple[str | int, ...], str], None]


@dataclass(frozen=True)
class Constant:
    """One value for every trial."""

    value: Any

    def values(self) -> tuple[Any, ...]:
        """Returns the one value."""
        return (self.value,)

    def __str__(self) -> str:
        """As a table shows it."""
        return show(self.value)


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """An entry that is searched.

    Attributes:
        when: Values that other parameters must have for this one to be searched; otherwise it has its default.
    """

    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Number(Distribution):
    """A number from `low` to `high`, both included.

    Attributes:
        whole: Whether only whole numbers are possible.
        log: Whether values are spread evenly in the logarithm.
        step: Distance of neighbouring values, or None for any value.
    """

    low: float
    high: float
    whole: bool = False
    log: bool = False
    step: float | None = None

    def suggest(self, trial: optuna.Trial, name: str) -> float:
        """Asks Optuna for a value; returns it as Optuna stores it."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        with warnings.catch_warnings():
            # Optuna warns if the step does not divide the range, but handles it correctly.
            warnings.simplefilter("ignore", UserWarning)
            return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def distribution(self) -> optuna.distributions.BaseDistribution:
        """Returns the range as a distribution of Optuna."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.whole:
            return IntDistribution(int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return FloatDistribution(self.low, self.high, step=self.step, log=self.log)

    def nearest(self, value: float) -> float:
        """Returns the possible value nearest to `value`, as Optuna stores it."""
        clipped = min(max(value, self.low), self.high)
        if self.step:
            # In decimals, as Optuna does it: in binary, 0.3 is no multiple of 0.1.
            low, high, step = (Decimal(str(number)) for number in (self.low, self.high, self.step))
            steps = min(round((clipped - self.low) / self.step), math.floor((high - low) / step))
            clipped = float(low + steps * step)
        return round(clipped) if self.whole else float(clipped)

    def encode(self, value: Any) -> float | None:
        """Returns `value` as Optuna stores it; None if it is not a possible one."""
        if isinstance(value, bool) or not isinstance(value, int | float) or (self.whole and value != int(value)):
            return None
        # Equal up to the last digits: 0.1 + 0.2 is a multiple of the step 0.1.
        if not math.isclose(self.nearest(value), value, rel_tol=1e-12, abs_tol=0.0):
            return None
        return min(max(value, self.low), self.nearest(self.high))

    def decode(self, stored: float) -> float:
        """Returns the parameter's value for Optuna's stored one."""
        return stored

    def values(self) -> None:
        """Returns None: there are too many to list."""

    def __str__(self) -> str:
        """As a table shows it."""
        step = f", step {show(self.step)}" if self.step else ""
        return f"{show(self.low)} to {show(self.high)}{', log' * self.log}{step}"


@dataclass(frozen=True, kw_only=True)
class Choice(Distribution):
    """One of several values.

    Attributes:
        options: The values, by the text that Optuna stores for each.
        shown: Text for tables.
    """

    options: Mapping[str, Any]
    shown: str

    def suggest(self, trial: optuna.Trial, name: str) -> str:
        """Asks Optuna for a value; returns it as Optuna stores it."""
        return trial.suggest_categorical(name, list(self.options))

    def distribution(self) -> optuna.distributions.BaseDistribution:
        """Returns the options as a distribution of Optuna."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(list(self.options))

    def nearest(self, value: Any) -> str:
        """Returns the stored text of `value` if it is an option; else of the first one, or of the most alike layers."""
        if isinstance(value, tuple):
            return min(self.options, key=lambda text: len({*self.options[text]} ^ {*value}))
        return self.encode(value) or next(iter(self.options))

    def encode(self, value: Any) -> str | None:
        """Returns the stored text of `value`; None if it is not an option."""
        return next((text for text, option in self.options.items() if plain(option) == plain(value)), None)

    def decode(self, stored: str) -> Any:
        """Returns the parameter's value for Optuna's stored text."""
        return self.options[stored]

    def values(self) -> tuple[Any, ...]:
        """Returns every option."""
        return tuple(self.options.values())

    def __str__(self) -> str:
        """As a table shows it."""
        return self.shown


Entry = Constant | Number | Choice


@dataclass(frozen=True)
class Form:
    """A form of an entry that is searched.

    Attributes:
        keys: Its keys, the one that it is known by first.
        example: Example of it.
        help: Its meaning.
    """

    keys: tuple[str, ...]
    example: str
    help: str


FORMS = {
    "float": Form(
        ("float", "log", "step", "when"),
        "{float: [low, high], log: true}",
        "a number from low to high, both included; `log: true` spreads its logarithm evenly, `step: 0.1` stands for a "
        "grid instead",
    ),
    "int": Form(
        ("int", "log", "step", "when"), "{int: [low, high]}", "a whole number; `log: true` and `step: 16` likewise"
    ),
    "choice": Form(("choice", "when"), "{choice: [a, b]}", "one of at least two values"),
    "subsets": Form(("subsets", "when"), "{subsets: [1, 2, 3]}", "any of the non-empty sets of these layers"),
}
# Further keys of the forms.
OPTIONS = {
    "log": "whether the logarithm is what is spread evenly",
    "step": "distance of neighbouring values",
    "when": "values of other parameters (one, or a list of alternatives) with which this one is searched; elsewhere it "
    "takes its default",
}
FORMS_OF_KIND = {
    "float": ("float", "choice"),
    "int": ("int", "choice"),
    "choice": ("choice",),
    "pair": ("choice",),
    "layers": ("subsets", "choice"),
}


def show(value: Any) -> str:
    """Returns a value as tables show it: layers as 1,2,3, numbers with four digits."""
    if isinstance(value, list | tuple):
        return ",".join(map(show, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def parse(parameter: Parameter, raw: Any, report: Report) -> Entry | None:
    """Reads a space's entry for a parameter.

    Args:
        parameter: The parameter.
        raw: A constant, or a mapping such as ``{float: [1, 20], log: true}``.
        report: Called for each fault.

    Returns:
        The entry, or None if there was a fault.
    """
    faults = 0

    def fault(place: tuple[str | int, ...], message: str) -> None:
        nonlocal faults
        faults += 1
        report(place, message)

    if not isinstance(raw, dict):
        message = parameter.fault(raw)
        if message:
            fault((), message)
        return None if faults else Constant(_settled(parameter, raw))
    allowed = FORMS_OF_KIND[parameter.kind]
    given = [form for form in FORMS if form in raw]
    if len(given) != 1 or given[0] not in allowed:
        wanted = " or ".join(f"{{{form}: [...]}}" for form in allowed)
        fault((), f"must be a constant or {wanted}, but got {raw!r}")
        return None
    form = given[0]
    for key in raw:
        if key not in FORMS[form].keys:
            fault((str(key),), unknown(str(key), FORMS[form].keys))
    when = _when(raw.get("when"), fault)
    values = raw[form]
    if not isinstance(values, list) or not values:
        fault((form,), f"must be a list, but got {values!r}")
        return None
    read = _number if form in {"float", "int"} else _subsets if form == "subsets" else _choice
    entry = read(parameter, raw, when, fault)
    return None if faults else entry


def _when(raw: Any, fault: Report) -> dict[str, tuple[Any, ...]]:
    if raw is None:
        return {}
    if not isinstance(raw, dict) or not raw:
        fault(("when",), f"must name parameters and their values, as in {{step_loss: kl}}, but got {raw!r}")
        return {}
    for name, value in raw.items():
        if value == []:
            fault(("when", str(name)), "must name at least one value, but got []")
    # A list holds alternatives. Layers are written as text there ("2,3"), as tables show them.
    alternatives = {str(name): value if isinstance(value, list) else [value] for name, value in raw.items()}
    return {
        name: tuple(settled_pair(value) if isinstance(value, str) and ARROW in value else value for value in values)
        for name, values in alternatives.items()
    }


def _settled(parameter: Parameter, value: Any) -> Any:
    """Returns a value in the one type of its kind, so that 1 and 1.0 are the same setting."""
    if parameter.kind == "float":
        return float(value)
    if parameter.kind == "pair":
        return settled_pair(value)
    return tuple(sorted(value)) if parameter.kind == "layers" else value


def _number(parameter: Parameter, raw: Mapping[str, Any], when: Mapping[str, Any], fault: Report) -> Number | None:
    form = parameter.kind
    ends = raw[form]
    if len(ends) != 2:
        fault((form,), f"must be [low, high], but got {ends!r}")
        return None
    wrong = [(number, message) for number, end in enumerate(ends) if (message := parameter.fault(end))]
    for number, message in wrong:
        fault((form, number), message)
    log, step = raw.get("log", False), raw.get("step")
    if not isinstance(log, bool):
        fault(("log",), f"must be true or false, but got {log!r}")
    if step is not None and (isinstance(step, bool) or not isinstance(step, int | float) or not step > 0):
        fault(("step",), f"must be a number greater than 0, but got {step!r}")
    elif step is not None and form == "int" and not isinstance(step, int):
        fault(("step",), f"must be a whole number, but got {step!r}")
    elif log is True and step is not None:
        fault(("step",), "cannot be combined with log: true; leave one of the two out")
    if wrong:
        return None
    low, high = ends
    if not low < high:
        fault((form,), f"low < high must hold, but got low={low!r}, high={high!r}")
    if log is True and not low > 0:
        fault((form, 0), f"must be greater than 0 where log is true, but got {low!r}")
    if isinstance(step, int | float) and step > high - low > 0:
        fault(("step",), f"must not be larger than the range {high - low:g}, but got {step!r}")
    elif isinstance(step, int | float) and high - low > step * _MOST_STEPS > 0:
        fault(("step",), f"must be at least {(high - low) / _MOST_STEPS:.3g} with this range, but got {step!r}")
    elif isinstance(step, int | float) and step is not True and 0 < step <= high - low:
        high = _last(low, high, step)
    return Number(low=low, high=high, whole=form == "int", log=log is True, step=step, when=when)


def _last(low: float, high: float, step: float) -> float:
    """Returns the last value of a range, which Optuna would replace its end by, with a warning each time."""
    first, end, distance = (Decimal(str(number)) for number in (low, high, step))
    last = first + (end - first) // distance * distance
    if last == end:
        return high
    return float(last) if isinstance(low + step, float) else int(last)


def _choice(parameter: Parameter, raw: Mapping[str, Any], when: Mapping[str, Any], fault: Report) -> Choice | None:
    options: dict[str, Any] = {}
    for number, value in enumerate(raw["choice"]):
        message = parameter.fault(value)
        if message:
            fault(("choice", number), message)
            continue
        settled = _settled(parameter, value)
        text = ",".join(map(str, settled)) if parameter.kind == "layers" else str(settled)
        if text in options:
            fault(("choice", number), f"{value!r} is duplicated; leave one out")
        options[text] = settled
    if len(raw["choice"]) < 2:
        fault(
            ("choice",),
            f"must have at least 2 values; write the value alone for a constant, but got {raw['choice']!r}",
        )
    shown = " | ".join(map(show, options.values()))
    return Choice(options=options, shown=shown, when=when)


def _subsets(parameter: Parameter, raw: Mapping[str, Any], when: Mapping[str, Any], fault: Report) -> Choice | None:
    layers = raw["subsets"]
    message = parameter.fault(layers)
    if message:
        fault(("subsets",), message)
        return None
    if len(layers) < 2:
        fault(
            ("subsets",),
            f"must have at least 2 layers; write the list alone for a constant, but got {layers!r}",
        )
    chosen = [subset for size in range(1, len(layers) + 1) for subset in itertools.combinations(sorted(layers), size)]
    options = {",".join(map(str, subset)): subset for subset in chosen}
    return Choice(options=options, shown=f"subsets of {show(sorted(layers))}", when=when)
