"""Types of the fields of configs: ranges, and what else a value must be, which pydantic enforces and describes."""

from __future__ import annotations

import datetime
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from typing import Annotated, Any, get_args

from ctkd_search.units import DURATION, SIZE, duration, size_in_bytes


@dataclass(frozen=True)
class Range:
    """An interval that a number must lie in; the annotation of a dataclass field.

    Args:
        low: Lower end.
        high: Upper end, or None for no upper end.
        open_low: Whether `low` itself is excluded.
        open_high: Whether `high` itself is excluded.
    """

    low: float
    high: float | None = None
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        """Returns whether `value` lies in the interval; NaN and infinities never do."""
        if not abs(value) <= sys.float_info.max:
            return False
        above = value > self.low if self.open_low else value >= self.low
        if self.high is None:
            return above
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        """Returns the interval in mathematical notation."""
        if self.high is None:
            return f"{'greater than' if self.open_low else 'at least'} {_digits(self.low)}"
        opening, closing = "(" if self.open_low else "[", ")" if self.open_high else "]"
        return f"in {opening}{_digits(self.low)}, {_digits(self.high)}{closing}"

    def check(self, value: float) -> float:
        """Returns `value`, or raises ValueError with the rule and the value."""
        if fault := self.fault(value):
            raise ValueError(fault)
        return value

    def fault(self, value: float) -> str | None:
        """Returns the rule and the value if `value` does not lie in the interval, or None."""
        if value in self:
            return None
        endless = isinstance(value, float) and not math.isfinite(value)
        return f"must be {'finite and ' * endless}{self}, but got {value!r}"

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Lets pydantic enforce the range. Not called if pydantic is not used."""
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        """Lets pydantic describe the range."""
        return {**handler(core), **self.as_schema()}

    def as_schema(self) -> dict[str, float]:
        """Returns the range as keywords of JSON Schema."""
        schema = {"exclusiveMinimum" if self.open_low else "minimum": self.low}
        if self.high is not None:
            schema["exclusiveMaximum" if self.open_high else "maximum"] = self.high
        return schema


def _digits(end: float) -> str:
    """Returns an end of an interval as text; of a whole number every digit."""
    return str(end) if isinstance(end, int) else f"{end:g}"


class FromList:
    """Lets a YAML list fill a tuple field under strict validation."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Converts a list to a tuple before pydantic's own check."""
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(
            lambda value: tuple(value) if isinstance(value, list) else value, handler(source)
        )


@dataclass(frozen=True)
class Checked:
    """Lets a function validate a field: it raises ValueError with the rule and the value.

    Args:
        check: The function; its result is not used.
        schema: The part of the rule that JSON Schema can express.
    """

    check: Callable[[Any], Any]
    schema: Mapping[str, Any] = field(hash=False)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Calls the function after pydantic's own check."""
        from pydantic_core import core_schema

        def judged(value: Any) -> Any:
            self.check(value)
            return value

        return core_schema.no_info_after_validator_function(judged, handler(source))

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        """Lets pydantic describe the rule."""
        return {**handler(core), **self.schema}


def one_of(options: Sequence[str]) -> Checked:
    """Returns the rule that a text is one of some."""

    def check(value: str) -> None:
        if value not in options:
            raise ValueError(f"must be one of {', '.join(options)}, but got {value!r}")

    return Checked(check, {"enum": list(options)})


@dataclass(frozen=True)
class As:
    """Lets pydantic check a field as another, narrower type.

    Args:
        form: The type.
    """

    form: Any

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Returns the rule of the other type."""
        return handler.generate_schema(self.form)


@dataclass(frozen=True)
class Read:
    """Lets a function read a field of several forms: it returns the value, or raises ValueError with the rule.

    Args:
        read: The function.
        schema: The rule as JSON Schema.
    """

    read: Callable[[Any], Any]
    schema: Mapping[str, Any] = field(hash=False)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Calls the function in place of pydantic's own check."""
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        """Lets pydantic describe the rule."""
        return dict(self.schema)


class Misplaced(ValueError):
    """A fault inside a value.

    Args:
        place: The keys that lead to it.
        message: The rule and the value.
    """

    def __init__(self, place: tuple[str | int, ...], message: str) -> None:
        super().__init__(message)
        self.place = place


def _options(value: Any) -> dict[str, Any]:
    """Returns a mapping that is kept in records: they are JSON, which has no other values and no other keys."""
    if not isinstance(value, dict):
        raise ValueError(f"must be a mapping, but got {value!r}")
    _check_plain((), value)
    return value


def _check_plain(place: tuple[str | int, ...], value: Any) -> None:
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise Misplaced(place, f"has the key {key}, which is no text; put it in quotes")
    elif isinstance(value, list):
        value = dict(enumerate(value))
    elif isinstance(value, str | int | None) or (isinstance(value, float) and math.isfinite(value)):
        return
    else:
        quotes = "; put it in quotes" if isinstance(value, datetime.date) else ""
        raise Misplaced(
            place, f"must be text, a finite number, true, false, null, a list or a mapping, but got {value}{quotes}"
        )
    for key, inner in value.items():
        _check_plain((*place, key), inner)


def as_schema_pattern(pattern: re.Pattern[str]) -> str:
    """Returns a pattern that a whole text must match for JSON Schema, which has no named groups."""
    return f"^(?:{re.sub(r'[(][?]P<[^>]+>', '(', pattern.pattern)})$"


def optional_dataclass(form: Any) -> type | None:
    """Returns the dataclass that a type unites with None; None for other types."""
    parts = get_args(form)
    inner = [part for part in parts if isinstance(part, type) and is_dataclass(part)]
    return inner[0] if inner and type(None) in parts else None


def _low_and_high(shares: tuple[float, ...]) -> None:
    if len(shares) != 2 or shares[0] > shares[1]:
        raise ValueError(f"must be the smallest and the largest share, as in [0.08, 1.0], but got {list(shares)}")


def _grey_or_colour(channels: int) -> None:
    # Not a Literal, for which True equals 1.
    if channels not in (1, 3):
        raise ValueError(f"must be 1 or 3, but got {channels!r}")


Fraction = Annotated[float, Range(0, 1, open_low=True, open_high=True)]
Share = Annotated[float, Range(0, 1)]
Options = Annotated[dict[str, Any], Read(_options, {"additionalProperties": True, "type": "object"})]
Positive = Annotated[float, Range(0, open_low=True)]
Shares = Annotated[
    tuple[Annotated[float, Range(0, 1, open_low=True)], ...],
    FromList(),
    Checked(_low_and_high, {"minItems": 2, "maxItems": 2, "examples": [[0.08, 1.0]]}),
]
# Shares of less than all.
Parts = Annotated[
    tuple[Fraction, ...], FromList(), Checked(_low_and_high, {"minItems": 2, "maxItems": 2, "examples": [[0.02, 0.33]]})
]
Count = Annotated[int, Range(1)]
# The largest whole number that JSON readers keep exactly. Seeds that are derived from it stay within 64 bits.
LARGEST_SEED = 2**53 - 1
Seed = Annotated[int, Range(0, LARGEST_SEED)]
Channels = Annotated[int, Checked(_grey_or_colour, {"enum": [1, 3]})]
Size = Annotated[
    str | int, Checked(size_in_bytes, {"pattern": as_schema_pattern(SIZE), "minimum": 0, "examples": ["20GB"]})
]
Duration = Annotated[
    str | float,
    Checked(duration, {"pattern": as_schema_pattern(DURATION), "exclusiveMinimum": 0, "examples": ["2h", "1h30m", 90]}),
]
