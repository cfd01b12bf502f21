"""The images in a directory, however deep, and what cameras, archives and systems leave between them."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ctkd_search.data.kinds import (
    HEAD_BYTES,
    RAW,
    Sort,
    advice,
    counted,
    is_thumbnail,
    kind_of,
    named_like_an_image,
    unfinished,
)
from ctkd_search.data.watching import watcher
from ctkd_search.errors import UserError

# Folders of thumbnails, of deleted files and of snapshots, as macOS, Windows, Synology, QNAP and Linux keep them. Those
# whose names begin with a point are hidden anyway.
_NO_FOLDERS = {
    "__macosx",
    "@eadir",
    "@recycle",
    "@__thumb",
    "#recycle",
    "#snapshot",
    "~snapshot",
    "$recycle.bin",
    "recycler",
    "system volume information",
    "lost+found",
    "__pycache__",
}
_CHUNK, _THREADS = 256, 16
# A directory that has changed so lately may change again without another time of modification.
_SETTLED_SECONDS = 60.0
_NAMED = 3


@dataclass(frozen=True)
class Listing:
    """The content of a directory.

    Attributes:
        directory: The directory.
        images: Images that Pillow reads, by their first bytes: paths relative to it, in the order of their parts.
        kinds: The format of each image.
        pictures: Images that Pillow does not read, by format.
        skipped: Other files, by kind.
        folders: Folders that are skipped with all that is in them.
    """

    directory: str
    images: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    pictures: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    skipped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    folders: tuple[str, ...] = ()

    @property
    def formats(self) -> dict[str, int]:
        """Returns how many images there are of each format, the commonest first."""
        return dict(Counter(self.kinds).most_common())

    def notes(self) -> Iterator[str]:
        """Yield notes on the skipped files: by kind and with names, and separately those named like an image."""
        like = {
            kind: [path for path in paths if named_like_an_image(path)]
            for kind, paths in self.skipped.items()
            if kind not in ("hidden", "unfinished", "beside", "link")
        }
        mistaken = [(kind, path) for kind, paths in like.items() for path in paths]
        parts = []
        for kind, paths in self.skipped.items():
            others = [path for path in paths if path not in set(like.get(kind, ()))]
            parts += [f"{counted(kind, len(others))} ({_first(others)})"] if others else []
        if self.folders:
            parts.append(f"{len(self.folders):,} folder{'s' * (len(self.folders) > 1)} ({_first(self.folders)})")
        if parts:
            yield f"skipped in {self.directory}: {', '.join(parts)}"
        if mistaken:
            counts = Counter(kind for kind, _ in mistaken)
            they = "are not images, though named" if len(mistaken) > 1 else "is not an image, though named"
            kinds = ", ".join(counted(kind, count) for kind, count in counts.items())
            several = "s" * (len(mistaken) > 1)
            named = _first([path for _, path in mistaken])
            yield f"warning: {len(mistaken):,} file{several} in {self.directory} {they} like one: {kinds} ({named})"

        # Copies that a program has kept, such as a.jpg_original, may be in two splits after the cut.
        odd = [path for path in self.images if os.path.splitext(path)[1] and not named_like_an_image(path)]
        if odd:
            are = "files in {} are images" if len(odd) > 1 else "file in {} is an image"
            yield f"warning: {len(odd):,} {are.format(self.directory)}, though not named like one: {_first(odd)}"

    def unread(self) -> Iterator[str]:
        """Yield notes on the images that Pillow does not read."""
        for kind, paths in self.pictures.items():
            they = "them" if len(paths) > 1 else "it"
            yield (
                f"{self.directory} has {counted(kind, len(paths))}, which Pillow cannot read here ({_first(paths)}): "
                f"{advice(kind).replace('them', they)}"
            )


def _first(paths: Sequence[str]) -> str:
    more = len(paths) - _NAMED
    return ", ".join(paths[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def is_skipped_folder(name: str) -> bool:
    """Return whether a folder is one that systems and programs make, without images of the user's."""
    return name.startswith(".") or name.lower() in _NO_FOLDERS


_kept: dict[str, tuple[dict[str, int], Listing]] = {}


