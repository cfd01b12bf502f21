"""Image files of any sort become the pixels that students see."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from ctkd_search.cores import usable_cores
from ctkd_search.data.kinds import HEAD_BYTES, advice, kind_of, one
from ctkd_search.data.pillow import open_image, read_pixels, said, unreadable_errors
from ctkd_search.data.watching import watcher
from ctkd_search.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from torch import Tensor

    from ctkd_search.data.crops import Box

T = TypeVar("T")
# Portable grey maps, whose 16 bits Pillow reads into 32 bits and scales to the whole range.
SCALED = "PPM"
# Orientations of EXIF data whose height is the width of the stored pixels.
_ON_ITS_SIDE = (5, 6, 7, 8)
# Times that a reduced picture is to be larger than needed, so that the reduction is not seen after the resize.
_MARGIN = 2
# Files that a thread decodes before it reports its progress.
_CHUNK = 128
_LISTED_BROKEN, _LISTED_PASSED_OVER = 5, 20


class BrokenImage(UserError):
    """A file that cannot be read as an image.

    Args:
        path: The file.
        reason: Reason why it cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str], reason: object) -> None:
        super().__init__(f"cannot read the image {os.fspath(path)} ({reason}); repair or remove it")
        self.path = os.fspath(path)
        self.reason = str(reason)


def decode_image(path: str | os.PathLike[str], size: int, channels: int, resize: int | None = None) -> np.ndarray:
    """Reads an image file as students see it: upright, its centred square, resized.

    Args:
        path: The file, of any format that Pillow reads.
        size: Side of the result in pixels.
        channels: 1 for grey, 3 for colour.
        resize: Length that the shorter side is resized to before the centred square is cut out, as in 256 for a `size`
            of 224; None for `size`, which keeps as much of the picture as is square.

    Returns:
        uint8, shape (size, size, channels).

    Raises:
        BrokenImage: It is not an image, or damaged.
    """
    return as_square(
        open_upright(path, channels, lambda height, width: min(height, width) / (resize or size)), size, resize
    )


def decode_random_crop(
    path: str | os.PathLike[str], size: int, channels: int, scale: tuple[float, float], seed: int
) -> Tensor:
    """Reads an image file as it is trained on with random resized crops.

    Args:
        path: The file, of any format that Pillow reads.
        size: Side of the result in pixels.
        channels: 1 for grey, 3 for colour.
        scale: Smallest and largest share of the area.
        seed: Seed of the draw; see `draw_crop`.

    Returns:
        uint8, shape (size, size, channels).

    Raises:
        BrokenImage: It is not an image, or damaged.
    """
    import numpy as np
    import torch

    from ctkd_search.data.crops import draw_crop, resize_square

    drawn: list[tuple[tuple[int, int], Box]] = []

    def larger_than_needed(height: int, width: int) -> float:
        box = draw_crop(height, width, scale, seed)
        drawn.append(((height, width), box))
        return min(box.height, box.width) / size

    picture = open_upright(path, channels, larger_than_needed)
    ((whole, box),) = drawn
    box = box.scaled(whole, (picture.height, picture.width))
    part = picture.crop((box.left, box.top, box.left + box.width, box.top + box.height))
    return resize_square(torch.from_numpy(np.array(part).reshape(box.height, box.width, -1)), size)


def as_square(image: Image.Image, size: int, resize: int | None = None) -> np.ndarray:
    """The pixels of an image's centred square, resized: uint8, shape (size, size, channels)."""
    import numpy as np
    from PIL import Image, ImageOps

    # A centred square of the picture, so that nothing is squeezed.
    margin = (1 - size / resize) / 2 if resize else 0.0
    fitted = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC, bleed=margin)
    return np.array(fitted, dtype=np.uint8).reshape(size, size, -1)


