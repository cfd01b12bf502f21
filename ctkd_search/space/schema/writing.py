"""The reference as a text, and in files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ctkd_search.errors import UserError
from ctkd_search.files import write_text
from ctkd_search.space.schema.document import space_schema
from ctkd_search.space.schema.tables import has_place, reference, renewed

_WIDTH = 120


def schema_text() -> str:
    """Returns the JSON Schema as it is shipped with the ready spaces."""
    return as_json(space_schema()) + "\n"


def write_reference(markdown: bool, output: Path | None) -> str:
    """Writes the reference.

    Args:
        markdown: Whether as tables; else as JSON Schema.
        output: The file to write; None for none.

    Returns:
        Text to print: the reference itself, or the path that it was written to.

    Raises:
        UserError: The file cannot be written.
    """
    text = reference() if markdown else schema_text()
    if output is None:
        return text
    try:
        before = output.read_text(encoding="utf-8") if markdown and output.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {output}: {getattr(error, 'strerror', None) or error}") from None
    write_text(output, renewed(before) if has_place(before) else text)
    return f"wrote {output}\n"


def as_json(value: Any, indent: int = 0, before: int = 0) -> str:
    """Returns JSON in which every value that fits on a line is on one.

    Args:
        value: Plain values.
        indent: Columns by which the value is indented.
        before: Columns that are taken on its first line.
    """
    short = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or not value or max(indent, before) + len(short) < _WIDTH:
        return short
    pad = " " * (indent + 2)
    if isinstance(value, list):
        lines = [pad + as_json(item, indent + 2, indent + 2) for item in value]
    else:
        keys = {name: f"{pad}{json.dumps(name, ensure_ascii=False)}: " for name in value}
        lines = [key + as_json(value[name], indent + 2, len(key)) for name, key in keys.items()]
    opening, closing = "[]" if isinstance(value, list) else "{}"
    return opening + "\n" + ",\n".join(lines) + "\n" + " " * indent + closing
