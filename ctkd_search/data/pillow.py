"""Image files as Pillow opens them. Pillow is imported when the first file is opened."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

# Errors whose text is meant for users.
_TOLD: tuple[type[Exception], ...] = (OSError, ValueError, TypeError, SyntaxError, EOFError)
# Others: of formats that it reads in part, of EXIF data that are cut off, of AVIF, and of damaged headers.
_UNTOLD = (RuntimeError, struct.error, IndexError, KeyError, AttributeError, OverflowError)


def reads_heic() -> bool:
    """Return whether pillow-heif is installed, with which Pillow reads HEIC."""
    return importlib.util.find_spec("pillow_heif") is not None


@functools.cache
def _pillow() -> ModuleType:
    """Return Pillow's module, which reads HEIC too where pillow-heif is installed."""
    from PIL import Image

    # It would be written between our lines; images too large to be read are refused.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    if reads_heic():
        importlib.import_module("pillow_heif").register_heif_opener()
    return Image


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """Open an image file; its pixels are read when they are asked for.

    Raises:
        unreadable_errors(): It is none, or a broken one.
    """
    with _memory_asked_for():
        opened: Image.Image = _pillow().open(path)
    return opened


def read_pixels(image: Image.Image) -> None:
    """Read the pixels of an image that is open.

    Raises:
        unreadable_errors(): It is broken.
    """
    with _memory_asked_for():
        image.load()


@contextmanager
def _memory_asked_for() -> Iterator[None]:
    """Make a fault of the image of memory that runs out, because damaged headers ask for any amount."""
    try:
        yield
    except MemoryError:
        raise OSError("it needs more memory than there is, or is damaged") from None


def unreadable_errors() -> tuple[type[Exception], ...]:
    """Return what Pillow raises of files that are no images, or broken ones."""
    return (*_TOLD, *_UNTOLD, _pillow().DecompressionBombError)


def said(error: BaseException) -> str:
    """Return what Pillow says of a file that it cannot read, and the error's name where that is not said to users."""
    name, text = type(error).__name__, str(error)
    return f"{name}: {text}" if text and not isinstance(error, _TOLD) else text or name
