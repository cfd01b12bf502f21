"""Image files as Pillow opens them. Pillow is imported when the first file is opened."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import warnings
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


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
    opened: Image.Image = _pillow().open(path)
    return opened


def unreadable_errors() -> tuple[type[Exception], ...]:
    """Return what Pillow raises of files that are no images, or broken ones."""
    return (OSError, ValueError, TypeError, SyntaxError, EOFError, _pillow().DecompressionBombError)
