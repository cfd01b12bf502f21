"""Weights of the classes in the cross-entropy, from how many training images each class has."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ctkd_search.config import Augment
from ctkd_search.data.dataset import Splits
from ctkd_search.recipe import EFFECTIVE, UNWEIGHTED, Recipe


def class_weights(recipe: Recipe, splits: Splits, augment: Augment, device: torch.device) -> Tensor | None:
    """Returns the weight of each class by a recipe.

    Those that follow from the numbers of images have a mean of 1 over the images of an epoch, so that the learning rate
    keeps its meaning: where every class is shown equally often, all are 1. Given ones are used as they are.

    Args:
        recipe: The recipe.
        splits: The images.
        augment: Their augmentation, and how often each is shown.
        device: Device of the weights.

    Returns:
        Float32, shape (classes,); None without weights.
    """
    if recipe.class_weights == UNWEIGHTED:
        return None
    if not isinstance(recipe.class_weights, str):
        return torch.tensor(recipe.class_weights, device=device)
    if augment.sampling == "balanced":
        return torch.ones(len(splits.classes), device=device)
    counts = np.bincount(splits.train.labels, minlength=len(splits.classes))
    # A class without images has no part in the loss.
    numbers = np.maximum(counts, 1).astype(np.float64)
    if recipe.class_weights == EFFECTIVE:
        # 1 - beta^n (arXiv 1901.05555, eq. 2), by expm1, which keeps the digits where beta^n is near 1.
        numbers = -np.expm1(numbers * np.log(recipe.effective_beta))
    weights = 1 / numbers
    weights *= counts.sum() / (counts * weights).sum()
    return torch.tensor(weights, dtype=torch.float32, device=device)
