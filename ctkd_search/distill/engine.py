"""How networks are computed: in which precision, in which memory layout, with which optimizer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Literal, TypeVar

import torch
from torch import nn

from ctkd_search.config import Recipe

Precision = Literal["float32", "bfloat16"]
Network = TypeVar("Network", bound=nn.Module)


def resolve_precision(precision: str, device: torch.device) -> Precision:
    """What ``auto`` means on a device: bfloat16 where its hardware computes in it, float32 elsewhere.

    Args:
        precision: ``auto``, ``float32`` or ``bfloat16``.
        device: The device.

    Returns:
        ``float32`` or ``bfloat16``.
    """
    if precision == "float32":
        return "float32"
    if precision == "bfloat16":
        return "bfloat16"
    if device.type == "cuda":
        # A driver without a GPU prepares for workers that have one; GPUs since 2020 have bfloat16.
        native = not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if native else "float32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """The context in which a network's forward pass runs; losses stand outside of it, in float32."""
    return torch.autocast(
        device.type,
        torch.bfloat16,
        enabled=resolve_precision(precision, device) == "bfloat16",
        # Cached casts would outlive a CUDA graph's capture; each weight is used once a step anyhow.
        cache_enabled=device.type != "cuda",
    )


@contextlib.contextmanager
def drawing(device: torch.device, seed: int) -> Iterator[None]:
    """Lets a network draw random numbers, as dropout does, from a seed; everybody else's stay as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def place(network: Network, device: torch.device) -> Network:
    """Moves a network to a device, its convolutions in the channels-last layout that the images have."""
    return network.to(device).to(memory_format=torch.channels_last)


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD over every parameter of a network that has a gradient, as its recipe says.

    On CUDA the learning rate is a tensor there, so that a captured step reads whatever it is set to.
    """
    device = next(network.parameters()).device
    return torch.optim.SGD(
        [parameter for parameter in network.parameters() if parameter.requires_grad],
        lr=torch.tensor(recipe.lr, device=device) if device.type == "cuda" else recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
        fused=True,
    )


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate and keeps the momentum."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
