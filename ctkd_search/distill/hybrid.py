"""The student with blocks of the expert swapped in: what IAKD trains (Fu et al., arXiv 2007.01476)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ctkd_search.distill.around import Around, Draws, Frozen
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.models.network import TappedNetwork, conv1x1


class Flow(NamedTuple):
    """What a block makes of what comes in.

    Attributes:
        enters: Channels, height and width of what comes in.
        leaves: Channels, height and width of what goes out.
    """

    enters: tuple[int, ...]
    leaves: tuple[int, ...]


def segments(blocks: int, parts: int) -> list[slice]:
    """Consecutive blocks, cut into as many parts as even as can be.

    Args:
        blocks: How many blocks there are, at least as many as parts.
        parts: How many parts.
    """
    ends = [part * blocks // parts for part in range(parts + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(ends)]


class Segment(nn.Module):
    """Blocks of the expert in the place of one of the student's, frozen; gradients flow through them.

    Args:
        blocks: The expert's blocks.
        enter: Stands before them, where the widths disagree; trained.
        leave: Stands behind them, where the widths disagree; trained.
    """

    def __init__(self, blocks: nn.Sequential, enter: nn.Module, leave: nn.Module) -> None:
        super().__init__()
        self.enter = enter
        self.leave = leave
        self.frozen = Frozen(blocks)

    def forward(self, features: Tensor) -> Tensor:
        """Maps what comes into the student's block to the shape of what goes out of it."""
        made: Tensor = self.leave(self.frozen.module(self.enter(features)))
        return made


class Hybrid(Around):
    """A student whose blocks give way to segments of the expert's, drawn anew at every training step.

    Each of the expert's stages is cut into as many segments as the student's stage has blocks; each stands in for
    its block with the same probability, on its own. In evaluation mode it is the student alone.

    Args:
        student: The student.
        expert: The expert, frozen.
        geometry: Classes, channels and size of the images.
        stages: The stages whose blocks are swapped, from 1.
        bridge: Whether 1x1 convolutions join blocks whose widths disagree; they are trained, and the student does
            without them.
        probability: Gives the probability of a swap, in [0, 1].
        seed: Seed of what is swapped.

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
        self.draws = Draws(seed)
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
            answer: tuple[Tensor, list[Tensor]] = self.student(images)
            return answer
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
    """The blocks of a stage, which is counted from 1.

    Raises:
        UserError: The network is not cut into blocks.
    """
    found = network.stages[stage - 1] if len(network.stages) >= stage else None
    if not isinstance(found, nn.Sequential):
        raise UserError(
            f"stage {stage} of {type(network).__name__} is not a sequence of blocks, which this method swaps; choose "
            "another pair, or another method"
        )
    return found


def flows(network: TappedNetwork, geometry: Geometry, stages: Sequence[int]) -> list[list[Flow]]:
    """What the blocks of some stages make of an image; the network is left as it was.

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
    """The segments of a stage of the expert's, each with what joins it to the student's block that it stands in for."""
    for part, here in zip(segments(len(blocks), len(ours)), ours, strict=True):
        there = Flow(theirs[part][0].enters, theirs[part][-1].leaves)
        if (there.enters[1:], there.leaves[1:]) != (here.enters[1:], here.leaves[1:]):
            raise UserError(
                f"blocks of stage {stage} cannot be swapped; the teacher's make maps of {_sizes(there)}, "
                f"the student's of {_sizes(here)}"
            )
        (enter, *_), (leave, *_) = there
        (ours_in, *_), (ours_out, *_) = here
        if (enter, leave) != (ours_in, ours_out) and not bridge:
            raise UserError(
                f"blocks of stage {stage} cannot be swapped; the teacher's make {leave} channels of {enter}, the "
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
    # Nothing bends what it gives, so that this keeps the variance of what comes in.
    nn.init.kaiming_normal_(bridge.weight, nonlinearity="linear")
    return bridge
