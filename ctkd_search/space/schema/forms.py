"""JSON Schema of a mapping that fills a dataclass."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from ctkd_search.config import plain

Schema = dict[str, Any]


def described(text: str, schema: Mapping[str, Any]) -> Schema:
    """Returns the schema with a description, which begins with a capital letter and has no full stop at its end."""
    text = text.replace("``", "`")
    return {"description": (text[:1].upper() + text[1:]).removesuffix("."), **schema}


def attributes(form: type) -> dict[str, str]:
    """Returns the descriptions of the attributes in the docstring of a class."""
    _, _, section = (inspect.getdoc(form) or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    for line in section.splitlines():
        if match := re.fullmatch(r" {4}(\w+): (.*)", line):
            name, found[match[1]] = match[1], match[2]
        elif line.startswith(" " * 8):
            found[name] += " " + line.strip()
        else:
            break
    return found


def mapping(properties: Mapping[str, Schema], **rules: Any) -> Schema:
    """Returns the schema of a mapping that has these keys and no others."""
    return {"type": "object", "properties": dict(properties), "additionalProperties": False, **rules}


def one_of(meanings: Mapping[str, str]) -> Schema:
    """Returns the schema of one of several names, each with its description."""
    return {"oneOf": [described(text, {"const": name}) for name, text in meanings.items()]}


def section(form: type) -> Schema:
    """Returns the schema of a mapping that fills a dataclass, as `Document.validated` reads it.

    Args:
        form: The dataclass; its annotations say what is allowed, and its docstring what each key means.
    """
    hints, texts = get_type_hints(form, include_extras=True), attributes(form)
    properties, required = {}, []
    for item in dataclasses.fields(form):
        inner = dataclass_in(hints[item.name])
        schema = section(inner) if inner else _value(hints[item.name])
        if inner and type(None) in get_args(hints[item.name]):
            schema = optional(schema)
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            required.append(item.name)
        elif not inner:
            schema["default"] = plain(item.default)
        properties[item.name] = described(texts[item.name], schema)
    return mapping(properties, **({"required": required} if required else {}))


def dataclass_in(hint: Any) -> type | None:
    """Returns the dataclass that a type is, or its union with None contains."""
    parts = (hint, *get_args(hint))
    return next((part for part in parts if isinstance(part, type) and dataclasses.is_dataclass(part)), None)


def _value(hint: Any) -> Schema:
    from pydantic import TypeAdapter

    return _tidy(TypeAdapter(hint).json_schema())


def _tidy(schema: Schema) -> Schema:
    """Merges branches that differ only in type into one list of types, which is easier to read."""
    branches = [_tidy(branch) for branch in schema.get("anyOf", [])]
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    if branches and all(set(branch) == {"type"} for branch in branches):
        return {"type": [branch["type"] for branch in branches], **rest}
    others = [branch for branch in branches if branch != {"type": "null"}]
    if len(others) == 1 and "type" in others[0]:
        return {**optional(others[0]), **rest}
    return schema


def optional(schema: Schema) -> Schema:
    """Returns the schema extended by null."""
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    rest = {key: value for key, value in schema.items() if key != "const"}
    return {**rest, "type": [*types, "null"], **({"enum": [*values, None]} if values else {})}