def listing_of(directory: str) -> Listing:
    """List a directory as torchvision's ImageFolder does: to any depth, and through links.

    The first bytes of every file are read, once for as long as no directory changes: that takes about as long again as
    to list the files.

    Args:
        directory: The directory.

    Raises:
        UserError: A directory cannot be read.
    """
    known = _kept.get(directory)
    if known and all(_modified(path) == then for path, then in known[0].items()):
        return known[1]
    walk = _Walk(directory)
    listing = walk.listing()
    _kept.pop(directory, None)
    if max(walk.directories.values()) < time.time_ns() - _SETTLED_SECONDS * 1e9:
        _kept[directory] = walk.directories, listing
    return listing


def _modified(path: str) -> int | None:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None


class _Walk:
    """Goes through a directory once."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.directories: dict[str, int] = {}
        self.folders: list[str] = []
        self.files: list[str] = []
        self.skipped: dict[str, list[str]] = {}
        self._walk("", ())

    def _walk(self, relative: str, above: tuple[tuple[int, int], ...]) -> None:
        path = os.path.join(self.directory, relative) if relative else self.directory
        try:
            status = os.stat(path)
            here = status.st_dev, status.st_ino
            if here in above:
                self._skip("loop", relative)
                return
            self.directories[path] = status.st_mtime_ns
            with os.scandir(path) as entries:
                found = [(entry.name, entry.is_dir(), entry.is_file()) for entry in entries]
        except OSError as error:
            raise UserError(f"cannot read the directory {path}: {error.strerror or error}") from None
        for name, folder, file in found:
            inside = os.path.join(relative, name)
            if not folder and not file:
                self._skip("link" if os.path.islink(os.path.join(path, name)) else "unknown", inside)
            elif folder and is_skipped_folder(name):
                self.folders.append(inside)
            elif folder:
                self._walk(inside, (*above, here))
            elif name.startswith("."):
                self._skip("hidden", inside)
            elif unfinished(name):
                self._skip("unfinished", inside)
            elif is_thumbnail(name):
                self._skip("thumbnail", inside)
            else:
                self.files.append(inside)

    def _skip(self, kind: str, path: str) -> None:
        self.skipped.setdefault(kind, []).append(path)

    def listing(self) -> Listing:
        """Return the files found, sorted by their content."""
        files = sorted(self.files, key=lambda path: path.split(os.sep))
        images, kinds = [], []
        pictures: dict[str, list[str]] = {}
        for path, (sort, kind) in zip(files, self._kinds(files), strict=True):
            if sort == "image":
                images.append(path)
                kinds.append(kind)
            elif sort == "picture":
                pictures.setdefault(kind, []).append(path)
            else:
                self._skip(kind, path)
        if pictures:
            # A camera's raw file, or a telephone's, beside the JPEG of the same photograph.
            readable = {os.path.splitext(path)[0].lower() for path in images}
            for kind in (RAW, "HEIC"):
                for path in pictures.pop(kind, ()):
                    if os.path.splitext(path)[0].lower() in readable:
                        self._skip("beside", path)
                    else:
                        pictures.setdefault(kind, []).append(path)
        return Listing(
            self.directory,
            tuple(images),
            tuple(kinds),
            {kind: tuple(paths) for kind, paths in sorted(pictures.items())},
            {kind: tuple(sorted(paths)) for kind, paths in sorted(self.skipped.items())},
            tuple(sorted(self.folders)),
        )

    def _kinds(self, files: Sequence[str]) -> list[tuple[Sort, str]]:
        """Return the sort and the kind of each file; where files lie on a server, several are waited for at a time."""

        def chunk(start: int) -> list[tuple[Sort, str]]:
            return [self._kind(path) for path in files[start : start + _CHUNK]]

        if len(files) <= _CHUNK:
            return chunk(0)
        doing = f"looking at the files in {self.directory}"
        kinds: list[tuple[Sort, str]] = []
        with ThreadPoolExecutor(_THREADS) as pool:
            for part in pool.map(chunk, range(0, len(files), _CHUNK)):
                kinds += part
                watcher().progress(doing, len(kinds), len(files))
        return kinds

    def _kind(self, relative: str) -> tuple[Sort, str]:
        path = os.path.join(self.directory, relative)
        try:
            handle = os.open(path, os.O_RDONLY)
            try:
                head = os.read(handle, HEAD_BYTES)
            finally:
                os.close(handle)
        except OSError:
            # It is reported with its reason when it is decoded.
            return "image", "unreadable"
        return kind_of(path, head)
