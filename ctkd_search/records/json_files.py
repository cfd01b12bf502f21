"""Records as JSON files: numbers that JSON lacks are kept as text, and broken files are refused by their names."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from ctkd_search import __version__
from ctkd_search.errors import UserError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

# What a number that JSON lacks is kept as: a mapping of this key alone to one of these texts.
_KEY, _LACKING = "number", ("nan", "inf", "-inf")
# A mapping of the user's that reads like one, or like one that was told from it: a list of the text tells it apart.
_ALIKE = re.compile(rf'{{"{_KEY}": \[*"(?:{"|".join(_LACKING)})"\]*}}')


def as_json(record: Any) -> str:
    """Returns a record, a dataclass of plain values, as JSON text: a line for each field, and for each item of a list.

    A trial's record is written after each of its epochs: its fields are neither copied nor laid out by Python's own
    encoder, which takes several times as long as the one in C.
    """
    fields = ((field.name, getattr(record, field.name)) for field in dataclasses.fields(record))
    return "{\n" + ",\n".join(f" {json.dumps(name)}: {_lines(value)}" for name, value in fields) + "\n}\n"


def _lines(value: Any) -> str:
    if isinstance(value, list) and value:
        return "[\n  " + ",\n  ".join(map(_encoded, value)) + "\n ]"
    return _encoded(value)


def _encoded(value: Any) -> str:
    try:
        text = json.dumps(value, allow_nan=False, default=dataclasses.asdict)
    except ValueError:
        return json.dumps(_strict(value))
    return json.dumps(_strict(value)) if _ALIKE.search(text) else text


def _strict(value: Any) -> Any:
    """Returns a value without numbers that JSON lacks, as the losses of a diverged trial: they are kept as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _strict(dataclasses.asdict(value))
    if isinstance(value, float) and not math.isfinite(value):
        return {_KEY: str(value)}
    if isinstance(value, dict) and value.keys() == {_KEY} and _is_alike(value[_KEY]):
        return {_KEY: [value[_KEY]]}
    if isinstance(value, dict):
        return {key: _strict(inner) for key, inner in value.items()}
    return [_strict(inner) for inner in value] if isinstance(value, list | tuple) else value


def _is_alike(value: Any) -> bool:
    """Returns whether a value is the text of a number that JSON lacks, alone in any number of lists."""
    while isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    return isinstance(value, str) and value in _LACKING


def _restored(value: Any) -> Any:
    """Returns a value as it was before `_strict`."""
    if isinstance(value, dict) and value.keys() == {_KEY} and _is_alike(value[_KEY]):
        kept = value[_KEY]
        return float(kept) if isinstance(kept, str) else {_KEY: kept[0]}
    if isinstance(value, dict):
        return {key: _restored(inner) for key, inner in value.items()}
    return [_restored(inner) for inner in value] if isinstance(value, list) else value


def read_record(path: Path, form: Any) -> Any:
    """Reads a record as the dataclass `form`.

    Raises:
        UserError: The file cannot be read, or contains something else.
    """
    return make_record(path, read_plain(path), form)


def read_plain(path: Path) -> dict[str, Any]:
    """Reads a record as plain values, so that its format is checked before it is converted.

    Raises:
        UserError: The file cannot be read, or contains no JSON object.
    """
    try:
        content = _restored(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the record {path} ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a record of ctkd-search: it contains a {type(content).__name__}")
    return content


def make_record(path: Path, content: dict[str, Any], form: Any) -> Any:
    """Converts the content of a record into the dataclass `form`.

    Raises:
        UserError: Its keys are not the fields of `form`, or a value is not of its field's type.
    """
    try:
        made = form(**content)
    except TypeError as error:
        raise UserError(f"{path} is not a record of ctkd-search {__version__} ({error})") from None
    if fault := _fault(content, form):
        raise UserError(f"{path} is not a record of ctkd-search {__version__} ({fault})")
    return made


def _fault(content: dict[str, Any], form: Any) -> str | None:
    """Returns the first value that is not of the type of its field in `form`, with the rule; None if all are."""
    from pydantic import ValidationError

    for name, kind in _types(form).items():
        try:
            if name in content:
                kind.validate_python(content[name], strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, (name, *first["loc"])))
            rule = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
            return f"{place} {rule}" if "but got" in rule else f"{place} {rule}, but got {first['input']!r:.80}"
    return None


@functools.cache
def _types(form: Any) -> dict[str, TypeAdapter[Any]]:
    """Returns what checks the type of each field of a dataclass; compiled code does."""
    from pydantic import TypeAdapter

    return {name: TypeAdapter(hint) for name, hint in get_type_hints(form, include_extras=True).items()}
