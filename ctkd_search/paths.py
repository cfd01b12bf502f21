"""Paths as users write them."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from ctkd_search.errors import UserError

# The suffixes of YAML files.
YAML_SUFFIXES = (".yaml", ".yml")
# A path in a URI of a local store: SQLAlchemy's has three slashes before it, a file's none, two or three.
_LOCAL_URI = re.compile(r"(sqlite:///|file:(?://)?)(~.*)", re.DOTALL)


def expanded(path: str | os.PathLike[str]) -> str:
    """Return a path in which a leading ``~`` or ``~user`` is that home directory; an unknown user's stays as it is.

    No shell does this in a YAML file, nor in ``--set KEY=~/x`` and in an environment file.
    """
    return os.path.expanduser(path)


def user_path(text: str) -> Path:
    """Return the path that a word of the command line means."""
    return Path(expanded(text))


def directory_fault(path: Path) -> str | None:
    """Return why a path cannot be that of a directory, which need not exist; None if it can."""
    try:
        os.scandir(path).close()
    except NotADirectoryError:
        return f"{path} is a file, not a directory" if os.path.exists(path) else None
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        return f"cannot read {path}: {error.strerror}"
    return None


def is_file(path: Path) -> bool:
    """Return whether a path is that of a file.

    Raises:
        UserError: The user may not look there.
    """
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except PermissionError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (OSError, ValueError):
        return False


def expanded_uri(uri: str) -> str:
    """Return the URI of a local store, or a plain path, with ``~`` as the home directory; other URIs as they are."""
    local = _LOCAL_URI.fullmatch(uri)
    return local[1] + expanded(local[2]) if local else expanded(uri)
