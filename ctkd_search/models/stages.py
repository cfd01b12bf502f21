"""Finding the stages of a network that was made elsewhere, by watching one image go through it.

A stage ends where the feature map is about to become smaller: its map is the output of the last module before that.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

# A module whose output is smaller than its input by more than this holds several stages.
_ONE_REDUCTION = 2.5
# Tokens that stand before those of the image: a class token, a distillation token, a few registers.
_MOST_PREFIX_TOKENS = 8
_QUARTERS = 4


class Layout(NamedTuple):
    """How a module's output is a feature map.

    Attributes:
        kind: ``nchw``, ``nhwc`` or ``tokens``, shape (batch, prefix + height · width, channels).
        prefix: Tokens that are no part of the map.
    """

    kind: str
    prefix: int = 0

    def as_map(self, output: Tensor) -> Tensor:
        """The feature map, shape (batch, channels, height, width)."""
        if self.kind == "nhwc":
            return output.permute(0, 3, 1, 2)
        if self.kind == "tokens":
            batch, count, channels = output.shape
            side = math.isqrt(count - self.prefix)
            return output[:, self.prefix :].transpose(1, 2).reshape(batch, channels, side, side)
        return output


class Call(NamedTuple):
    """A module at work.

    Attributes:
        name: The module.
        before: Shape of what came in, or None if that is no tensor.
        after: Shape of what went out, likewise.
    """

    name: str
    before: tuple[int, ...] | None
    after: tuple[int, ...] | None


class Tapped(NamedTuple):
    """A module whose output is a feature map.

    Attributes:
        name: The module.
        layout: How its output is a map.
    """

    name: str
    layout: Layout


def watched(network: nn.Module, images: Tensor) -> tuple[list[Call], Any]:
    """Sends images through a network in evaluation mode.

    Returns:
        Its modules in the order in which they were done (of one that is used several times, the last time), and what
        the network returned.
    """
    calls: dict[str, Call] = {}

    def note(name: str, arguments: tuple[Any, ...], output: Any) -> None:
        calls.pop(name, None)
        calls[name] = Call(name, _shape(arguments[0] if arguments else None), _shape(output))

    with contextlib.ExitStack() as hooks:
        for name, module in network.named_modules():
            hook = module.register_forward_hook(lambda _, arguments, output, name=name: note(name, arguments, output))
            hooks.callback(hook.remove)
        was_training = network.training
        network.eval()
        hooks.callback(network.train, was_training)
        with torch.no_grad():
            output = network(images)
    return list(calls.values()), output


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


def layout_of(shape: tuple[int, ...] | None) -> Layout | None:
    """How an output of this shape is a feature map of a square image; None if it is none."""
    if shape is None or len(shape) not in (3, 4):
        return None
    if len(shape) == 4:
        _, first, second, third = shape
        return Layout("nchw") if second == third else Layout("nhwc") if first == second else None
    count = shape[1]
    for prefix in range(min(_MOST_PREFIX_TOKENS, count - 1) + 1):
        if math.isqrt(count - prefix) ** 2 == count - prefix:
            return Layout("tokens", prefix)
    return None


def side_of(shape: tuple[int, ...] | None) -> int | None:
    """Side of the feature map that an output of this shape is; None if it is none."""
    layout = layout_of(shape)
    if shape is None or layout is None:
        return None
    if layout.kind == "tokens":
        return math.isqrt(shape[1] - layout.prefix)
    return shape[2] if layout.kind == "nchw" else shape[1]


def find_stages(network: nn.Module, calls: Sequence[Call], classes: int | None = None) -> list[Tapped]:
    """The modules whose outputs are the maps of a network's stages, first stage first.

    A stem (what comes before the first block, or before a pooling that stands before it) is no stage. Where the map
    never changes its size, as in a vision transformer, the ends of the quarters of its blocks stand for stages.

    Args:
        network: The network.
        calls: Its modules at work.
        classes: Channels by which the output of the classifier is known, if no stage has as many.
    """
    tree = _Tree(network, calls)
    by_side: dict[int, list[Call]] = {}
    for call in tree.parts(""):
        if classes is not None and call.after is not None and classes in call.after[1:]:
            break
        by_side.setdefault(side_of(call.after) or 0, []).append(call)
    groups = [by_side[side] for side in sorted(by_side, reverse=True)]
    is_stage = [any(tree.is_block(call.name) for call in group) for group in groups]
    pooled = len(groups) > 1 and not tree.weights(groups[1][0].name)
    if any(is_stage[1:]) and (pooled or not is_stage[0]):
        groups = groups[1:]
    # Where nothing is learned, as between two poolings, is no stage.
    last = [group[-1] for group in groups if any(tree.weights(call.name) for call in group)]
    chosen = last if len(last) > 1 else tree.quarters() or last
    return [Tapped(call.name, layout) for call in chosen if (layout := layout_of(call.after))]


class _Tree:
    """The modules of a network that were at work, each below the nearest one that holds it."""

    def __init__(self, network: nn.Module, calls: Sequence[Call]) -> None:
        self.network = network
        self.calls = {call.name: call for call in calls}
        self.below: dict[str, list[Call]] = {}
        for call in calls:
            if call.name:
                self.below.setdefault(self._holder(call.name), []).append(call)

    def _holder(self, name: str) -> str:
        while name:
            name = name.rpartition(".")[0]
            if name in self.calls:
                return name
        return ""

    def weights(self, name: str) -> int:
        """How many layers of weights (convolutions, linear layers) a module holds."""
        module = self.network.get_submodule(name)
        return sum(
            isinstance(weight := getattr(part, "weight", None), nn.Parameter) and weight.dim() > 1
            for part in module.modules()
        )

    def is_block(self, name: str) -> bool:
        """Whether a module is a block of a stage, or several, rather than part of the stem."""
        return self.weights(name) > 1 and "stem" not in name

    def parts(self, name: str) -> Iterator[Call]:
        """The parts of a module that hold at most one reduction each, in order, up to the pooling of the whole map."""
        for call in self.below.get(name, ()):
            before, after = side_of(call.before), side_of(call.after)
            if before and after == 1 < before and not self.weights(call.name):
                return  # the global pooling
            several = after is None or (before is not None and before > _ONE_REDUCTION * after)
            if several and call.name in self.below:
                yield from self.parts(call.name)
            elif after is not None:
                yield call

    def quarters(self) -> list[Call]:
        """The ends of the quarters of the longest row of blocks whose maps have one shape."""
        rows = [
            [call for call in row if self.weights(call.name) > 1 and layout_of(call.after)]
            for row in self.below.values()
        ]
        rows = [row for row in rows if len(row) >= _QUARTERS and len({call.after for call in row}) == 1]
        longest = max(rows, key=len, default=[])
        return [longest[len(longest) * part // _QUARTERS - 1] for part in range(1, _QUARTERS + 1)] if longest else []
