"""RandAugment and TrivialAugment: which operations an image goes through, and with which magnitudes.

Operations and magnitudes are those of torchvision's `RandAugment` and `TrivialAugmentWide`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ctkd_search.config import Augment
from ctkd_search.data import operations
from ctkd_search.data.operations import operated

# In torchvision's order.
OPERATIONS = {
    "Identity": operations.unchanged,
    "ShearX": operations.sheared_across,
    "ShearY": operations.sheared_down,
    "TranslateX": operations.shifted_across,
    "TranslateY": operations.shifted_down,
    "Rotate": operations.rotated,
    "Brightness": operations.brightened,
    "Color": operations.saturated,
    "Contrast": operations.contrasted,
    "Sharpness": operations.sharpened,
    "Posterize": operations.posterised,
    "Solarize": operations.solarised,
    "AutoContrast": operations.stretched,
    "Equalize": operations.equalised,
}
# Magnitudes of each operation, from none to the strongest.
BINS = 31
# Operations whose effect has a direction, which is drawn.
_SIGNED = frozenset(["ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"])
# Operations that multiply by a factor; the magnitude is its distance from 1, in either direction.
_FACTORS = frozenset(["Brightness", "Color", "Contrast", "Sharpness"])


def policy_levels(augment: Augment, size: int) -> Tensor:
    """Returns the magnitudes of every operation, as the operation takes them.

    Args:
        augment: An augmentation with `randaugment` or `trivialaugment`.
        size: Side of the images in pixels.

    Returns:
        Float64, shape (2, operations, bins), for either direction; of operations without one, the same twice.
    """
    if augment.randaugment:
        shear, shift, angle, factor, bits = 0.3, 150.0 / 331.0 * size, 30.0, 0.9, 4
    else:
        shear, shift, angle, factor, bits = 0.99, 32.0, 135.0, 0.99, 6

    def up_to(strongest: float) -> Tensor:
        # In float32 at first, as torchvision has it.
        return torch.linspace(0, strongest, BINS).double()

    sizes = {
        **dict.fromkeys(("ShearX", "ShearY"), up_to(shear)),
        **dict.fromkeys(("TranslateX", "TranslateY"), up_to(shift).trunc()),
        "Rotate": up_to(angle),
        **dict.fromkeys(_FACTORS, up_to(factor)),
        "Posterize": (8 - torch.arange(BINS) / ((BINS - 1) / bits)).round().double(),
        "Solarize": 255 * torch.linspace(1, 0, BINS).double(),
    }
    none = torch.zeros(BINS, dtype=torch.float64)

    def level(name: str, sign: int) -> Tensor:
        if name in _FACTORS:
            return 1 + sign * sizes[name]
        return sizes.get(name, none) * (sign if name in _SIGNED else 1)

    return torch.stack([torch.stack([level(name, sign) for name in OPERATIONS]) for sign in (1, -1)])


def draw_policy(
    augment: Augment, count: int, size: int, generator: Callable[[str], torch.Generator]
) -> tuple[Tensor, Tensor] | tuple[None, None]:
    """Draws the operations of an epoch.

    Args:
        augment: The augmentation.
        count: Number of positions.
        size: Side of the images in pixels.
        generator: Returns the generator of random numbers for a purpose.

    Returns:
        Numbers of the operations, int64 of shape (positions, operations of an image), and their magnitudes, float64 of
        the same shape, both on the CPU; None twice without `randaugment` and `trivialaugment`.
    """
    if augment.randaugment:
        name, layers = "randaugment", augment.randaugment.operations
        bins = torch.full((count, layers), augment.randaugment.magnitude)
    elif augment.trivialaugment:
        name, layers = "trivialaugment", 1
        bins = torch.randint(0, BINS, (count, layers), generator=generator(f"{name} magnitude"))
    else:
        return None, None
    chosen = torch.randint(0, len(OPERATIONS), (count, layers), generator=generator(f"{name} operation"))
    signs = torch.randint(0, 2, (count, layers), generator=generator(f"{name} sign"))
    return chosen, policy_levels(augment, size)[signs, chosen, bins]


def apply_policy(pixels: Tensor, chosen: Tensor, magnitudes: Tensor) -> Tensor:
    """Returns images after their operations, one after the other.

    Args:
        pixels: The images, uint8 of shape (images, height, width, channels).
        chosen: Numbers of the operations, shape (images, operations of an image).
        magnitudes: Their magnitudes, same shape.
    """
    for layer in range(chosen.shape[1]):
        pixels = operated(pixels, chosen[:, layer], magnitudes[:, layer], tuple(OPERATIONS.values()))
    return pixels
