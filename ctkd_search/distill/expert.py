"""The expert: a frozen, pre-trained teacher, or several whose outputs are averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from ctkd_search.distill import losses
from ctkd_search.distill.engine import autocast
from ctkd_search.distill.requests import EMBEDDING, TeacherOutput
from ctkd_search.models.network import TappedNetwork

# The expert's batch size, independent of the student's: so its outputs are equal to the last bit for every student,
# live and recorded.
EXPERT_BATCH = 256
# Side in pixels above which the expert's batches are smaller.
_SMALL = 64


def expert_batch(size: int) -> int:
    """Returns the expert's batch size for images of a size."""
    return EXPERT_BATCH if size <= _SMALL else max(1, EXPERT_BATCH * _SMALL**2 // size**2)


class Expert:
    """A frozen, pre-trained teacher.

    Args:
        network: The network with its trained weights; it is put into evaluation mode and never changed.
        precision: Precision that it computes in.
    """

    def __init__(self, network: TappedNetwork, precision: str) -> None:
        self.network = network.eval().requires_grad_(False)
        self.precision = precision

    @property
    def layers(self) -> Sequence[int]:
        """Returns the numbers of its feature maps."""
        return self.network.layers

    @torch.no_grad()
    def outputs(
        self, batches: Iterable[tuple[Tensor, Tensor]], outputs: Sequence[TeacherOutput]
    ) -> Iterator[list[Tensor]]:
        """Computes outputs along an epoch of the stream.

        Args:
            batches: Images and labels of the epoch, in batches of `expert_batch`.
            outputs: Outputs to compute.

        Yields:
            Each output for the positions of the next batch, in float32.
        """
        for images, _ in batches:
            embedding = None
            with autocast(self.precision, images.device):
                if EMBEDDING in outputs:
                    logits, features, embedding = self.network.with_embedding(images)
                else:
                    logits, features = self.network(images)
            yield [output_of(output, logits, features, embedding) for output in outputs]


class Ensemble:
    """Several experts whose outputs are averaged.

    The mean of their logits is, at every temperature, the geometric mean of their predictions. An attention map or
    other output that the student is drawn to by the squared distance has the same gradient as the mean of the distances
    to all members.

    Args:
        members: The experts, whose outputs have the same shapes.
    """

    def __init__(self, members: Sequence[Expert]) -> None:
        self.members = tuple(members)

    @property
    def layers(self) -> Sequence[int]:
        """Returns the numbers of the feature maps that all members have."""
        return min((member.layers for member in self.members), key=len)

    @property
    def network(self) -> TappedNetwork:
        """Raises an error: methods that use the expert's network are refused where there are several."""
        raise TypeError("an ensemble has no single network")

    def classifier(self) -> nn.Module:
        """Returns a network that gives the mean of the members' logits, and no feature maps."""
        return _MeanLogits([member.network for member in self.members])

    def outputs(
        self, batches: Iterable[tuple[Tensor, Tensor]], outputs: Sequence[TeacherOutput]
    ) -> Iterator[list[Tensor]]:
        """Computes the mean of each output over the members, as `Expert.outputs` does for one."""
        for batch in batches:
            each = [next(member.outputs([batch], outputs)) for member in self.members]
            yield [torch.stack(parts).mean(dim=0) for parts in zip(*each, strict=True)]


class _MeanLogits(nn.Module):
    """The mean of the logits of several networks, in evaluation mode."""

    def __init__(self, networks: Sequence[TappedNetwork]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns logits, shape (batch, classes), and no feature maps."""
        return torch.stack([network(images)[0].float() for network in self.networks]).mean(dim=0), []


def output_of(
    output: TeacherOutput, logits: Tensor, features: Sequence[Tensor], embedding: Tensor | None = None
) -> Tensor:
    """Returns one of the outputs of an expert for a batch, in float32; see `TeacherOutput` for the shapes.

    Args:
        output: The output.
        logits: The expert's logits.
        features: Its feature maps, first layer first.
        embedding: Its embedding; None if that was not computed.
    """
    if output == EMBEDDING:
        if embedding is None:
            raise TypeError("the expert's embedding was not computed")
        return embedding.float()
    if output.kind == "logits":
        return logits.float()
    return _OF_FEATURES[output.kind](features[output.layer - 1])


_OF_FEATURES: dict[str, Callable[[Tensor], Tensor]] = {
    "attention": losses.attention_map,
    "statistics": losses.channel_statistics,
    "features": Tensor.float,
}
