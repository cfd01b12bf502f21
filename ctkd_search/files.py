"""Writing files so that a crash never leaves half of one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ctkd_search.errors import UserError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` to write to, and renames it to `path` when all went well.

    Args:
        path: The file to create or replace. Missing parent directories are made.

    Yields:
        The temporary path; whatever was written there is removed if the block raises.

    Raises:
        UserError: The directory cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise _cannot_write(path.parent, error) from None
    os.close(handle)
    temporary = Path(name)
    try:
        try:
            yield temporary
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}") from None
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        try:
            temporary.replace(path)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Creates or replaces a text file in one step."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def make_directory(path: Path) -> Path:
    """Makes a directory and its parents, and checks that files can be written there.

    Raises:
        UserError: It cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise _cannot_write(path, error) from None


def free_on_disk(path: Path) -> int:
    """Returns the free bytes on the disk of a path, which need not exist yet."""
    there = path.resolve()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free


def _cannot_write(directory: Path, error: OSError) -> UserError:
    return UserError(f"cannot write to the directory {directory}: {error.strerror or error}")
