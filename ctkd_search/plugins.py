"""The user's own code, referred to as ``package.module:factory``."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import os
import re
import sys
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
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


def code_hash(reference: str) -> str:
    """Returns a hash of the file that defines an object, as ``sha256 0123...``.

    Raises:
        UserError: The object cannot be imported, or there is no such file.
    """
    load_object(reference)
    source = inspect.getsourcefile(sys.modules[reference.partition(":")[0]])
    if source is None:
        raise UserError(
            f"{reference}: source file not found, so that changes to it cannot be detected; give a module that has a "
            ".py file"
        )
    return f"sha256 {hashlib.sha256(Path(source).read_bytes()).hexdigest()}"


def code_hashes(names: Iterable[str]) -> dict[str, str]:
    """Returns the hash of the file of each of some names that refers to the user's own code; see `code_hash`."""
    return {name: code_hash(name) for name in names if is_reference(name)}


def changed_code(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Returns a line for each name whose file is not the one that it was.

    Args:
        before: The hashes that were noted.
        now: The present ones.
    """
    return [f"{name}: its file has changed" for name, found in now.items() if before.get(name, found) != found]


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


def describe_error(error: BaseException, file: str | None = None) -> str:
    """Returns an error of the user's own code in one line: type, first line of the message, and file and line.

    Args:
        error: The error.
        file: The user's file, whose last line is named; None, or a file that is not in the traceback, for the last one
            of any file.
    """
    message = one_line(str(error))
    if isinstance(error, SyntaxError):
        message, where = error.msg, f"{error.filename}, line {error.lineno}"
    else:
        # The last frame that is code in a file: those of the import machinery are not.
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
        frames = [frame for frame in frames if frame.filename == file] or frames
        where = f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{f': {message}' if message else ''}{f' ({where})' if where else ''}"
