"""Records as JSON files: numbers that JSON lacks are kept as text, and broken files are refused by their names."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from ctkd_search import __version__
from ctkd_search.errors import UserError


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
        return json.dumps(value, allow_nan=False, default=dataclasses.asdict)
    except ValueError:
        return json.dumps(_strict(value))


def _strict(value: Any) -> Any:
    """Returns a value without numbers that JSON lacks, as the losses of a diverged trial: they are kept as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _strict(dataclasses.asdict(value))
    if isinstance(value, float) and not math.isfinite(value):
        return {"number": str(value)}
    if isinstance(value, dict):
        return {key: _strict(inner) for key, inner in value.items()}
    return [_strict(inner) for inner in value] if isinstance(value, list | tuple) else value


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

    def number(value: Any) -> Any:
        if isinstance(value, dict) and value.keys() == {"number"}:
            return float(value["number"])
        if isinstance(value, dict):
            return {key: number(inner) for key, inner in value.items()}
        return [number(inner) for inner in value] if isinstance(value, list) else value

    try:
        content = number(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the record {path} ({error})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a record of ctkd-search: it contains a {type(content).__name__}")
    return content


def make_record(path: Path, content: dict[str, Any], form: Any) -> Any:
    """Converts the content of a record into the dataclass `form`.

    Raises:
        UserError: Its keys are not the fields of `form`.
    """
    try:
        return form(**content)
    except TypeError as error:
        raise UserError(f"{path} is not a record of ctkd-search {__version__} ({error})") from None
