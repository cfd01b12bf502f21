"""One image file of any sort becomes the pixels that students see."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ctkd_search.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

# Portable grey maps, whose 16 bits Pillow reads into 32 bits and scales to the whole range.
_SCALED = "PPM"


def decode_image(path: str | os.PathLike[str], size: int, channels: int) -> np.ndarray:
    """Reads an image file as students see it: upright, its centred square, resized.

    Args:
        path: The file, of any format that Pillow reads.
        size: Side of the result in pixels.
        channels: 1 for grey, 3 for colour.

    Returns:
        uint8, shape (size, size, channels).

    Raises:
        UserError: It is no image, or a broken one.
    """
    import numpy as np
    from PIL import Image, ImageOps

    upright = open_upright(path, channels)
    # A centred square of the picture, so that nothing is squeezed.
    fitted = ImageOps.fit(upright, (size, size), Image.Resampling.BICUBIC)
    return np.asarray(fitted, dtype=np.uint8).reshape(size, size, -1)


def open_upright(path: str | os.PathLike[str], channels: int) -> Image.Image:
    """Reads an image file whole, turned as its EXIF data say, in 8 bits and of its own size.

    What is transparent is seen on white; CMYK and palettes become colours.

    Args:
        path: The file, of any format that Pillow reads.
        channels: 1 for grey, 3 for colour.

    Returns:
        An image of mode ``L`` or ``RGB``.

    Raises:
        UserError: It is no image, or a broken one.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            kind = image.format
            upright = _in_eight_bits(ImageOps.exif_transpose(image), kind)
            if upright.has_transparency_data:
                upright = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
            return upright.convert("L" if channels == 1 else "RGB")
    except (OSError, ValueError, TypeError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot read the image {os.fspath(path)} ({error}); mend or remove it") from None


def _in_eight_bits(image: Image.Image, kind: str | None) -> Image.Image:
    """Grey values of 16 bits scaled down: Pillow would clip them, and leave nearly every picture white.

    Raises:
        ValueError: The pixels are numbers of which nobody knows what white is.
    """
    import numpy as np
    from PIL import Image

    if image.mode.startswith("I;16") or (image.mode == "I" and kind == _SCALED):
        return Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are {'whole' if image.mode == 'I' else 'real'} numbers of 32 bits; save 8 or 16")
    return image