def open_upright(
    path: str | os.PathLike[str], channels: int, excess: Callable[[int, int], float] | None = None
) -> Image.Image:
    """Reads a whole image file, turned by its EXIF data and in 8 bits.

    Args:
        path: The file, of any format that Pillow reads.
        channels: 1 for grey, 3 for colour.
        excess: Returns, of a picture's height and width, by how many times its sides are longer than needed: a JPEG is
            then decoded at a half, a quarter or an eighth of its size where at least twice what is needed is left,
            which takes a fraction of the time. Left out, pictures keep their size.

    Returns:
        An image of mode ``L`` or ``RGB``.

    Raises:
        BrokenImage: It is not an image, or damaged.
    """
    from PIL import ExifTags

    try:
        with open_image(path) as image:
            if excess is not None:
                if image.format == "TIFF":
                    # Before that, versions of Pillow differ in whether its sides are the upright ones.
                    read_pixels(image)
                turned = image.getexif().get(ExifTags.Base.Orientation, 1) in _ON_ITS_SIDE
                times = excess(*(image.size if turned else image.size[::-1]))
                least = int(times / _MARGIN)
                if least >= 2:
                    image.draft(None, (image.width // least, image.height // least))
            read_pixels(image)
            return upright(image, channels)
    except unreadable_errors() as error:
        raise BrokenImage(path, _reason(path, error)) from None


def _reason(path: str | os.PathLike[str], error: BaseException) -> str:
    """Returns why an image cannot be read; for a file that Pillow does not recognise, its kind."""
    from PIL import Image

    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels; shrink it"
    if isinstance(error, Image.UnidentifiedImageError):
        with open(path, "rb") as file:
            sort, kind = kind_of(os.fspath(path), file.read(HEAD_BYTES))
        if sort == "picture":
            return f"it is {one(kind)}, which Pillow cannot read here: {advice(kind).replace('them', 'it')}"
        return "it is damaged at its beginning" if sort == "image" else f"it is not an image but {one(kind)}"
    return said(error)


def upright(image: Image.Image, channels: int) -> Image.Image:
    """Returns an image turned by its EXIF data, in 8 bits, grey or in colour.

    Transparent pixels are put on white; CMYK and palettes become colours.

    Args:
        image: The image.
        channels: 1 for grey, 3 for colour.

    Returns:
        An image of mode ``L`` or ``RGB``.

    Raises:
        ValueError: The value of white is not known for its type of pixels.
    """
    from PIL import Image, ImageOps

    turned = _in_eight_bits(ImageOps.exif_transpose(image), image.format)
    if turned.has_transparency_data:
        turned = turned.convert("RGBA")
        turned = Image.alpha_composite(Image.new("RGBA", turned.size, "white"), turned)
    return turned.convert("L" if channels == 1 else "RGB")


def _in_eight_bits(image: Image.Image, kind: str | None) -> Image.Image:
    """Grey values of 16 bits scaled down: Pillow would clip them, and leave nearly every picture white.

    A value that stands for transparency is one of 16 bits, of which those of 8 bits have 257 each.
    """
    import numpy as np
    from PIL import Image

    if image.mode.startswith("I;16") or (image.mode == "I" and kind == SCALED):
        values = np.asarray(image)
        scaled = Image.fromarray((values // 257).astype(np.uint8))
        if (unseen := image.info.get("transparency")) is not None:
            scaled.putalpha(Image.fromarray(np.where(values == unseen, 0, 255).astype(np.uint8)))
        return scaled
    if image.mode in ("I", "F"):
        numbers = "whole" if image.mode == "I" else "real"
        raise ValueError(f"its pixels are {numbers} numbers of 32 bits; save it with 8 or 16")
    return image


def decode_files(
    paths: Sequence[str], size: int, channels: int, resize: int | None, what: str, skip_broken: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Decodes files, several at a time.

    Args:
        paths: The files.
        size: Side of the results in pixels.
        channels: 1 for grey, 3 for colour.
        resize: See `decode_image`.
        what: Description of them for messages, as in ``training images``.
        skip_broken: Whether files that cannot be read are skipped, with a note.

    Returns:
        The pixels of those that can be read, uint8, shape (images, size, size, channels), and their positions in
        `paths`.

    Raises:
        UserError: Some cannot be read; all of them are counted, and the first ones named.
    """
    import numpy as np

    pixels = np.empty((len(paths), size, size, channels), dtype=np.uint8)

    def decode(position: int) -> None:
        pixels[position] = decode_image(paths[position], size, channels, resize)

    kept = _tried(decode, f"decoding the {what}", len(paths), what, skip_broken)
    return (pixels if len(kept) == len(paths) else pixels[kept]), kept


def readable_files(paths: Sequence[str], channels: int, what: str) -> np.ndarray:
    """Returns the positions of the files that can be read; skipped ones are noted.

    Args:
        paths: The files.
        channels: 1 for grey, 3 for colour.
        what: Description of them for messages.
    """

    def read(position: int) -> None:
        open_upright(paths[position], channels)

    return _tried(read, f"looking for broken {what}", len(paths), what, skip_broken=True)


def _tried(work: Callable[[int], None], doing: str, count: int, what: str, skip_broken: bool) -> np.ndarray:
    """Calls a function for each of `count` files in threads; returns the positions of those that can be read."""
    import numpy as np

    def chunk(start: int) -> list[tuple[int, BrokenImage]]:
        broken = []
        for position in range(start, min(start + _CHUNK, count)):
            try:
                work(position)
            except BrokenImage as error:
                broken.append((position, error))
        return broken

    broken = [pair for pairs in _in_threads(chunk, range(0, count, _CHUNK), doing, count) for pair in pairs]
    if not broken:
        return np.arange(count)
    if not skip_broken:
        raise UserError(broken_images([error for _, error in broken], count, what))
    watcher().note(
        f"skipping {len(broken):,} of {count:,} {what}, which cannot be read: "
        f"{listed([error.path for _, error in broken], _LISTED_PASSED_OVER)}"
    )
    return np.delete(np.arange(count), [position for position, _ in broken])


def broken_images(broken: Sequence[BrokenImage], count: int, what: str) -> str:
    """Returns the message for images that cannot be read.

    Args:
        broken: The images.
        count: Number of all images.
        what: Description of them, as in ``training images``.
    """
    return (
        f"{len(broken):,} of {count:,} {what} cannot be read: "
        f"{listed([f'{error.path} ({error.reason})' for error in broken], _LISTED_BROKEN)}; repair or remove them, or "
        "skip them with dataset.skip_broken: true"
    )


def _in_threads(work: Callable[[int], T], starts: range, doing: str, total: int) -> Iterator[T]:
    """Yields the results of `work` in the order of `starts`, and reports the progress to the watcher."""
    with ThreadPoolExecutor(usable_cores()) as pool:
        for start, result in zip(starts, pool.map(work, starts), strict=True):
            watcher().progress(doing, min(start + _CHUNK, total), total)
            yield result


def listed(items: Sequence[str], most: int) -> str:
    """Returns the first of many items, and the number of the others."""
    more = len(items) - most
    return ", ".join(items[:most]) + (f" and {more:,} more" if more > 0 else "")
