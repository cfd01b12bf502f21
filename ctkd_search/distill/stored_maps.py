"""Recorded attention maps: averaged down to a smaller size, and with a byte for each number."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ctkd_search.storage import SCALE_BYTES, MapForm, Storage, array_type

_LARGEST = 255


def pack_maps(maps: Tensor, form: MapForm, storage: Storage) -> np.ndarray:
    """Returns attention maps as they are recorded.

    Args:
        maps: The maps, float32, shape (images, height · width).
        form: Their form.
        storage: Storage of other outputs.

    Returns:
        Shape (images, positions of the smaller maps) in the type of other outputs; or, where the form has bytes, uint8
        with the four bytes of the map's scale behind its numbers.
    """
    kept = maps if form.size is None else smaller_maps(maps, form.size)
    if form.type is None:
        return kept.cpu().numpy().astype(array_type(storage))
    largest = kept.amax(dim=1, keepdim=True)
    numbers = torch.where(largest > 0, kept / largest * _LARGEST, 0.0).round()
    # Not the largest number over 255: so the map keeps its length, which losses take to be 1.
    length = torch.linalg.vector_norm(kept, dim=1, keepdim=True)
    scale = length / torch.linalg.vector_norm(numbers, dim=1, keepdim=True).clamp(min=1.0)
    scales = scale.float().cpu().contiguous().numpy().view(np.uint8)
    return np.concatenate([numbers.to(torch.uint8).cpu().numpy(), scales], axis=1)


def unpack_maps(rows: Tensor, form: MapForm) -> Tensor:
    """Returns recorded attention maps in float32, shape (images, positions)."""
    if form.type is None:
        return rows.float()
    scale = rows[:, -SCALE_BYTES:].contiguous().view(torch.float32)
    return rows[:, :-SCALE_BYTES].float() * scale


def smaller_maps(maps: Tensor, size: int) -> Tensor:
    """Returns attention maps of squares averaged down to a side, with the length that they had; small ones unchanged.

    Of one expert these are the maps that `losses.attention` would compare at that size. The mean map of an ensemble is
    averaged after it was taken, which is nearly the same.
    """
    side = math.isqrt(maps.shape[1])
    if side <= size or side**2 != maps.shape[1]:
        return maps
    pooled = F.adaptive_avg_pool2d(maps.view(-1, side, side), (size, size)).flatten(1)
    return F.normalize(pooled, dim=1) * torch.linalg.vector_norm(maps, dim=1, keepdim=True)
