"""The user's own code, referred to as ``package.module:factory``."""

from __future__ import annotations

import importlib
import os
import re
import sys
import traceback
from types import ModuleType
from typing import Any

from ctkd_search.errors import UserError
from ctkd_search.text import one_line

REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def is_reference(name: str) -> bool:
    """Returns whether a name refers to the user's own code: names of this package have no colon."""
    return ":" in name


def load_object(reference: str) -> Any:
    """Imports the object of a reference, from the working directory or an installed package.

    The working directory comes first on Python's path from then on, as it does for a script in it. (Ray puts the
    directory that a search was started in on the path of its workers.)

    Args:
        reference: Module and attribute, as in ``package.module:factory``.

    Returns:
        The attribute, whatever it is.

    Raises:
        UserError: It is not a reference, there is no such module or attribute, or importing the module fails.
    """
    if not REFERENCE.fullmatch(reference):
        raise UserError(f"{reference!r} is not of the form package.module:factory, as in my_code:make")
    name, _, attribute = reference.partition(":")
    found: Any = _module(name)
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            where = getattr(found, "__file__", None) or name
            raise UserError(f"{reference!r} cannot be used: {where} has no {part!r}") from None
    return found


def _module(name: str) -> ModuleType:
    directory = os.getcwd()
    if directory not in sys.path:
        sys.path.insert(0, directory)
    # So that Python finds modules that were written since it last listed the directory.
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # The module itself, or a package of its name; any other name is an import inside the module that fails.
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise UserError(
                f"there is no module {error.name!r} in the working directory {directory}, and none is installed"
            ) from None
        raise _failed(name, error) from None
    except (Exception, SystemExit) as error:  # of the user's code, which may raise anything
        raise _failed(name, error) from None


def _failed(name: str, error: BaseException) -> UserError:
    return UserError(f"importing {name!r} fails with {describe_error(error)}")


def describe_error(error: BaseException) -> str:
    """Returns an error of the user's own code in one line: type, first line of the message, and file and line."""
    message = one_line(str(error))
    if isinstance(error, SyntaxError):
        message, where = error.msg, f"{error.filename}, line {error.lineno}"
    else:
        # The last frame that is code in a file: those of the import machinery are not.
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
        where = f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{f': {message}' if message else ''}{f' ({where})' if where else ''}"
