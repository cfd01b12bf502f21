"""Record files: a description and a content, of which a reader sees all or nothing.

A record is written to a temporary name and renamed into place, and its header contains a checksum of the content.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ctkd_search.files import atomic

SUFFIX = ".rec"
_MAGIC = b"CTKD-REC-1\n"
_ALIGNMENT = 64
_LONGEST_HEADER = 2**20


def write_record(path: Path, content: bytes | memoryview, about: Mapping[str, Any]) -> None:
    """Writes a record.

    Args:
        path: Its file.
        content: Its content.
        about: Its description, to which the content's size and checksum are added; at most 1 MB as JSON.

    Raises:
        UserError: The directory cannot be written to, or the disk is full.
    """
    described = {**about, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    header = json.dumps(described).encode()
    header += b" " * (-len(header) % _ALIGNMENT)
    # Before the header: its length and its own checksum, in as many bytes as keep the content aligned.
    prefix = _MAGIC + len(header).to_bytes(8, "little") + hashlib.sha256(header).digest()
    with atomic(path) as temporary, open(temporary, "wb") as file:
        file.write(prefix.ljust(_ALIGNMENT, b"\0"))
        file.write(header)
        file.write(content)


def read_header(file: BinaryIO) -> tuple[dict[str, Any], int] | None:
    """Returns the description of a record and the offset of its content, at which the file is left.

    The content is not compared with its checksum.

    Args:
        file: The record's file, at its beginning.

    Returns:
        None if it is not a record, if its header is damaged, or if its content is shorter or longer than it was.

    Raises:
        OSError: It cannot be read.
        ValueError: The header is not JSON.
        KeyError, TypeError: It is not a record's.
    """
    prefix = file.read(_ALIGNMENT)
    length = int.from_bytes(prefix[len(_MAGIC) : len(_MAGIC) + 8], "little")
    if not prefix.startswith(_MAGIC) or length > _LONGEST_HEADER:
        return None
    header = file.read(length)
    if hashlib.sha256(header).digest() != prefix[len(_MAGIC) + 8 : len(_MAGIC) + 40]:
        return None
    described = json.loads(header)
    if os.fstat(file.fileno()).st_size != _ALIGNMENT + length + described["bytes"]:
        return None
    return described, _ALIGNMENT + length
