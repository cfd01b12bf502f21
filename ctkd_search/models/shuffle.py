"""The blocks of ShuffleNet (arXiv 1707.01083) and ShuffleNetV2 (arXiv 1807.11164)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ctkd_search.models.network import conv1x1


def shuffled(features: Tensor, groups: int) -> Tensor:
    """The channels of `groups` groups dealt out in turn; shape (batch, channels, height, width) as before."""
    batch, channels, height, width = features.shape
    dealt = features.view(batch, groups, channels // groups, height, width).transpose(1, 2)
    return dealt.reshape(batch, channels, height, width)


def _depthwise(channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False)


def _pointwise(inputs: int, outputs: int) -> list[nn.Module]:
    return [conv1x1(inputs, outputs), nn.BatchNorm2d(outputs), nn.ReLU()]


class GroupedBlock(nn.Module):
    """ShuffleNet's block: grouped 1x1, shuffle, depthwise 3x3, grouped 1x1.

    With stride 1 it is added to its input; with stride 2 it is put beside its input, averaged to the new size.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        stride: 1 or 2.
        groups: Groups of the second 1x1 convolution.
        first_groups: Groups of the first one, and of the shuffle.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, groups: int, first_groups: int) -> None:
        super().__init__()
        self.stride = stride
        self.groups = first_groups
        own = outputs - inputs if stride > 1 else outputs
        inner = own // 4
        self.conv1 = nn.Conv2d(inputs, inner, 1, groups=first_groups, bias=False)
        self.norm1 = nn.BatchNorm2d(inner)
        self.conv2 = _depthwise(inner, stride)
        self.norm2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, own, 1, groups=groups, bias=False)
        self.norm3 = nn.BatchNorm2d(own)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (batch, inputs, h, w) to (batch, outputs, h / stride, w / stride)."""
        residual = shuffled(torch.relu(self.norm1(self.conv1(features))), self.groups)
        residual = torch.relu(self.norm2(self.conv2(residual)))
        residual = self.norm3(self.conv3(residual))
        if self.stride == 1:
            return torch.relu(residual + features)
        return torch.relu(torch.cat([residual, F.avg_pool2d(features, 3, stride=self.stride, padding=1)], dim=1))


class SplitBlock(nn.Module):
    """ShuffleNetV2's block of stride 1: one half of the channels passes, the other is worked on, both are shuffled.

    Args:
        channels: Channels that come in and go out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.branch = nn.Sequential(
            *_pointwise(half, half), _depthwise(half, 1), nn.BatchNorm2d(half), *_pointwise(half, half)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Maps (batch, channels, h, w) to the same shape."""
        passed, worked = features.chunk(2, dim=1)
        return shuffled(torch.cat([passed, self.branch(worked)], dim=1), 2)


class ShrinkingBlock(nn.Module):
    """ShuffleNetV2's block of stride 2: both branches see all channels.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out, half of them from each branch.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half = outputs // 2
        self.left = nn.Sequential(_depthwise(inputs, 2), nn.BatchNorm2d(inputs), *_pointwise(inputs, half))
        self.right = nn.Sequential(
            *_pointwise(inputs, half), _depthwise(half, 2), nn.BatchNorm2d(half), *_pointwise(half, half)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Maps (batch, inputs, h, w) to (batch, outputs, h / 2, w / 2)."""
        return shuffled(torch.cat([self.left(features), self.right(features)], dim=1), 2)
