"""The teacher cache: outputs and weights of teachers, named by a hash of all that determines them.

A *record* is one file: a header that describes it, and its content. It is written to a temporary name and renamed
into place, and its header contains a checksum of the content: a reader sees a whole record or none, without locks,
whichever process is killed at whatever time. Two writers of the same name write the same content (to the last bit on
one CPU with equal threads; two trainings on GPUs differ in rounding), so that either may be the last.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctkd_search.cache_index import CacheIndex
from ctkd_search.record_file import SUFFIX, read_header, write_record

# Errors of a process that lacks memory or file handles for a moment: its record is neither missing nor damaged.
_SHORTAGES = (errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN)

# Records whose checksum this process has compared, by path, with the file's inode, size and time then: a trial reads
# the record that the trial before it has read, and need not compute its checksum again.
_verified: dict[Path, tuple[int, int, int]] = {}


def content_hash(parts: Mapping[str, Any]) -> str:
    """Returns a hash of everything that determines a content, short enough for a file name."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


class TeacherCache:
    """A directory of records.

    Args:
        directory: Its path; created by the first write.
        user: Search that uses it, noted for the list of the cache.
    """

    def __init__(self, directory: Path, user: str = "?") -> None:
        self.directory = directory
        self.user = user
        self.index = CacheIndex(directory)

    def write(self, name: str, content: np.ndarray | bytes, about: Mapping[str, Any] | None = None) -> None:
        """Writes a record.

        Args:
            name: Its name, ``entry/record``.
            content: An array, or bytes.
            about: Its description.

        Raises:
            UserError: The directory cannot be written to, or the disk is full.
        """
        described = dict(about or {})
        if isinstance(content, np.ndarray):
            described |= {"dtype": str(content.dtype), "shape": list(content.shape)}
            payload = np.ascontiguousarray(content).reshape(-1).view(np.uint8).data
        else:
            payload = memoryview(content)
        path = self._path(name)
        write_record(path, payload, described)
        _verified.pop(path, None)

    def read_array(self, name: str) -> np.ndarray | None:
        """Returns an array, mapped into memory and read-only; None if its record is missing or damaged."""
        found = self._open(name)
        if found is None:
            return None
        described, offset = found
        try:
            shape = tuple(described["shape"])
            return np.memmap(self._path(name), dtype=described["dtype"], mode="c", offset=offset, shape=shape)
        except (KeyError, OSError, TypeError, ValueError) as error:
            _raise_shortage(error)
            return None

    def read_bytes(self, name: str) -> bytes | None:
        """Returns bytes; None if their record is missing or damaged."""
        found = self._open(name)
        if found is None:
            return None
        described, offset = found
        try:
            with open(self._path(name), "rb") as file:
                file.seek(offset)
                return file.read(described["bytes"])
        except OSError as error:
            _raise_shortage(error)
            return None

    def write_state(self, name: str, state: Mapping[str, Any], about: Mapping[str, Any] | None = None) -> None:
        """Writes tensors and plain values, as torch.save does."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        self.write(name, buffer.getvalue(), about)

    def read_state(self, name: str) -> dict[str, Any] | None:
        """Returns tensors and plain values, on the CPU; None if their record is missing or damaged."""
        content = self.read_bytes(name)
        if content is None:
            return None
        state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return state

    def about(self, name: str) -> dict[str, Any] | None:
        """Returns the description of a record; None if it is missing or damaged."""
        found = self._open(name)
        return None if found is None else found[0]

    def __contains__(self, name: str) -> bool:
        """Returns whether a record exists and is undamaged."""
        return self._open(name) is not None

    def holds(self, name: str) -> bool:
        """Returns whether a record exists, without reading it."""
        return self._path(name).is_file()

    def remove(self, name: str) -> None:
        """Removes a record, if there is one."""
        self._path(name).unlink(missing_ok=True)

    def note_use(self, entry: str) -> None:
        """Notes that this cache's user has used an entry."""
        self.index.used_by(entry, self.user)

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}{SUFFIX}"

    def _open(self, name: str) -> tuple[dict[str, Any], int] | None:
        """Returns the description of a record and the offset of its content, after comparing its checksum."""
        path = self._path(name)
        try:
            with open(path, "rb") as file:
                found = read_header(file)
                if found is None:
                    return None
                described, offset = found
                status = os.fstat(file.fileno())
                seen = (status.st_ino, status.st_size, status.st_mtime_ns)
                if _verified.get(path) != seen:
                    if hashlib.file_digest(file, "sha256").hexdigest() != described["sha256"]:
                        return None
                    _verified[path] = seen
                return described, offset
        except (OSError, ValueError, KeyError, TypeError) as error:
            _raise_shortage(error)
            return None


def _raise_shortage(error: Exception) -> None:
    """Raises an error again that is about this process and not about a record."""
    if getattr(error, "errno", None) in _SHORTAGES:
        raise error
