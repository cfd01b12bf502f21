"""Overrides: values that a command puts in place of those of a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ctkd_search.errors import UserError
from ctkd_search.space.sections import NAMED
from ctkd_search.text import one_line

_LONGEST = 80


def put(data: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    """Puts a value at a place of a document. Mappings that lead there are made where nothing is.

    Args:
        data: The document, which is changed.
        keys: The keys that lead there.
        value: The value.

    Raises:
        UserError: On the way there is a value that has no keys, which would be lost.
    """
    into = data
    for length, key in enumerate(keys[:-1], start=1):
        there = into.get(key)
        if length == 1 and key in NAMED and isinstance(there, str):
            there = into[key] = {"name": there}
        if there is None:
            there = into[key] = {}
        if not isinstance(there, dict):
            place = ".".join(keys[:length])
            raise UserError(
                f"--set {'.'.join(keys)}: {place} is {one_line(repr(there), _LONGEST)}, which has no keys; replace it "
                f"as a whole, with --set {place}=VALUE"
            )
        into = there
    into[keys[-1]] = value
