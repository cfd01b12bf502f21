"""Colour jitter: brightness, contrast, saturation and hue of an image change at random, in random order."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ctkd_search.config import Jitter
from ctkd_search.data.operations import brightened, contrasted, hue_turned, operated, saturated

_OPERATIONS = {"brightness": brightened, "contrast": contrasted, "saturation": saturated, "hue": hue_turned}


def draw_jitter(jitter: Jitter, count: int, generator: Callable[[str], torch.Generator]) -> tuple[Tensor, Tensor]:
    """Draws the colour jitter of an epoch, as torchvision's `ColorJitter` does.

    Args:
        jitter: The strengths.
        count: Number of positions.
        generator: Returns the generator of random numbers for a purpose.

    Returns:
        Numbers of the operations in their order, int64 of shape (positions, 4), where those without a strength are -1,
        and the magnitude of each, float64 of the same shape; both on the CPU.
    """
    order = torch.rand(count, len(_OPERATIONS), generator=generator("jitter order")).argsort(dim=1, stable=True)
    magnitudes, idle = [], []
    for name in _OPERATIONS:
        strength = getattr(jitter, name)
        drawn = torch.rand(count, dtype=torch.float64, generator=generator(f"jitter {name}"))
        low, high = (-strength, strength) if name == "hue" else (max(0.0, 1 - strength), 1 + strength)
        magnitudes.append(low + (high - low) * drawn)
        idle.append(strength == 0)
    return torch.where(torch.tensor(idle)[order], -1, order), torch.stack(magnitudes, dim=1).gather(1, order)


def apply_jitter(pixels: Tensor, order: Tensor, magnitudes: Tensor) -> Tensor:
    """Returns images after their colour jitter.

    Args:
        pixels: The images, uint8 of shape (images, height, width, channels).
        order: Numbers of the operations, as `draw_jitter` returns them.
        magnitudes: Their magnitudes.
    """
    for step in range(order.shape[1]):
        pixels = operated(pixels, order[:, step], magnitudes[:, step], tuple(_OPERATIONS.values()))
    return pixels
