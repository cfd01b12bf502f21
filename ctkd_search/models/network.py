"""The interface of every architecture's network, and the blocks that several families share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution without bias that keeps the size, or divides it by `stride` (rounding up)."""
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)


def conv1x1(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 1x1 convolution without bias."""
    return nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)


class TappedNetwork(nn.Module):
    """A classifier that returns its logits together with feature maps: the interface of every architecture.

    Attributes:
        classifier: The layer from the pooled features to the logits.
        stages: The stages whose outputs are the feature maps, each a sequence of blocks; empty where a network made
            elsewhere is not cut into such.
    """

    classifier: nn.Linear
    stages: nn.ModuleList

    @property
    def layers(self) -> tuple[int, ...]:
        """Returns the numbers of its feature maps, from 1."""
        return tuple(range(1, len(self.stages) + 1))

    @property
    def output_layer(self) -> nn.Linear | None:
        """Returns the layer that makes the logits of one vector for each image; None if there is no single one."""
        return self.classifier

    def embed(self, features: Tensor) -> Tensor:
        """Returns the classifier's input for the last feature map.

        Args:
            features: The last feature map, shape (batch, channels, height, width).

        Returns:
            The pooled features, shape (batch, width).
        """
        raise NotImplementedError

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Classifies a batch.

        Args:
            images: Normalised images, shape (batch, channels, height, width).

        Returns:
            Logits of shape (batch, classes), and the feature maps of the stages, each of shape
            (batch, channels, height, width), first stage first.
        """
        raise NotImplementedError

    def with_embedding(self, images: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Classifies a batch as `forward` does, and returns also the embedding, which is the output layer's input.

        Pooling the last map once more would move the running statistics of a head that has some.

        Args:
            images: Normalised images, shape (batch, channels, height, width).

        Returns:
            Logits, feature maps, and the embedding, shape (batch, width).
        """
        layer = self.output_layer
        if layer is None:
            raise TypeError("the network has no embedding")
        read: list[Tensor] = []
        hook = layer.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
        try:
            logits, maps = self(images)
        finally:
            hook.remove()
        return logits, maps, read[-1]


class StagedNetwork(TappedNetwork):
    """A network of this package's own families: a stem, stages whose outputs are tapped, and a head.

    Args:
        stem: From images to the first feature map.
        stages: The stages, in order; the output of each is tapped.
        head: Layers between the last stage and the pooling (a normalisation and a ReLU, or nothing).
        width: Channels after the head.
        classes: Number of classes.
        redrawn: Whether the convolutions begin with weights of He's variance by fan-out, as in the reference code of
            all families but ShuffleNet, which leaves them as torch draws them.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[nn.Module],
        head: nn.Module,
        width: int,
        classes: int,
        redrawn: bool = True,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.head = head
        self.classifier = nn.Linear(width, classes)
        for module in self.modules():
            # On the meta device there are no numbers to draw, and asking for some takes seconds.
            if redrawn and isinstance(module, nn.Conv2d) and not module.weight.is_meta:
                # The reference code takes all output channels for the fan-out, whatever the groups.
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.zeros_(self.classifier.bias)

    def embed(self, features: Tensor) -> Tensor:
        """Head and global average pooling of the last stage's map."""
        pooled: Tensor = self.head(features).mean(dim=(2, 3))
        return pooled

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Stem, stages, head, pooling and classifier."""
        maps = []
        features = self.stem(images)
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        return self.classifier(self.embed(features)), maps


def stage_of(
    block: Callable[[int, int, int], nn.Module], blocks: int, inputs: int, outputs: int, stride: int
) -> nn.Sequential:
    """A stage of residual blocks, the first of which changes the width and the size.

    Args:
        block: Makes a block from (inputs, outputs, stride).
        blocks: Number of blocks.
        inputs: Channels that come in.
        outputs: Channels that go out.
        stride: Stride of the first block.
    """
    first = block(inputs, outputs, stride)
    return nn.Sequential(first, *(block(outputs, outputs, 1) for _ in range(blocks - 1)))


class PreActivationBlock(nn.Module):
    """Wide ResNet's basic block: BN, ReLU, 3x3, BN, ReLU, 3x3, added to its input (arXiv 1605.07146).

    Where width or size change, the shortcut is a 1x1 convolution of the normalised input.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = conv3x3(outputs, outputs)
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else conv1x1(inputs, outputs, stride)

    def forward(self, features: Tensor) -> Tensor:
        """Maps (batch, inputs, h, w) to (batch, outputs, h / stride, w / stride)."""
        activated = torch.relu(self.norm1(features))
        residual = self.conv2(torch.relu(self.norm2(self.conv1(activated))))
        return residual + (features if self.shortcut is None else self.shortcut(activated))


class PostActivationBlock(nn.Module):
    """ResNet's basic block: 3x3, BN, ReLU, 3x3, BN, added to its input, ReLU (arXiv 1512.03385).

    Where width or size change, the shortcut is a 1x1 convolution and BN (the paper's option B), as in the
    networks that the distillation papers compare on.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = conv3x3(outputs, outputs)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Sequential(conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs))

    def forward(self, features: Tensor) -> Tensor:
        """Maps (batch, inputs, h, w) to (batch, outputs, h / stride, w / stride)."""
        residual = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(features)))))
        return torch.relu(residual + self.shortcut(features))


class BottleneckBlock(nn.Module):
    """ResNet's bottleneck: 1x1, 3x3 with the stride, 1x1 to four times the width, added to its input, ReLU.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out, a multiple of 4.
        stride: Stride of the 3x3 convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        width = outputs // 4
        self.conv1 = conv1x1(inputs, width)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv3 = conv1x1(width, outputs)
        self.norm3 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Sequential(conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs))

    def forward(self, features: Tensor) -> Tensor:
        """Maps (batch, inputs, h, w) to (batch, outputs, h / stride, w / stride)."""
        residual = torch.relu(self.norm1(self.conv1(features)))
        residual = torch.relu(self.norm2(self.conv2(residual)))
        return torch.relu(self.norm3(self.conv3(residual)) + self.shortcut(features))


class Residual(nn.Module):
    """A module whose output is added to its input.

    Args:
        body: The module; it keeps the shape.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, features: Tensor) -> Tensor:
        """Maps (batch, channels, h, w) to the same shape."""
        added: Tensor = features + self.body(features)
        return added
