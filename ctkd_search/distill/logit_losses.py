"""Losses on logits beyond the divergence of softened predictions, as pure functions of tensors."""

from __future__ import annotations

from torch import Tensor

# Added to the deviation, as in the code of arXiv 2403.01427.
_EPSILON = 1e-7


def standardised(logits: Tensor) -> Tensor:
    """Standardised logits: their z-scores over the classes (arXiv 2403.01427, algorithm 1).

    z' = (z - mean(z)) / (std(z) + 1e-7) for each image, where the deviation divides by classes - 1, as in the authors'
    code. Equal logits of all classes become 0, with a finite gradient.

    Args:
        logits: Logits, shape (batch, classes), of two classes or more.

    Returns:
        Logits of the same shape; those of each image have mean 0 and deviation 1.
    """
    # The root's gradient at 0 is infinite; a smaller deviation than epsilon is nothing but rounding.
    deviation = logits.var(dim=1, keepdim=True).clamp_min(_EPSILON**2).sqrt()
    return (logits - logits.mean(dim=1, keepdim=True)) / (deviation + _EPSILON)
