"""Labelled images: held in memory as pixels, or as files that are decoded when they are looked at."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ctkd_search.cores import usable_cores
from ctkd_search.data.decode import decode_image
from ctkd_search.data.picture_form import Kept
from ctkd_search.data.picture_store import Stored, joined
from ctkd_search.errors import UserError

if TYPE_CHECKING:
    import numpy as np

# Prefix of the fingerprints of images that are not kept in memory.
STREAMED = "files-"
# Number of files, evenly spread, that are decoded for a fingerprint.
_PROBES = 16
# The attributes of `ImageFiles` that have a row for each image.
_ARRAYS, _PLACES = ("names", "marks", "labels"), ("parts", "squares")


@dataclass(frozen=True)
class Images:
    """Labelled images in memory.

    Attributes:
        pixels: uint8, shape (images, height, width, channels).
        labels: int64, shape (images,).
    """

    pixels: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.labels)

    def __getitem__(self, chosen: np.ndarray) -> Images:
        """The images at these positions."""
        return Images(self.pixels[chosen], self.labels[chosen])

    @property
    def size(self) -> int:
        """Side of an image in pixels."""
        return int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        """Channels of an image."""
        return int(self.pixels.shape[-1])

    def joined(self, other: Pictures) -> Images:
        """These images followed by the other ones."""
        import numpy as np

        held = other.held()
        return Images(np.concatenate([self.pixels, held.pixels]), np.concatenate([self.labels, held.labels]))

    def held(self) -> Images:
        """Returns these images, which are in memory."""
        return self

    def fingerprint(self) -> str:
        """A hash of every pixel and label, in order."""
        digest = hashlib.sha256()
        for array in (self.pixels, self.labels):
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class ImageFiles:
    """Labelled images as files, for data sets that do not fit into memory.

    Names, and the marks by which a changed file is noticed, are in arrays, so that a million of them take little memory
    and are shared with other processes without being copied.

    Attributes:
        root: The directory that the names are relative to.
        names: Paths of the files, as bytes, shape (images,).
        marks: Size in bytes and time of modification in nanoseconds of each file, int64, shape (images, 2).
        labels: int64, shape (images,).
        classes: Names of the classes, for messages.
        what: Description of them for messages, as in ``training images``.
        size: Side in pixels that students see.
        channels: 1 for grey, 3 for colour.
        resize: Length that a picture's shorter side is resized to before its centred square is cut out; None for
            `size`, which cuts nothing off.
        workers: Processes that decode while images are streamed; None for one for each thread of the trial.
        kept: The form of whole pictures from which random crops are cut; None to cut them from the files.
        parts: Where such pictures are stored.
        squares: Where the images are stored as students see them without random crops.
    """

    root: str
    names: np.ndarray
    marks: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    what: str
    size: int
    channels: int
    resize: int | None = None
    workers: int | None = None
    kept: Kept | None = None
    parts: Stored | None = None
    squares: Stored | None = None

    @classmethod
    def at(cls, root: Path, paths: Sequence[str | Path], labels: Sequence[int], **others: Any) -> ImageFiles:
        """Returns the files at these paths.

        Args:
            root: A directory above all of them.
            paths: The files.
            labels: The class of each.
            **others: The other attributes.

        Raises:
            UserError: A file does not exist any more.
        """
        import numpy as np

        # Bytes of one length each: a million Python strings would be copied, page by page, into every process.
        above = os.path.join(root, "")
        names = np.array([os.fsencode(os.fspath(path).removeprefix(above)) for path in paths], dtype=np.bytes_)
        marks = np.empty((len(paths), 2), dtype=np.int64)
        for number, path in enumerate(paths):
            try:
                status = os.stat(path)
            except OSError as error:
                raise UserError(f"cannot read the image {path}: {error.strerror or error}") from None
            marks[number] = status.st_size, status.st_mtime_ns
        return cls(os.fspath(root), names, marks, np.asarray(labels, dtype=np.int64), **others)

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.labels)

    def __getitem__(self, chosen: np.ndarray) -> ImageFiles:
        """The images at these positions."""
        changed: dict[str, Any] = {name: getattr(self, name)[chosen] for name in _ARRAYS}
        for name in _PLACES:
            stored = getattr(self, name)
            changed[name] = None if stored is None else stored[chosen]
        return dataclasses.replace(self, **changed)

    def joined(self, other: Pictures) -> ImageFiles:
        """These images followed by the other ones, which must be files of the same data set."""
        import numpy as np

        assert isinstance(other, ImageFiles)
        assert other.root == self.root
        both: tuple[Any, ...] = (self, other)
        changed: dict[str, Any] = {name: np.concatenate([getattr(each, name) for each in both]) for name in _ARRAYS}
        changed |= {name: joined([(getattr(each, name), len(each)) for each in both]) for name in _PLACES}
        return dataclasses.replace(self, **changed)

    def paths(self, chosen: np.ndarray | slice) -> list[str]:
        """The paths of some of the files."""
        return [os.path.join(self.root, os.fsdecode(name)) for name in self.names[chosen]]

    def held(self) -> Images:
        """Returns the images in memory, decoded in several threads.

        Raises:
            UserError: A file is not an image, or damaged.
        """
        import numpy as np

        pixels = np.empty((len(self), self.size, self.size, self.channels), dtype=np.uint8)

        def decode(numbered: tuple[int, str]) -> None:
            number, path = numbered
            pixels[number] = decode_image(path, self.size, self.channels, self.resize)

        with ThreadPoolExecutor(usable_cores()) as pool:
            for _ in pool.map(decode, enumerate(self.paths(slice(None)))):
                pass
        return Images(pixels, self.labels)

    @property
    def square(self) -> Kept:
        """The form of the images as students see them without random crops."""
        return Kept(self.size, self.channels, self.resize)

    @property
    def bytes_held(self) -> int:
        """Bytes that the pixels would take in memory."""
        return len(self) * self.size**2 * self.channels

    def fingerprint(self) -> str:
        """Returns a hash of labels, of every file's name, size and time of modification, and of a few files' pixels.

        Reading every pixel would take as long as an epoch. It does not change for a file whose content was replaced by
        as many bytes and whose time of modification was set back; it does change for a copy that did not keep the
        times. The pixels of 16 files detect another decoder, or another way of decoding. It tells whether random crops
        are cut from reduced pictures, but not where these are stored.

        Raises:
            UserError: One of the few is not an image, or damaged.
        """
        import numpy as np

        form = "" if self.kept is None else f" {self.kept.side} {self.kept.encoding}"
        digest = hashlib.sha256(f"{self.size} {self.channels} {self.resize} {len(self)}{form}".encode())
        digest.update(b"\0".join(self.names.tolist()))
        digest.update(self.marks.tobytes())
        digest.update(self.labels.tobytes())
        probes = np.linspace(0, len(self) - 1, min(len(self), _PROBES)).astype(np.int64)
        digest.update(self[probes].held().pixels.tobytes())
        return STREAMED + digest.hexdigest()


Pictures: TypeAlias = Images | ImageFiles
