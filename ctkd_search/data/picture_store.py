"""Decoded pictures on disk, so that no epoch but the first has to decode their files.

A *store* is a directory of *blocks*, each a record of the next 256 pictures of a data set. Blocks are written whole and
never changed, so that any number of processes and machines read them without locks, and a store whose writer was killed
goes on with the first block that is missing. Every picture has a checksum, which each process compares when it reads
the picture for the first time. A picture that is missing or damaged is made from its file again, so that training never
depends on what is stored: the images are the same bits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ctkd_search.cores import usable_cores
from ctkd_search.data.decode import BrokenImage, broken_images
from ctkd_search.data.picture_form import Encoded, Kept
from ctkd_search.data.watching import watcher
from ctkd_search.errors import UserError
from ctkd_search.files import free_on_disk
from ctkd_search.record_file import SUFFIX, read_header, write_record
from ctkd_search.text import size as in_words

if TYPE_CHECKING:
    import numpy as np

_log = logging.getLogger(__name__)
# Part of every store's name: raise it when pictures are kept in another way.
VERSION = 2
BLOCK = 256
# Number of files, evenly spread, that are decoded for a store's name.
_PROBES = 16
# Blocks that are decoded while another one is written.
_AHEAD = 2
# Bytes that are left free on the disk, for records and models.
RESERVE = 2**30
# The block that a record is, in its description.
_OF = "block"

# A store and the number of a picture in it; None for a picture that is in none.
Place: TypeAlias = tuple[str, int] | None
# A function that returns the paths of the files at some positions.
Paths: TypeAlias = "Callable[[np.ndarray | slice], list[str]]"

# What a process has read of blocks: their index, and which of their pictures had the right checksum.
_blocks: dict[str, _Block] = {}


@dataclass(frozen=True)
class Stored:
    """The places of images in stores.

    Attributes:
        directories: The stores.
        places: The number of the store in `directories`, -1 for an image that is in none, and the number of the picture
            in that store: int64, shape (images, 2).
    """

    directories: tuple[str, ...]
    places: np.ndarray

    def __getitem__(self, chosen: np.ndarray) -> Stored:
        """The places of the images at these positions."""
        return Stored(self.directories, self.places[chosen])

    def at(self, chosen: np.ndarray) -> tuple[Place, ...]:
        """The places of some images."""
        return tuple(
            (self.directories[store], row) if store >= 0 else None for store, row in self.places[chosen].tolist()
        )


def joined(parts: Sequence[tuple[Stored | None, int]]) -> Stored | None:
    """Returns the places of several groups of images, one after the other; None where none of them is stored.

    Args:
        parts: The places of each group, and its number of images.
    """
    import numpy as np

    if all(stored is None for stored, _ in parts):
        return None
    directories = tuple(dict.fromkeys(each for stored, _ in parts if stored for each in stored.directories))
    places = []
    for stored, count in parts:
        if stored is None:
            places.append(np.full((count, 2), -1, dtype=np.int64))
            continue
        # The last number is for images that are in none: -1 is the last index.
        numbers = np.array([*(directories.index(each) for each in stored.directories), -1])
        places.append(np.stack([numbers[stored.places[:, 0]], stored.places[:, 1]], axis=1))
    return Stored(directories, np.concatenate(places))


class PictureStore:
    """A store of the pictures of some files.

    Its name is a hash of their form, of every file's name, size and time of modification, and of a few pictures in that
    form: other files of equal names, sizes and times have another store, and so have those of another decoder.

    Args:
        parent: The directory that its own is in.
        kept: The form of the pictures.
        names: The files' names, and `marks` their sizes and times; see `ImageFiles`.
        paths: Returns the paths of some of the files.
    """

    def __init__(self, parent: Path, kept: Kept, names: np.ndarray, marks: np.ndarray, paths: Paths) -> None:
        self.kept = kept
        self.count = len(names)
        self._paths = paths
        digest = hashlib.sha256(json.dumps([VERSION, dataclasses.asdict(kept)]).encode())
        digest.update(b"\0".join(names.tolist()))
        digest.update(marks.tobytes())
        for height, width, picture in self._probes():
            digest.update(f"{height} {width} ".encode())
            digest.update(picture)
        self.directory = parent / f"pictures-{digest.hexdigest()[:24]}"

    def _probes(self) -> Iterator[Encoded]:
        """Yields a few pictures in the form in which they are kept; nothing for one that cannot be read."""
        import numpy as np

        for path in self._paths(np.linspace(0, self.count - 1, min(self.count, _PROBES)).astype(np.int64)):
            # `fill` names all files that cannot be read.
            with contextlib.suppress(BrokenImage):
                yield self.kept.encoded(path)

    def about(self, what: str) -> dict[str, Any]:
        """Returns a description for the list of the cache."""
        form = {key: value for key, value in dataclasses.asdict(self.kept).items() if value is not None}
        return {"kind": "pictures", "what": what, "pictures": self.count, **form}

    @property
    def blocks(self) -> int:
        """Number of blocks of the whole store."""
        return -(-self.count // BLOCK)

    def missing(self) -> list[int]:
        """Returns the numbers of the blocks that are not there, or whose header is damaged."""
        paths = [_path(self.directory, number) for number in range(self.blocks)]
        for path in paths:
            _blocks.pop(path, None)  # it may have been removed since this process has read it
        return [number for number, path in enumerate(paths) if _index(path) is None]

    def fill(self, what: str) -> None:
        """Writes the blocks that are missing.

        A disk that becomes full, or cannot be written to, is noted for the user, and the rest is left out.

        Args:
            what: Description of them for messages, as in ``training images``.

        Raises:
            UserError: Some files cannot be read.
        """
        left = self.missing()
        stored = self.count - sum(min(BLOCK, self.count - BLOCK * number) for number in left)
        broken: list[BrokenImage] = []
        with ThreadPoolExecutor(usable_cores()) as pool:
            for number, pictures in self._decoded(pool, left):
                found, faults = _results(pictures)
                broken += faults
                if not broken and (fault := self._write(number, found)):
                    watcher().note(
                        f"only {stored:,} of {self.count:,} {what} are stored decoded, because {fault}; the others are "
                        "decoded in every epoch"
                    )
                    break
                stored += len(pictures)
                watcher().progress(f"storing the {what} decoded", stored, self.count)
        if broken:
            raise UserError(broken_images(broken, self.count, what))

    def _decoded(self, pool: ThreadPoolExecutor, blocks: Sequence[int]) -> Iterator[tuple[int, list[Future[Encoded]]]]:
        """Yields the number and the pictures of each block; some are decoded ahead."""
        waiting: deque[tuple[int, list[Future[Encoded]]]] = deque()
        try:
            for number in blocks:
                files = self._paths(slice(BLOCK * number, min(BLOCK * (number + 1), self.count)))
                waiting.append((number, [pool.submit(self.kept.encoded, path) for path in files]))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            for _, futures in waiting:
                for future in futures:
                    future.cancel()

    def _write(self, number: int, pictures: Sequence[Encoded]) -> str | None:
        """Writes a block; returns why it cannot be written, or None."""
        content = b"".join(picture for _, _, picture in pictures)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if free_on_disk(self.directory) < len(content) + RESERVE:
                return f"less than {in_words(RESERVE)} would be left on the disk of {self.directory}"
            index = [[height, width, len(each), zlib.crc32(each)] for height, width, each in pictures]
            path = _path(self.directory, number)
            write_record(Path(path), memoryview(content), {_OF: _identity(path), "pictures": index})
        except UserError as error:
            return str(error)
        except OSError as error:
            return f"{self.directory} cannot be written to ({error.strerror or error})"
        return None


def _results(futures: Sequence[Future[Encoded]]) -> tuple[list[Encoded], list[BrokenImage]]:
    """Returns the pictures of a block, and the files of it that cannot be read."""
    found, broken = [], []
    for future in futures:
        try:
            found.append(future.result())
        except BrokenImage as error:
            broken.append(error)
    return found, broken


@dataclass
class _Block:
    """The index of a block.

    Attributes:
        sizes: Height, width, bytes and checksum of each picture, int64, shape (pictures, 4).
        starts: Offset of each picture in the file.
        checked: Whether this process has compared its checksum.
    """

    sizes: np.ndarray
    starts: np.ndarray
    checked: np.ndarray


def _path(directory: str | os.PathLike[str], number: int) -> str:
    return os.path.join(directory, f"{number:06d}{SUFFIX}")


def _identity(path: str) -> str:
    """Returns the part of a block's path that tells it from every other block."""
    return os.path.join(os.path.basename(os.path.dirname(path)), os.path.basename(path))


