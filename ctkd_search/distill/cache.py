"""The teacher cache: what teachers said and became, named by a hash of all that determines it.

A *record* is one file: a header that describes it, and its content. It is written to a temporary name and renamed
into place, and its header holds a checksum of the content: a reader sees a whole record or none, without locks,
whatever is killed whenever. Two writers of the same name write the same content (to the last bit on one CPU with equal
threads; two trainings on GPUs differ in rounding), so that it does not matter who comes last.
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

from ctkd_search.distill.shelves import Shelves
from ctkd_search.files import atomic

_MAGIC = b"CTKD-REC-1\n"
_ALIGNMENT = 64
_LONGEST_HEADER = 2**20
_SUFFIX = ".rec"
# What this process lacks for a moment says nothing of a record: it is neither missing nor damaged.
_SHORTAGES = (errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN)

# Records whose checksum this process has compared, by path, and what the file looked like then: a trial reads the
# same record that the trial before it has read, and need not go through all of it again.
_verified: dict[Path, tuple[int, int, int]] = {}


def content_hash(parts: Mapping[str, Any]) -> str:
    """A hash of everything that determines a content, short enough for a file name."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


class TeacherCache:
    """A directory of records.

    Args:
        directory: Where they are; made when first written to.
        user: The search that uses it, noted for those who list the cache.
    """

    def __init__(self, directory: Path, user: str = "?") -> None:
        self.directory = directory
        self.user = user
        self.shelves = Shelves(directory)

    def write(self, name: str, content: np.ndarray | bytes, about: Mapping[str, Any] | None = None) -> None:
        """Keeps a record.

        Args:
            name: Its name, ``shelf/record``.
            content: An array, or bytes.
            about: What describes it.

        Raises:
            UserError: The directory cannot be written to, or the disk is full.
        """
        described = dict(about or {})
        if isinstance(content, np.ndarray):
            described |= {"dtype": str(content.dtype), "shape": list(content.shape)}
            payload = np.ascontiguousarray(content).reshape(-1).view(np.uint8).data
        else:
            payload = memoryview(content)
        described |= {"bytes": len(payload), "sha256": hashlib.sha256(payload).hexdigest()}
        header = json.dumps(described).encode()
        header += b" " * (-len(header) % _ALIGNMENT)
        # In front of the header: its length and its own checksum, in as many bytes as keep the content aligned.
        prefix = _MAGIC + len(header).to_bytes(8, "little") + hashlib.sha256(header).digest()
        path = self._path(name)
        with atomic(path) as temporary, open(temporary, "wb") as file:
            file.write(prefix.ljust(_ALIGNMENT, b"\0"))
            file.write(header)
            file.write(payload)
        _verified.pop(path, None)

    def read_array(self, name: str) -> np.ndarray | None:
        """A kept array, mapped into memory and read-only; None if there is none, or not what was written."""
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
        """Kept bytes; None if there are none, or not what was written."""
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
        """Keeps tensors and plain values, as torch.save writes them."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        self.write(name, buffer.getvalue(), about)

    def read_state(self, name: str) -> dict[str, Any] | None:
        """Kept tensors and plain values, on the CPU; None if there are none, or not what was written."""
        content = self.read_bytes(name)
        if content is None:
            return None
        state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return state

    def about(self, name: str) -> dict[str, Any] | None:
        """What describes a record; None if there is none, or not what was written."""
        found = self._open(name)
        return None if found is None else found[0]

    def __contains__(self, name: str) -> bool:
        """Whether a record is kept and is what was written."""
        return self._open(name) is not None

    def holds(self, name: str) -> bool:
        """Returns whether a record is there, its content not looked at."""
        return self._path(name).is_file()

    def remove(self, name: str) -> None:
        """Removes a record, if there is one."""
        self._path(name).unlink(missing_ok=True)

    def note_use(self, shelf: str) -> None:
        """Notes that this cache's user has used a shelf."""
        self.shelves.used_by(shelf, self.user)

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}{_SUFFIX}"

    def _open(self, name: str) -> tuple[dict[str, Any], int] | None:
        """The description of a record and where its content begins, after comparing its checksum."""
        path = self._path(name)
        try:
            with open(path, "rb") as file:
                prefix = file.read(_ALIGNMENT)
                length = int.from_bytes(prefix[len(_MAGIC) : len(_MAGIC) + 8], "little")
                if not prefix.startswith(_MAGIC) or length > _LONGEST_HEADER:
                    return None
                header = file.read(length)
                if hashlib.sha256(header).digest() != prefix[len(_MAGIC) + 8 : len(_MAGIC) + 40]:
                    return None
                described = json.loads(header)
                status = os.fstat(file.fileno())
                seen = (status.st_ino, status.st_size, status.st_mtime_ns)
                if status.st_size != _ALIGNMENT + length + described["bytes"]:
                    return None
                if _verified.get(path) != seen:
                    if hashlib.file_digest(file, "sha256").hexdigest() != described["sha256"]:
                        return None
                    _verified[path] = seen
                return described, _ALIGNMENT + length
        except (OSError, ValueError, KeyError, TypeError) as error:
            _raise_shortage(error)
            return None


def _raise_shortage(error: Exception) -> None:
    """Raises an error anew that says what this process lacks, not what a record is."""
    if getattr(error, "errno", None) in _SHORTAGES:
        raise error
