"""Writing files so that a crash never leaves half of one."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ctkd_search.errors import UserError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` to write to, and renames it to `path` when all went well.

    An existing file keeps its mode, and a new one gets that of the umask. A symbolic link stays, and its target is
    replaced; a device or a pipe is written to at the end.

    Args:
        path: The file to create or replace. Missing parent directories are made.

    Yields:
        The temporary path; whatever was written there is removed if the block raises.

    Raises:
        UserError: The directory cannot be written to.
    """
    if _is_special(path):
        with _through(path) as temporary:
            yield temporary
        return
    target = Path(os.path.realpath(path)) if os.path.islink(path) else path
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        # Of a file that others must not read, there is no copy that they can.
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else 0o600))
    except OSError as error:
        raise _cannot_write(target.parent, error) from None
    try:
        try:
            yield temporary
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}") from None
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        if mode is not None:
            temporary.chmod(mode)
        try:
            temporary.replace(target)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _is_special(path: Path) -> bool:
    """Returns whether there is something else than a file or a directory, such as /dev/stdout or a named pipe."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


@contextmanager
def _through(path: Path) -> Iterator[Path]:
    """Gives a temporary path, and copies what was written there to a device or a pipe when all went well."""
    with tempfile.TemporaryDirectory() as directory:
        temporary = Path(directory) / "content"
        yield temporary
        try:
            with open(temporary, "rb") as written, open(path, "wb") as target:
                shutil.copyfileobj(written, target)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror or error}") from None


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


def check_writable(path: Path) -> None:
    """Checks that a file can be written, for which its directory is made; before work that takes long.

    Raises:
        UserError: Its directory cannot be made or written to, or it is a directory itself.
    """
    if os.path.isdir(path):
        raise UserError(f"cannot write {path}: it is a directory")
    if not _is_special(path):
        make_directory(Path(os.path.realpath(path)).parent if os.path.islink(path) else path.parent)


def free_on_disk(path: Path) -> int:
    """Returns the free bytes on the disk of a path, which need not exist yet."""
    there = path.resolve()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free


def _cannot_write(directory: Path, error: OSError) -> UserError:
    reason = "it is a file" if isinstance(error, FileExistsError) else error.strerror or str(error)
    return UserError(f"cannot write to the directory {directory}: {reason}")
