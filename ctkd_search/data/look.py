"""A check of image files before training: broken ones, and those that are decoded in an unexpected way."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ctkd_search.cores import usable_cores
from ctkd_search.data.decode import SCALED, BrokenImage, open_upright
from ctkd_search.data.images import ImageFiles
from ctkd_search.data.pillow import open_image, unreadable_errors
from ctkd_search.data.watching import watcher

if TYPE_CHECKING:
    from PIL import Image

_CHUNK = 16
# More are not decoded in the time available.
_MOST = 200_000
# Number of files, evenly spread, that are opened to find properties of all.
_SAMPLE = 256
# Formats whose files have 8 bits and one picture.
_PLAIN = {"JPEG", "BMP", "QOI", "TGA", "PCX", "XBM", "XPM"}
_DEEPEST = 65535
# Photographs use more than this part of the range.
_DARK = _DEEPEST // 2


@dataclass(frozen=True)
class Looked:
    """The outcome of decoding image files.

    Attributes:
        what: Description of them, as in ``training images``.
        total: Number of files.
        opened: Number of files that were decoded.
        broken: Files that cannot be decoded.
    """

    what: str
    total: int
    opened: int
    broken: list[BrokenImage] = field(default_factory=list)


def look(files: ImageFiles, seconds: float) -> Looked:
    """Decode image files as a search would, in random order, for a limited time.

    Args:
        files: The files.
        seconds: The limit.
    """
    import numpy as np

    paths = files.paths(np.random.default_rng(0).permutation(len(files))[:_MOST])
    deadline = time.monotonic() + seconds
    opened, broken = 0, []

    def chunk(start: int) -> tuple[int, list[BrokenImage]]:
        faults, count = [], 0
        for path in paths[start : start + _CHUNK]:
            if time.monotonic() > deadline:
                break
            count += 1
            try:
                open_upright(path, files.channels)
            except BrokenImage as error:
                faults.append(error)
        return count, faults

    with ThreadPoolExecutor(usable_cores()) as pool:
        for count, faults in pool.map(chunk, range(0, len(paths), _CHUNK)):
            opened += count
            broken += faults
            watcher().progress(f"looking for broken {files.what}", opened, len(paths))
    watcher().progress(f"looking for broken {files.what}", len(paths), len(paths))
    return Looked(files.what, len(files), opened, sorted(broken, key=lambda error: error.path))


def peculiarities(paths: Sequence[str], kinds: Sequence[str]) -> Iterator[str]:
    """Yield notes on image files that are decoded in an unexpected way: several frames, and dark images of 16 bits.

    Args:
        paths: The files.
        kinds: The format of each.
    """
    candidates = [path for path, kind in zip(paths, kinds, strict=True) if kind not in _PLAIN]
    step = max(1, -(-len(candidates) // _SAMPLE))
    looked = candidates[::step]
    brightest, deep = 0, []
    several = []
    for path in looked:
        try:
            with open_image(path) as image:
                # Of a photograph in several sizes or views, as telephones save it, the first is the photograph.
                if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                    several.append(path)
                    image.seek(0)
                if _is_deep(image):
                    deep.append(path)
                    brightest = max(brightest, _brightest(image))
        except unreadable_errors():
            continue  # it is reported when it is decoded
    if several:
        have = "have" if len(several) > 1 else "has"
        yield (
            f"{len(several):,} of {len(looked):,} images looked at {have} several frames or pages, of which the first "
            f"is taken: {several[0]}{' and others' * (len(several) > 1)}"
        )
    if deep and brightest < _DARK:
        factor = (_DEEPEST + 1) // (brightest + 1)
        yield (
            f"warning: images of 16 bits use 0 to {brightest} of {_DEEPEST} ({len(deep):,} looked at, as {deep[0]}): "
            f"they become nearly black, with {brightest // 257 + 1} shades; multiply their values by {factor}, or save "
            "them with 8 bits"
        )


def _is_deep(image: Image.Image) -> bool:
    """Return whether an image that is open has 16 bits for a channel; Pillow reads those of colour images as 8."""
    return _is_whole(image) or ";16" in str(getattr(image, "tile", ""))


def _is_whole(image: Image.Image) -> bool:
    """Return whether Pillow keeps all 16 bits; portable grey maps it scales to them, into 32."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format == SCALED)


def _brightest(image: Image.Image) -> int:
    """Return the largest value of an image of 16 bits; where Pillow drops the low 8, the largest that it can be."""
    extrema = image.getextrema()
    highest = max(high for _, high in extrema) if isinstance(extrema[0], tuple) else extrema[1]
    return int(highest) if _is_whole(image) else int(highest) * 256 + 255
