"""Mixup (arXiv 1710.09412) and cutmix (arXiv 1905.04899): an image is mixed with that of another position."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ctkd_search.config import Augment
from ctkd_search.data.erasing import within


class Mixture(NamedTuple):
    """The labels of mixed images.

    Attributes:
        partners: Classes of the images that were mixed in, int64, shape (batch,).
        shares: Share of each image's own class in its label, float32, shape (batch,); the rest is the partner's.
    """

    partners: Tensor
    shares: Tensor


class Mixing(NamedTuple):
    """The mixing of an epoch, or of a part of it.

    Attributes:
        partners: Position whose image is mixed into that of each position, int64, shape (positions,), on the CPU; where
            nothing is mixed in, the position itself.
        shares: Share of the position's own image, float32, same shape, on the CPU; of cutmix, that of its pixels.
        rectangles: First row, first column, height and width of the rectangle that is the partner's, int64 of shape
            (positions, 4), on the CPU; the height and the width are 0 where images are mixed as a whole.
    """

    partners: Tensor
    shares: Tensor
    rectangles: Tensor

    def at(self, start: int, stop: int) -> Mixing:
        """Returns the mixing of the positions from `start` to `stop` (exclusive)."""
        return Mixing(*(part[start:stop] for part in self))

    def rows(self) -> Tensor:
        """Returns the numbers of the positions into which another one is mixed."""
        return (self.shares < 1).nonzero().squeeze(1)


def draw_mixing(augment: Augment, count: int, size: int, generator: Callable[[str], torch.Generator]) -> Mixing | None:
    """Draws the mixing of an epoch; partners are positions of the epoch, so that batches of any size mix alike.

    Args:
        augment: The augmentation; with both mixup and cutmix, each image goes through one of them, at even chances.
        count: Number of positions.
        size: Side of the images in pixels.
        generator: Returns the generator of random numbers for a purpose.

    Returns:
        The mixing; None without mixup and cutmix.
    """
    if not augment.mixup and not augment.cutmix:
        return None

    def uniform(purpose: str) -> Tensor:
        return torch.rand(count, dtype=torch.float64, generator=generator(purpose))

    def beta(purpose: str, alpha: float | None) -> Tensor:
        # Torch's distributions draw from the global random state.
        drawn = np.random.default_rng(generator(purpose).initial_seed()).beta(alpha or 1.0, alpha or 1.0, count)
        return torch.from_numpy(drawn)

    cut = torch.full((count,), not augment.mixup)
    if augment.mixup and augment.cutmix:
        cut = uniform("mix kind") < 0.5
    rectangles = _rectangles(
        beta("cutmix share", augment.cutmix), uniform("cutmix row"), uniform("cutmix column"), size
    )
    rectangles = rectangles.where(cut[:, None], 0)
    left = 1 - rectangles[:, 2] * rectangles[:, 3] / size**2
    shares = torch.where(cut, left, beta("mixup share", augment.mixup))
    partners = torch.randperm(count, generator=generator("mix partner"))
    positions = torch.arange(count)
    probability = 1.0 if augment.mix_probability is None else augment.mix_probability
    mixed = (uniform("mix chance") < probability) & (shares.float() < 1) & (partners != positions)
    return Mixing(
        torch.where(mixed, partners, positions), shares.float().where(mixed, 1), rectangles.where(mixed[:, None], 0)
    )


def _rectangles(shares: Tensor, row: Tensor, column: Tensor, size: int) -> Tensor:
    """Returns rectangles that leave shares of square images, around places in [0, 1), cut off at the borders."""
    half = size * (1 - shares).sqrt() / 2
    sides = []
    for centre in (row * size, column * size):
        first, end = ((centre + sign * half).round().clamp(0, size) for sign in (-1, 1))
        sides.append((first, end - first))
    (top, height), (left, width) = sides
    return torch.stack([top, left, height, width], dim=1).long()


def mix(images: Tensor, theirs: Tensor, rows: Tensor, mixing: Mixing) -> Tensor:
    """Mixes images with their partners', in the memory of the images, and returns them.

    Args:
        images: Normalised images, shape (batch, channels, height, width).
        theirs: The partners' images of the rows that are mixed.
        rows: Numbers of these rows, on the CPU.
        mixing: The mixing of the batch.
    """
    device = images.device
    where, rectangles = rows.to(device), mixing.rectangles[rows].to(device)
    shares = mixing.shares[rows].view(-1, 1, 1, 1).to(device)
    own = images[where]
    cut = within(rectangles, images.shape[2], images.shape[3])
    whole = (rectangles[:, 2] == 0).view(-1, 1, 1, 1)
    blended = torch.where(whole, own * shares + theirs * (1 - shares), torch.where(cut, theirs, own))
    return images.index_copy_(0, where, blended)
