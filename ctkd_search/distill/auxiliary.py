"""Training networks of several methods: the student with a peer, with its embedding, or with bridges between maps."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ctkd_search.distill.training_network import Context, TrainingNetwork
from ctkd_search.models.network import TappedNetwork, conv1x1


class WithPeer(TrainingNetwork):
    """The student and a peer on the same images; ``more`` of its `StudentOutput` is the peer's logits.

    Args:
        student: The student.
        peer: The peer.
    """

    def __init__(self, student: TappedNetwork, peer: TappedNetwork) -> None:
        super().__init__(student)
        self.peer = peer

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Returns the student's logits and maps, and the peer's logits."""
        logits, maps = self.student(images)
        peer_logits, _ = self.peer(images)
        return logits, maps, peer_logits


class WithEmbedding(TrainingNetwork):
    """The student alone; ``more`` of its `StudentOutput` is its embedding, shape (batch, width)."""

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Returns the student's logits, maps and embedding."""
        return self.student.with_embedding(images)


class Bridged(TrainingNetwork):
    """The student, and a 1x1 convolution from each of some of its maps to the expert's width.

    ``more`` of its `StudentOutput` is the list of maps after the convolutions, in the order of `layers`.

    Args:
        student: The student.
        context: Both architectures, and the seed of the convolutions' initial weights.
        layers: Numbers of the maps, from 1.
        normalised: Whether a batch normalisation follows each convolution.
    """

    def __init__(
        self, student: TappedNetwork, context: Context, layers: Sequence[int], normalised: bool = False
    ) -> None:
        super().__init__(student)
        self.layers = tuple(layers)
        with context.seeded("bridges"):
            self.bridges = nn.ModuleList(
                _bridge(context.student.taps[layer - 1].channels, context.teacher.taps[layer - 1].channels, normalised)
                for layer in self.layers
            )

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Returns the student's logits and maps, and the bridged maps."""
        logits, maps = self.student(images)
        bridged = [bridge(maps[layer - 1]) for bridge, layer in zip(self.bridges, self.layers, strict=True)]
        return logits, maps, bridged


def _bridge(inputs: int, outputs: int, normalised: bool) -> nn.Sequential:
    if normalised:
        return nn.Sequential(conv1x1(inputs, outputs), nn.BatchNorm2d(outputs))
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1))
