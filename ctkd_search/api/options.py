"""Checks of the options of the API's functions, which the parser of the command line checks itself."""

from __future__ import annotations

import numbers
import threading

from ctkd_search.errors import UserError


def is_number(value: object) -> bool:
    """Returns whether a value is a number, and no truth value."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_whole(name: str, value: object, least: int = 1, most: int | None = None) -> int | None:
    """Returns the value of an option as a whole number of Python; None is an option that is not given.

    Raises:
        UserError: It is no whole number, or none of its range.
    """
    if value is None:
        return None
    # Those of NumPy are some too.
    if isinstance(value, numbers.Integral) and is_number(value) and least <= int(value) <= (most or int(value)):
        return int(value)
    limits = f"of at least {least}" if most is None else f"from {least} to {most}"
    raise UserError(f"{name} must be a whole number {limits}, but got {value!r}")


def request_stop(stop: threading.Event | None, work: str, function: str) -> None:
    """Asks for the end of work that is running.

    Args:
        stop: Set for the end; None where the work is not running, or is not that of this object.
        work: The work, for the message.
        function: Name of the function that runs it.

    Raises:
        UserError: It is not running.
    """
    if stop is None:
        raise UserError(
            f"{work} cannot be stopped here: only the object that {function} gives to its callbacks can do so, until "
            "they are told of the end; interrupt one of another process with Ctrl-C"
        )
    stop.set()
