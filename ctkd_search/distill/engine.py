"""Computation of networks: precision, memory layout and random numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Network = TypeVar("Network", bound=nn.Module)


def resolve_precision(precision: str, device: torch.device) -> Precision:
    """Resolves ``auto`` for a device: bfloat16 if its hardware computes in it, float32 otherwise.

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
        # A process without a GPU cannot know, and a search asks one that has; GPUs since 2020 have bfloat16.
        native = not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if native else "float32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """Returns the context of a network's forward pass; losses are computed outside of it, in float32."""
    return torch.autocast(
        device.type,
        torch.bfloat16,
        enabled=resolve_precision(precision, device) == "bfloat16",
        # Cached casts would outlive a CUDA graph's capture; each weight is used once a step anyhow.
        cache_enabled=device.type != "cuda",
    )


def draws_restored(device: torch.device) -> AbstractContextManager[None]:
    """Returns a context after which random numbers are drawn as if none had been drawn in it."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


@contextlib.contextmanager
def drawing(device: torch.device, seed: int) -> Iterator[None]:
    """Seeds the random numbers that a network draws in the block, as for dropout; restores the generators after it."""
    with draws_restored(device):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


class StridedConv2d(nn.Conv2d):
    """A convolution with a stride, whose gradient is right on a CPU where its input is a single position.

    oneDNN leaves the gradient of the weights that meet no input uninitialised then, in bfloat16 (seen in torch 2.14): a
    few of them are of the order of 1e30. Such a convolution is therefore computed in float32, which costs nothing that
    could be noticed.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Returns the convolution; under autocast that of a single position in float32."""
        if input.device.type != "cpu" or input.shape[-2:].numel() > 1 or not torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float())


class NarrowConv2d(nn.Conv2d):
    """A convolution of single positions with a stride, over few channels, which picks the positions first.

    In float32 and the channels-last layout oneDNN's gradient of its weights writes beyond its memory on a CPU without
    AVX-512, where the input has up to seven channels (seen in torch 2.14): the process dies, there or later.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Returns the convolution."""
        down, right = self.stride
        return F.conv2d(input[:, :, ::down, ::right], self.weight, self.bias, groups=self.groups)


# Channels that oneDNN computes together on the widest CPU: fewer are what its blocks do not hold.
_BLOCK = 16


def _placed_class(conv: nn.Conv2d) -> type[nn.Conv2d]:
    """Returns the class that computes a convolution right on every device."""
    if max(conv.stride) == 1:
        return nn.Conv2d
    if max(conv.kernel_size) > 1:
        return StridedConv2d
    return NarrowConv2d if conv.in_channels // conv.groups < _BLOCK and conv.padding in ((0, 0), "valid") else nn.Conv2d


def place(network: Network, device: torch.device) -> Network:
    """Moves a network to a device, its convolutions in the channels-last layout that the images have."""
    for module in network.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = _placed_class(module)
    return network.to(device).to(memory_format=torch.channels_last)
