"""Spaces as users of the API name them: a path, a mapping, or a `Space`; and overrides of their keys."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ctkd_search.display.consoles import without_widget_advice
from ctkd_search.errors import UserError
from ctkd_search.paths import directory_fault, user_path
from ctkd_search.space.definition import Space
from ctkd_search.space.document import Document, read
from ctkd_search.space.reader import read_document

PathLike: TypeAlias = str | os.PathLike[str]
# A space: the path of its file, its content, or a space that was read before.
AnySpace: TypeAlias = PathLike | Mapping[str, Any] | Space
# Values by their dotted keys, or words as ``--set`` takes them.
Overrides: TypeAlias = Mapping[str, Any] | Sequence[str] | None

_SOURCE = "the space"


def open_space(space: AnySpace, overrides: Overrides = (), **options: Any) -> tuple[Space, Document]:
    """Reads a space.

    Args:
        space: The space.
        overrides: Values that replace or add keys.
        options: Values of further keys, with ``__`` in place of the dot; None leaves a key as it is. The overrides take
            precedence.

    Returns:
        The space, and its document for messages.

    Raises:
        UserError: The space has faults; the message lists all of them.
    """
    without_widget_advice()
    given = {name.replace("__", "."): value for name, value in options.items() if value is not None}
    document = _document(space, [*words(given), *words(overrides)])
    return read_document(document), document


def _document(space: AnySpace, overrides: Sequence[str]) -> Document:
    if isinstance(space, Space):
        return Document.of(_SOURCE, plain_values(space.raw), overrides)
    if isinstance(space, Mapping):
        return Document.of(_SOURCE, plain_values(space), overrides)
    return read(path_of(space, "a space", "a path, a mapping or a Space"), overrides)


def path_of(path: Any, what: str, forms: str = "a path") -> Path:
    """Returns a path as users write it.

    Args:
        path: The path.
        what: What it is the path of, for the message.
        forms: The forms that it may have.

    Raises:
        UserError: It is no path.
    """
    if not isinstance(path, str | os.PathLike):
        raise UserError(f"{what} must be {forms}, but got {path!r}")
    return user_path(os.fspath(path))


def directory_of(trials_dir: PathLike) -> Path:
    """Returns the directory of all searches.

    Args:
        trials_dir: Its path, where nothing need be yet.

    Raises:
        UserError: It is no path, or that of a file.
    """
    path = path_of(trials_dir, "trials_dir")
    if fault := directory_fault(path):
        raise UserError(f"trials_dir: {fault}")
    return path


def words(overrides: Overrides) -> list[str]:
    """Returns overrides as KEY=VALUE words.

    Raises:
        UserError: They are neither a mapping nor such words, or a value cannot stand in a YAML file.
    """
    if overrides is None:
        return []
    if isinstance(overrides, Mapping):
        return [f"{key}={_written(key, value)}" for key, value in overrides.items()]
    found = list(overrides) if isinstance(overrides, Iterable) and not isinstance(overrides, str) else None
    if found is None or not all(isinstance(word, str) for word in found):
        raise UserError(f"overrides must be a mapping of keys to values, but got {overrides!r}")
    return found


def _written(key: str, value: Any) -> str:
    """Returns a value as JSON, which YAML reads as the same value."""
    try:
        return json.dumps(plain_values(value), ensure_ascii=False)
    except TypeError:
        plain = "numbers, texts, truth values, lists and mappings"
        raise UserError(f"the override of {key} must contain {plain} alone, but got {value!r}") from None


def plain_values(value: Any) -> Any:
    """Returns a value with plain mappings, lists, texts and numbers for those of other libraries, and for paths."""
    if isinstance(value, Mapping):
        return {key: plain_values(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(inner) for inner in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    # Of NumPy: its numbers, and arrays of them.
    return value.tolist() if hasattr(value, "tolist") else value


def read_space(space: AnySpace, overrides: Overrides = ()) -> Space:
    """Returns a space, checked: the same object may then be checked, run and passed on.

    Args:
        space: The path of its file, the content of such a file, or a space that is to be changed.
        overrides: Values of any keys by their dotted names, as in ``{"train.batch_size": 64}``.

    Raises:
        UserError: The space has faults; the message lists all of them, those of a file with their lines.
    """
    return open_space(space, overrides)[0]
