"""The form in which decoded pictures are kept on disk."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from ctkd_search.data.decode import BrokenImage, decode_image, open_upright
from ctkd_search.data.pillow import open_image, unreadable_errors

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

PIXELS: Literal["pixels"] = "pixels"
JPEG: Literal["jpeg"] = "jpeg"
# Quality of stored JPEG files, with whole resolution of colours.
_QUALITY = 92
_SAMPLE = 64
# Height, width and stored bytes of a picture.
Encoded: TypeAlias = tuple[int, int, bytes]


@dataclass(frozen=True)
class Kept:
    """The form in which pictures are kept.

    Attributes:
        size: Side in pixels of the images that students see.
        channels: 1 for grey, 3 for colour.
        resize: See `decode_image`.
        side: Length in pixels to which the shorter side of a whole picture is reduced, for random crops of it; shorter
            ones stay as they are. None for the centred square that students see.
        encoding: ``pixels``, or ``jpeg``, which takes about a tenth of the room and changes them a little.
    """

    size: int
    channels: int
    resize: int | None = None
    side: int | None = None
    encoding: str = PIXELS

    def from_file(self, path: str) -> np.ndarray:
        """Returns a picture as it is kept, made from its file: uint8, shape (height, width, channels).

        Raises:
            BrokenImage: It is not an image, or damaged.
        """
        import numpy as np

        height, width, content = self.encoded(path)
        return self.decoded(np.array(np.frombuffer(content, np.uint8)), height, width)

    def encoded(self, path: str) -> Encoded:
        """Returns the height, the width and the stored bytes of a picture, made from its file."""
        import numpy as np

        if self.side is None:
            return self.size, self.size, decode_image(path, self.size, self.channels, self.resize).tobytes()
        side = self.side
        picture = open_upright(path, self.channels, lambda height, width: min(height, width) / side)
        picture = _reduced(picture, side)
        if self.encoding == PIXELS:
            return picture.height, picture.width, np.asarray(picture).tobytes()
        content = io.BytesIO()
        picture.save(content, "JPEG", quality=_QUALITY, subsampling=0)
        return picture.height, picture.width, content.getvalue()

    def decoded(self, content: np.ndarray, height: int, width: int) -> np.ndarray:
        """Returns a picture from its stored bytes, uint8."""
        import numpy as np
        from PIL import Image

        if self.encoding == PIXELS:
            return content.reshape(height, width, self.channels)
        with Image.open(io.BytesIO(content.data)) as picture:
            return np.array(picture).reshape(height, width, self.channels)

    def bytes_of(self, paths: Sequence[str]) -> int:
        """Returns the bytes that a store of these files takes; of whole pictures an estimate from 64 of them."""
        if self.side is None:
            return len(paths) * self.size**2 * self.channels
        sample = [paths[number * len(paths) // min(len(paths), _SAMPLE)] for number in range(min(len(paths), _SAMPLE))]
        sizes = [size for path in sample if (size := self._bytes_of(path))]
        return round(len(paths) * sum(sizes) / max(1, len(sizes)))

    def _bytes_of(self, path: str) -> int | None:
        """Returns the bytes that a picture takes; None for a file that cannot be read."""
        unreadable = unreadable_errors()
        try:
            if self.encoding == JPEG:
                return len(self.encoded(path)[2])
            with open_image(path) as picture:
                short, long = sorted(picture.size)
        except BrokenImage:
            return None
        except unreadable:
            return None
        scale = min(1.0, (self.side or short) / short)
        return round(short * scale) * round(long * scale) * self.channels


def _reduced(picture: Image.Image, side: int) -> Image.Image:
    """Returns a picture whose shorter side is at most `side`."""
    from PIL import Image

    short = min(picture.size)
    if short <= side:
        return picture
    width, height = (max(1, round(length * side / short)) for length in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)
