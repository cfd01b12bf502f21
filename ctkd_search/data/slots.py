"""Memory that decoding processes share with the one that they decode for."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

# Bytes of pixels that a process decodes at a time: small enough for a container's shared memory.
PIECE_BYTES = 4_000_000


class Slots:
    """Shared memory that results are written to in turn, each until it has been copied from there.

    A tensor that is sent has memory of its own instead: a file that comes over a socket, is mapped, and is touched page
    by page for the first time, which takes longer than the copy.

    Args:
        count: Number of slots: one more than results may be outstanding, so that none is written to a slot that has
            not been copied.

    Raises:
        RuntimeError: The machine, or the container, has too little shared memory.
    """

    def __init__(self, count: int) -> None:
        self._memory = torch.empty((count, PIECE_BYTES), dtype=torch.uint8).share_memory_()

    def put(self, slot: int, images: Tensor) -> Tensor | list[int]:
        """Writes images to a slot; returns what is to be sent: the slot and their shape, or images that do not fit."""
        if images.numel() > PIECE_BYTES:
            return images
        self._memory[slot, : images.numel()].copy_(images.flatten())
        return [slot, *images.shape]

    def take(self, sent: Tensor | Sequence[int]) -> Tensor:
        """Returns the images of which `put` returned this, in memory of this process."""
        if isinstance(sent, Tensor):
            return sent
        slot, *shape = sent
        return self._memory[slot, : prod(shape)].clone().view(shape)


def shared_slots(count: int) -> Slots | None:
    """Returns slots; None where there is too little shared memory for all of them, so that results are sent."""
    try:
        return Slots(count)
    except RuntimeError:
        return None
