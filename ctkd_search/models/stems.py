"""Fitting of a foreign network to its images: their channels, and a stem for small ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ctkd_search.models.stages import Call, Tapped


@dataclass(frozen=True)
class Stem:
    """The layers before a network's first stage, found once with images of the usual size.

    Attributes:
        convolution: The first convolution; None if the network begins with something else.
        pooling: The max-pooling before the end of the first stage, or None.
        stride: Stride of the convolution.
        kernel: Side of its kernel.
        padding: Its padding.
    """

    convolution: str | None
    pooling: str | None
    stride: int
    kernel: int
    padding: int = 0

    @property
    def shrinks(self) -> bool:
        """Returns whether there is a stride or pooling to leave out for small images."""
        return self.stride > 1 or self.pooling is not None


def find_stem(network: nn.Module, calls: Sequence[Call], taps: Sequence[Tapped]) -> Stem:
    """Returns the stem of a network.

    Args:
        network: The network.
        calls: Calls of its modules.
        taps: Ends of its stages.
    """
    convolution = pooling = None
    for call in calls:
        module = network.get_submodule(call.name)
        if isinstance(module, nn.Conv2d) and convolution is None:
            convolution = call.name
        elif isinstance(module, nn.MaxPool2d) and convolution is not None and module.stride != 1:
            pooling = call.name
            break
        if any(call.name == tap.name for tap in taps):
            break
    if convolution is None:
        return Stem(None, None, 1, 1)
    first = network.get_submodule(convolution)
    assert isinstance(first, nn.Conv2d)
    # Padding that depends on the size of the image is a text.
    padding = int(first.padding[0]) if isinstance(first.padding, tuple) else int(first.kernel_size[0]) // 2
    return Stem(convolution, pooling, int(first.stride[0]), int(first.kernel_size[0]), padding)


def fit(network: nn.Module, stem: Stem, channels: int, small: bool, keep_kernel: bool) -> None:
    """Changes a network's stem in place.

    Args:
        network: The network.
        stem: Its stem.
        channels: Channels of the images.
        small: Whether the first stride and the pooling are left out; a kernel of more than 3x3 pixels is then one
            of 3x3.
        keep_kernel: Whether the kernel stays as it is, because published weights go into it.
    """
    if stem.convolution is None:
        return
    first = network.get_submodule(stem.convolution)
    assert isinstance(first, nn.Conv2d)
    shrinks = small and stem.stride > 1
    kernel = 3 if shrinks and not keep_kernel and stem.kernel > 3 else stem.kernel
    if kernel != stem.kernel or channels != first.in_channels:
        fitted = nn.Conv2d(
            channels,
            first.out_channels,
            kernel,
            stride=stem.stride,
            padding=kernel // 2 if kernel != stem.kernel else stem.padding,
            bias=first.bias is not None,
        )
        nn.init.kaiming_normal_(fitted.weight, mode="fan_out", nonlinearity="relu")
        if fitted.bias is not None:
            nn.init.zeros_(fitted.bias)
        holder, _, name = stem.convolution.rpartition(".")
        setattr(network.get_submodule(holder), name, fitted)
        first = fitted
    if shrinks:
        first.stride = (1, 1)
    if small and stem.pooling is not None:
        holder, _, name = stem.pooling.rpartition(".")
        setattr(network.get_submodule(holder), name, nn.Identity())


def put_published(network: nn.Module, weights: Mapping[str, Tensor], stem: Stem, classes: int) -> None:
    """Loads published weights, all but a classifier of other classes; colours are added up for grey images.

    Args:
        network: The network, its head made for `classes`.
        weights: The weights, of 3 channels and of the classes of their data set.
        stem: The network's stem.
        classes: Classes of the data set.
    """
    own = network.state_dict()
    taken = dict(weights)
    first = f"{stem.convolution}.weight"
    if first in own and own[first].shape[1] == 1 < taken[first].shape[1]:
        taken[first] = taken[first].sum(dim=1, keepdim=True)
    for name, tensor in weights.items():
        fits = name in own and own[name].shape == taken[name].shape
        if not fits and name in own and own[name].shape == (classes, *tensor.shape[1:]):
            taken[name] = own[name]
    with torch.no_grad():
        network.load_state_dict(taken)
