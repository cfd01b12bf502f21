"""Checks of the options of the API's functions, which the parser of the command line checks itself."""

from __future__ import annotations

from ctkd_search.errors import UserError


def is_number(value: object) -> bool:
    """Returns whether a value is a number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_whole(name: str, value: object, least: int = 1, most: int | None = None) -> None:
    """Refuses the value of an option that is no whole number of its range; None is an option that is not given.

    Raises:
        UserError: It is none.
    """
    if value is None or (is_number(value) and isinstance(value, int) and least <= value <= (most or value)):
        return
    limits = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise UserError(f"{name} must be a whole number {limits}, but got {value!r}")
