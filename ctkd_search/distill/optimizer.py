"""The optimizer of students and teachers."""

from __future__ import annotations

import torch
from torch import nn

from ctkd_search.config import Recipe


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD over every parameter of a network, as its recipe says."""
    return torch.optim.SGD(
        network.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
        foreach=True,
    )


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate and keeps the momentum."""
    for group in optimizer.param_groups:
        group["lr"] = lr
