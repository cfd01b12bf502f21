"""Finding the stages of a foreign network by observing its modules during a forward pass.

A stage ends where the feature map is about to become smaller: its map is the output of the last module before that.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

# A module whose output is smaller than its input by more than this factor contains several stages.
_ONE_REDUCTION = 2.5
# Tokens before those of the image: a class token, a distillation token, a few registers.
_MOST_PREFIX_TOKENS = 8
_QUARTERS = 4


class Layout(NamedTuple):
    """The layout of a feature map in a module's output.

    Attributes:
        kind: ``nchw``, ``nhwc`` or ``tokens``, shape (batch, prefix + height · width, channels).
        prefix: Number of tokens that are not part of the map.
    """

    kind: str
    prefix: int = 0

    def as_map(self, output: Tensor) -> Tensor:
        """Returns the feature map, shape (batch, channels, height, width)."""
        if self.kind == "nhwc":
            return output.permute(0, 3, 1, 2)
        if self.kind == "tokens":
            batch, count, channels = output.shape
            side = math.isqrt(count - self.prefix)
            return output[:, self.prefix :].transpose(1, 2).reshape(batch, channels, side, side)
        return output


class Call(NamedTuple):
    """A call of a module during a forward pass.

    Attributes:
        name: The module.
        before: Shape of its input, or None if that is not a tensor.
        after: Shape of its output, or None if that is not a tensor.
    """

    name: str
    before: tuple[int, ...] | None
    after: tuple[int, ...] | None


class Tapped(NamedTuple):
    """A module whose output is a feature map.

    Attributes:
        name: The module.
        layout: Layout of the map in its output.
    """

    name: str
    layout: Layout


def watched(network: nn.Module, images: Tensor) -> tuple[list[Call], Any]:
    """Runs a network on images in evaluation mode, and observes its modules.

    Returns:
        The calls of its modules in the order in which they ended (only the last one of a module that is called several
        times), and the network's output.
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
    """Returns the layout of a feature map of a square image in an output of this shape; None if it is not one."""
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
    """Returns the side of the feature map in an output of this shape; None if it is not one."""
    layout = layout_of(shape)
    if shape is None or layout is None:
        return None
    if layout.kind == "tokens":
        return math.isqrt(shape[1] - layout.prefix)
    return shape[2] if layout.kind == "nchw" else shape[1]


def find_stages(network: nn.Module, calls: Sequence[Call], classes: int | None = None) -> list[Tapped]:
    """Returns the modules whose outputs are the maps of a network's stages, first stage first.

    A stem (the modules before the first block, or before a pooling in front of it) is not a stage. If the map never
    changes its size, as in a vision transformer, the ends of the quarters of its blocks are used as stages.

    Args:
        network: The network.
        calls: Calls of its modules.
        classes: Channels by which the classifier's output is recognised, if no stage has as many.
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
    # Modules without weights, as between two poolings, are not a stage.
    last = [group[-1] for group in groups if any(tree.weights(call.name) for call in group)]
    chosen = last if len(last) > 1 else tree.quarters() or last
    return [Tapped(call.name, layout) for call in chosen if (layout := layout_of(call.after))]


def find_output_layer(network: nn.Module, calls: Sequence[Call], classes: int) -> str | None:
    """Returns the linear layer that makes the logits of one vector for each image.

    Args:
        network: The network.
        calls: Calls of its modules.
        classes: Number of logits.

    Returns:
        Its name; None if there is none, or several of which the logits may be made.
    """
    found = [
        call.name
        for call in calls
        if isinstance(network.get_submodule(call.name), nn.Linear)
        and call.before is not None
        and len(call.before) == 2
        and call.after == (call.before[0], classes)
    ]
    return found[0] if len(found) == 1 else None


class _Tree:
    """A tree of the modules of a network that were called, each below the nearest one that contains it."""

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
        """Returns the number of layers with weights (convolutions, linear layers) in a module."""
        module = self.network.get_submodule(name)
        return sum(
            isinstance(weight := getattr(part, "weight", None), nn.Parameter) and weight.dim() > 1
            for part in module.modules()
        )

    def is_block(self, name: str) -> bool:
        """Returns whether a module is a block of a stage, or several, and not part of the stem."""
        return self.weights(name) > 1 and "stem" not in name

    def parts(self, name: str) -> Iterator[Call]:
        """Yields the parts of a module with at most one reduction each, in order, up to the global pooling."""
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
        """Returns the ends of the quarters of the longest row of blocks whose maps have one shape."""
        rows = [
            [call for call in row if self.weights(call.name) > 1 and layout_of(call.after)]
            for row in self.below.values()
        ]
        rows = [row for row in rows if len(row) >= _QUARTERS and len({call.after for call in row}) == 1]
        longest = max(rows, key=len, default=[])
        return [longest[len(longest) * part // _QUARTERS - 1] for part in range(1, _QUARTERS + 1)] if longest else []
