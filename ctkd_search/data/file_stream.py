"""The stream of images that do not fit into memory: decoded from their files by other processes, as it is read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from ctkd_search.config import Augment
from ctkd_search.data.images import ImageFiles, Images, Pictures
from ctkd_search.data.slots import PIECE_BYTES
from ctkd_search.data.stream import Normalise, Plan, Stream
from ctkd_search.data.workers import Job, decoding_pool

# Images that a process decodes at a time, at most.
_PIECE_IMAGES = 256


class Decoded:
    """Decoded images in a row, read from the first to the last by several readers that are near each other.

    A piece is kept until the last of them has passed it.

    Args:
        pieces: The images, piece by piece, uint8 of shape (images, height, width, channels), or with a dimension for
            each image's partner.
        device: Device that they are moved to.
    """

    def __init__(self, pieces: Iterator[Tensor], device: torch.device) -> None:
        self._pieces = pieces
        self._device = device
        self._window: deque[Tensor] = deque()
        # The position that the window begins with, and one past its last.
        self._first = self._end = 0
        self._reached: list[int] = []

    @property
    def joinable(self) -> bool:
        """Returns whether a new reader still finds the first image."""
        return self._first == 0

    def reader(self) -> Callable[[int, int], Tensor]:
        """A reader, who takes the images from one position to another (exclusive), each where the last one ended."""
        number = len(self._reached)
        self._reached.append(0)

        def take(start: int, stop: int) -> Tensor:
            while self._end < stop:
                piece = next(self._pieces)
                self._window.append(piece.to(self._device, non_blocking=True))
                self._end += len(piece)
            taken, first = [], self._first
            for piece in self._window:
                if first < stop and first + len(piece) > start:
                    taken.append(piece[max(0, start - first) : stop - first])
                first += len(piece)
            self._reached[number] = stop
            while self._window and self._first + len(self._window[0]) <= min(self._reached):
                self._first += len(self._window.popleft())
            return torch.cat(taken) if len(taken) > 1 else taken[0]

        return take


class FileStream(Stream):
    """Augmented batches of training images that stay in their files; the same batches as `Stream` gives.

    Args:
        images: The training images.
        normalise: Normalisation of the pixels; on `device`.
        augment: Augmentation of the images.
        seed: Seed of the order and the views.
        device: Device of the batches.
    """

    def __init__(
        self, images: ImageFiles, normalise: Normalise, augment: Augment, seed: int, device: torch.device
    ) -> None:
        self._set_up(images.size, torch.from_numpy(images.labels), normalise, augment, seed, device)
        self.images = images
        self._passing: tuple[Plan, Decoded] | None = None

    def batches(self, plan: Plan, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The views of an epoch in batches; every reader of one plan reads the same decoded images."""
        if self._passing is None or self._passing[0] is not plan or not self._passing[1].joinable:
            self._passing = plan, Decoded(self._decode(plan), self.device)
        return self._read(plan, batch_size, self._passing[1].reader())

    def _read(self, plan: Plan, batch_size: int, take: Callable[[int, int], Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        for start, stop in self.spans(batch_size):
            with _one_thread():
                batch = self._batch(plan, start, stop, take(start, stop))
            yield batch

    def views(self, plan: Plan, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """The images at some positions, decoded now and here."""
        return self._batch(plan, start, stop, self._job(plan, start, stop).done().to(self.device))

    def _batch(self, plan: Plan, start: int, stop: int, pixels: Tensor) -> tuple[Tensor, Tensor]:
        if plan.mixing is not None:
            rows = plan.mixing.at(start, stop).rows()
            pixels = torch.cat([pixels[:, 0], pixels[rows.to(self.device), 1]])
        return self._mixed(self._seen(pixels, None, plan.with_partners(start, stop)), plan, start, stop)

    def _decode(self, plan: Plan) -> Iterator[Tensor]:
        piece = max(1, _piece(self.images) // (1 if plan.mixing is None else 2))
        jobs = (self._job(plan, start, stop) for start, stop in self.spans(piece))
        return decoding_pool(self.images.workers, self.device.type == "cuda").run(jobs)

    def _job(self, plan: Plan, start: int, stop: int) -> Job:
        images, positions, each = self.images, torch.arange(start, stop), 1
        if plan.mixing is not None:
            # Of each position its own image and its partner's, side by side.
            positions, each = torch.stack([positions, plan.mixing.partners[start:stop]], dim=1).flatten(), 2
        chosen = plan.order[positions].numpy()
        scale, crops = self.augment.resized_crop, plan.crops
        if scale is None or crops is None:
            return plain_job(images, chosen, each)
        return Job(
            images.paths(chosen),
            images.size,
            images.channels,
            scale=(scale[0], scale[1]),
            crops=tuple(crops[positions].tolist()),
            flipped=tuple(plan.flipped[positions].tolist()),
            kept=images.kept,
            places=images.parts.at(chosen) if images.parts else (),
            each=each,
        )

    def _cut(self, pixels: Tensor, index: Tensor | None, plan: Plan) -> Tensor:
        # Random resized crops have been mirrored where they were decoded.
        return pixels if plan.crops is not None else super()._cut(pixels, index, plan)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Computes with one thread, while the other cores decode: several would wait for each other, and keep the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def plain_job(images: ImageFiles, chosen: np.ndarray, each: int = 1) -> Job:
    """The work of reading some images as students see them without random crops."""
    kept, places = (images.square, images.squares.at(chosen)) if images.squares else (None, ())
    return Job(images.paths(chosen), images.size, images.channels, images.resize, kept=kept, places=places, each=each)


def stream_of(images: Pictures, normalise: Normalise, augment: Augment, seed: int, device: torch.device) -> Stream:
    """The stream that suits where the images are."""
    if isinstance(images, Images):
        return Stream(images, normalise, augment, seed, device)
    return FileStream(images, normalise, augment, seed, device)


def plain_batches(images: Pictures, batch_size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Images as they are, in their order.

    Args:
        images: The images.
        batch_size: Images at a time.
        device: Device of the batches.

    Yields:
        uint8 of shape (batch, height, width, channels), and labels, int64.

    Raises:
        UserError: A file is not an image, or damaged.
    """
    take = None
    if isinstance(images, ImageFiles):
        take = Decoded(_decoded_plainly(images, device), device).reader()
    for start in range(0, len(images), batch_size):
        stop = min(start + batch_size, len(images))
        labels = torch.tensor(images.labels[start:stop], device=device)
        if take is None:
            assert isinstance(images, Images)
            yield torch.tensor(images.pixels[start:stop], device=device), labels
        else:
            yield take(start, stop), labels


def _decoded_plainly(images: ImageFiles, device: torch.device) -> Iterator[Tensor]:
    step = _piece(images)
    jobs = (
        plain_job(images, np.arange(start, min(start + step, len(images)))) for start in range(0, len(images), step)
    )
    return decoding_pool(images.workers, device.type == "cuda").run(jobs)


def _piece(images: ImageFiles) -> int:
    """Images that are decoded at a time."""
    return max(1, min(_PIECE_IMAGES, PIECE_BYTES // (images.size**2 * images.channels)))
