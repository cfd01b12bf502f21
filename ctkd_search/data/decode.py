"""Image files of any sort become the pixels that students see."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ctkd_search.data.watching import watcher
from ctkd_search.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

T = TypeVar("T")
# Portable grey maps, whose 16 bits Pillow reads into 32 bits and scales to the whole range.
_SCALED = "PPM"
# Files decoded by a thread before it says how far it is.
_CHUNK = 128
_LISTED_BROKEN, _LISTED_PASSED_OVER = 5, 20


class BrokenImage(UserError):
    """A file that cannot be read as an image.

    Args:
        path: The file.
        reason: Why not.
    """

    def __init__(self, path: str | os.PathLike[str], reason: object) -> None:
        super().__init__(f"cannot read the image {os.fspath(path)} ({reason}); mend or remove it")
        self.path = os.fspath(path)
        self.reason = str(reason)


def decode_image(path: str | os.PathLike[str], size: int, channels: int) -> np.ndarray:
    """Reads an image file as students see it: upright, its centred square, resized.

    Args:
        path: The file, of any format that Pillow reads.
        size: Side of the result in pixels.
        channels: 1 for grey, 3 for colour.

    Returns:
        uint8, shape (size, size, channels).

    Raises:
        BrokenImage: It is no image, or a broken one.
    """
    return as_square(open_upright(path, channels), size)


def as_square(image: Image.Image, size: int) -> np.ndarray:
    """The pixels of an image's centred square, resized: uint8, shape (size, size, channels)."""
    import numpy as np
    from PIL import Image, ImageOps

    # A centred square of the picture, so that nothing is squeezed.
    fitted = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    return np.asarray(fitted, dtype=np.uint8).reshape(size, size, -1)


def open_upright(path: str | os.PathLike[str], channels: int) -> Image.Image:
    """Reads an image file whole, turned as its EXIF data say, in 8 bits and of its own size.

    Args:
        path: The file, of any format that Pillow reads.
        channels: 1 for grey, 3 for colour.

    Returns:
        An image of mode ``L`` or ``RGB``.

    Raises:
        BrokenImage: It is no image, or a broken one.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return upright(image, channels)
    except (OSError, ValueError, TypeError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise BrokenImage(path, error) from None


def upright(image: Image.Image, channels: int) -> Image.Image:
    """An image turned as its EXIF data say, in 8 bits, grey or in colour.

    What is transparent is seen on white; CMYK and palettes become colours.

    Args:
        image: The image.
        channels: 1 for grey, 3 for colour.

    Returns:
        An image of mode ``L`` or ``RGB``.

    Raises:
        ValueError: Its pixels are numbers of which nobody knows what white is.
    """
    from PIL import Image, ImageOps

    turned = _in_eight_bits(ImageOps.exif_transpose(image), image.format)
    if turned.has_transparency_data:
        turned = turned.convert("RGBA")
        turned = Image.alpha_composite(Image.new("RGBA", turned.size, "white"), turned)
    return turned.convert("L" if channels == 1 else "RGB")


def _in_eight_bits(image: Image.Image, kind: str | None) -> Image.Image:
    """Grey values of 16 bits scaled down: Pillow would clip them, and leave nearly every picture white."""
    import numpy as np
    from PIL import Image

    if image.mode.startswith("I;16") or (image.mode == "I" and kind == _SCALED):
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        numbers = "whole" if image.mode == "I" else "real"
        raise ValueError(f"its pixels are {numbers} numbers of 32 bits; save it with 8 or 16")
    return image


def decode_files(
    paths: Sequence[Path], size: int, channels: int, what: str, skip_broken: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Decodes files, several at a time.

    Args:
        paths: The files.
        size: Side of the results in pixels.
        channels: 1 for grey, 3 for colour.
        what: What they are, for messages, as in ``training images``.
        skip_broken: Whether files that cannot be read are passed over, which is noted.

    Returns:
        The pixels of those that can be read, uint8, shape (images, size, size, channels), and their positions in
        `paths`.

    Raises:
        UserError: Some cannot be read; all of them are counted, and the first ones named.
    """
    import numpy as np

    pixels = np.empty((len(paths), size, size, channels), dtype=np.uint8)

    def fill(start: int) -> list[tuple[int, BrokenImage]]:
        broken = []
        for position in range(start, min(start + _CHUNK, len(paths))):
            try:
                pixels[position] = decode_image(paths[position], size, channels)
            except BrokenImage as error:
                broken.append((position, error))
        return broken

    broken = [pair for pairs in _in_threads(fill, range(0, len(paths), _CHUNK), what, len(paths)) for pair in pairs]
    if not broken:
        return pixels, np.arange(len(paths))
    if not skip_broken:
        raise UserError(
            f"{len(broken):,} of {len(paths):,} {what} cannot be read: "
            f"{listed([f'{error.path} ({error.reason})' for _, error in broken], _LISTED_BROKEN)}; mend or remove "
            "them, or pass over them with dataset.skip_broken: true"
        )
    watcher().note(
        f"passing over {len(broken):,} of {len(paths):,} {what}, which cannot be read: "
        f"{listed([error.path for _, error in broken], _LISTED_PASSED_OVER)}"
    )
    kept = np.delete(np.arange(len(paths)), [position for position, _ in broken])
    return pixels[kept], kept


def _in_threads(work: Callable[[int], T], starts: range, what: str, total: int) -> Iterator[T]:
    """The results of `work` in the order of `starts`; the watcher is told how far it is."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start, result in zip(starts, pool.map(work, starts), strict=True):
            watcher().progress(f"decoding the {what}", min(start + _CHUNK, total), total)
            yield result


def listed(items: Sequence[str], most: int) -> str:
    """The first of many, and how many more there are."""
    more = len(items) - most
    return ", ".join(items[:most]) + (f" and {more:,} more" if more > 0 else "")