def _index(path: str) -> _Block | None:
    """Returns the index of a block; None if it is missing or its header damaged."""
    import numpy as np

    if path in _blocks:
        return _blocks[path]
    try:
        with open(path, "rb") as file:
            found = read_header(file)
        if found is None or found[0][_OF] != _identity(path):
            return None
        sizes = np.array(found[0]["pictures"], dtype=np.int64).reshape(-1, 4)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    starts = found[1] + np.concatenate([[0], np.cumsum(sizes[:-1, 2])])
    _blocks[path] = _Block(sizes, starts, np.zeros(len(sizes), dtype=bool))
    return _blocks[path]


def read_picture(place: Place, kept: Kept) -> np.ndarray | None:
    """Returns a stored picture: uint8, shape (height, width, channels).

    Args:
        place: Its place.
        kept: The form in which it is kept.

    Returns:
        None if it is not stored, or damaged. A damaged block is removed, so that the next search writes it again.
    """
    import numpy as np

    if place is None:
        return None
    path, row = _path(place[0], place[1] // BLOCK), place[1] % BLOCK
    block = _index(path)
    if block is None:
        return None
    height, width, length, checksum = block.sizes[row].tolist()
    try:
        with open(path, "rb") as file:
            content = np.empty(length, dtype=np.uint8)
            read = os.preadv(file.fileno(), [content.data], int(block.starts[row]))
    except OSError:
        _blocks.pop(path, None)  # removed in the meantime, or its storage is unavailable
        return None
    if read != length or not (block.checked[row] or zlib.crc32(content.data) == checksum):
        _log.warning("%s is damaged; its pictures are decoded from their files", path)
        _blocks.pop(path, None)
        with contextlib.suppress(OSError):
            os.unlink(path)
        return None
    block.checked[row] = True
    return kept.decoded(content, height, width)
