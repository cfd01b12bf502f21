"""The student with blocks of the expert swapped in: what IAKD trains (Fu et al., arXiv 2007.01476)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ctkd_search.distill.training_network import CheckpointedRandom, Frozen, TrainingNetwork
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.models.network import TappedNetwork, conv1x1


class Flow(NamedTuple):
    """The shapes of a block's input and output.

    Attributes:
        enters: Channels, height and width of the input.
        leaves: Channels, height and width of the output.
    """

    enters: tuple[int, ...]
    leaves: tuple[int, ...]


def segments(blocks: int, parts: int) -> list[slice]:
    """Divides consecutive blocks into parts as equal as possible.

    Args:
        blocks: Number of blocks, at least as many as parts.
        parts: Number of parts.
    """
    ends = [part * blocks // parts for part in range(parts + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(ends)]


class Segment(nn.Module):
    """Frozen blocks of the expert that replace one block of the student; gradients flow through them.

    Args:
        blocks: The expert's blocks.
        enter: Module before them if the widths differ; trained.
        leave: Module after them if the widths differ; trained.
    """

    def __init__(self, blocks: nn.Sequential, enter: nn.Module, leave: nn.Module) -> None:
        super().__init__()
        self.enter = enter
        self.leave = leave
        self.frozen = Frozen(blocks)

    def forward(self, features: Tensor) -> Tensor:
        """Maps the input of the student's block to the shape of its output."""
        made: Tensor = self.leave(self.frozen.module(self.enter(features)))
        return made


class Hybrid(TrainingNetwork):
    """A student some of whose blocks are replaced by segments of the expert's, drawn again at every training step.

    Each of the expert's stages is divided into as many segments as the student's stage has blocks; each replaces its
    block with the same probability, independently. In evaluation mode it is the student alone.

    Args:
        student: The student.
        expert: The expert, frozen.
        geometry: Classes, channels and size of the images.
        stages: Stages whose blocks are swapped, from 1.
        bridge: Whether 1x1 convolutions join blocks whose widths differ; they are trained, and are no part of the
            student.
        probability: Returns the probability of a swap, in [0, 1].
        seed: Seed of the choice of swapped blocks.

    Raises:
        UserError: Blocks do not fit into each other's places.
    """

    def __init__(
        self,
        student: TappedNetwork,
        expert: TappedNetwork,
        *,
        geometry: Geometry,
        stages: Sequence[int],
        bridge: bool,
        probability: Callable[[], float],
        seed: int,
    ) -> None:
        super().__init__(student)
        self.draws = CheckpointedRandom(seed)
        self._probability = probability
        self.stages = tuple(sorted(stages))
        ours, theirs = (flows(network, geometry, self.stages) for network in (student, expert))
        self.segments = nn.ModuleList(
            nn.ModuleList(_segments_of(blocks_of(expert, stage), there, here, bridge, stage))
            for stage, there, here in zip(self.stages, theirs, ours, strict=True)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Classifies a batch as the student does, with this step's blocks swapped in."""
        if not self.training:
            output: tuple[Tensor, list[Tensor]] = self.student(images)
            return output
        with self._swapped():
            return self.student(images)

    @contextmanager
    def _swapped(self) -> Iterator[None]:
        """Draws which blocks are swapped, and puts the expert's in their places."""
        probability = self._probability()
        places: list[tuple[nn.Sequential, int, nn.Module]] = [
            (blocks_of(self.student, stage), number, segment)
            for stage, parts in zip(self.stages, self.segments, strict=True)
            for number, segment in enumerate(parts.children())
        ]
        drawn = self.draws.uniform(len(places))
        own = [(blocks, number, blocks[number]) for blocks, number, _ in places]
        try:
            for (blocks, number, segment), chance in zip(places, drawn, strict=True):
                if chance < probability:
                    blocks[number] = segment
            yield
        finally:
            for blocks, number, block in own:
                blocks[number] = block


def blocks_of(network: TappedNetwork, stage: int) -> nn.Sequential:
    """Returns the blocks of a stage, counted from 1.

    Raises:
        UserError: The network's stage is not a sequence of blocks.
    """
    found = network.stages[stage - 1] if len(network.stages) >= stage else None
    if not isinstance(found, nn.Sequential):
        raise UserError(
            f"stage {stage} of {type(network).__name__} is not a sequence of blocks, which this method swaps; choose "
            "another pair, or another method"
        )
    return found


def flows(network: TappedNetwork, geometry: Geometry, stages: Sequence[int]) -> list[list[Flow]]:
    """Returns the input and output shapes of the blocks of some stages; the network is left as it was.

    Args:
        network: The network.
        geometry: The images.
        stages: The stages, from 1.
    """
    found: dict[nn.Module, Flow] = {}

    def note(block: nn.Module, inputs: Any, output: Tensor) -> None:
        found[block] = Flow(tuple(inputs[0].shape[1:]), tuple(output.shape[1:]))

    watched = [list(blocks_of(network, stage)) for stage in stages]
    hooks = [block.register_forward_hook(note) for blocks in watched for block in blocks]
    training, device = network.training, next(network.parameters()).device
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, geometry.channels, geometry.image_size, geometry.image_size, device=device))
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return [[found[block] for block in blocks] for blocks in watched]


def _segments_of(
    blocks: nn.Sequential, theirs: Sequence[Flow], ours: Sequence[Flow], bridge: bool, stage: int
) -> Iterator[Segment]:
    """Yields the segments of an expert's stage, each with the bridges to the student's block that it replaces."""
    for part, here in zip(segments(len(blocks), len(ours)), ours, strict=True):
        there = Flow(theirs[part][0].enters, theirs[part][-1].leaves)
        if (there.enters[1:], there.leaves[1:]) != (here.enters[1:], here.leaves[1:]):
            raise UserError(
                f"blocks of stage {stage} cannot be swapped: the teacher's make maps of {_sizes(there)}, "
                f"the student's of {_sizes(here)}"
            )
        (enter, *_), (leave, *_) = there
        (ours_in, *_), (ours_out, *_) = here
        if (enter, leave) != (ours_in, ours_out) and not bridge:
            raise UserError(
                f"blocks of stage {stage} cannot be swapped: the teacher's make {leave} channels of {enter}, the "
                f"student's {ours_out} of {ours_in}; bridge: true joins them by 1x1 convolutions"
            )
        yield Segment(blocks[part], _bridge(ours_in, enter), _bridge(leave, ours_out))


def _sizes(flow: Flow) -> str:
    (_, *enters), (_, *leaves) = flow
    return f"{'x'.join(map(str, leaves))} of {'x'.join(map(str, enters))}"


def _bridge(inputs: int, outputs: int) -> nn.Module:
    if inputs == outputs:
        return nn.Identity()
    bridge = conv1x1(inputs, outputs)
    # No nonlinearity follows, so that this initialisation keeps the variance of the input.
    nn.init.kaiming_normal_(bridge.weight, nonlinearity="linear")
    return bridge
