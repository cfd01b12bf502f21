"""Operators of ONNX graphs in PyTorch, through which gradients flow; see https://onnx.ai/onnx/operators for each."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Attributes = Mapping[str, Any]
Operator = Callable[..., Any]


class _Rounded(torch.autograd.Function):
    """Rounding to the nearest whole number, ties to even, whose gradient is that of the identity."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.round()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def rounded(values: Tensor) -> Tensor:
    """Returns values rounded to whole numbers, with the gradient of the identity (straight-through)."""
    found: Tensor = _Rounded.apply(values)
    return found


def quantise(values: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """Returns activations as whole numbers of 8 bits, in float32; no gradient flows to what is out of range.

    Args:
        values: The activations.
        scale: Width of a step, a scalar.
        zero_point: Whole number that stands for 0, a scalar of the type that the numbers would have.
    """
    limits = torch.iinfo(zero_point.dtype)
    return (rounded(values / scale) + zero_point).clamp(limits.min, limits.max)


def dequantise(values: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """Returns the numbers that whole numbers stand for; see `quantise`."""
    # Whole numbers of 8 bits would overflow.
    return (values.to(scale.dtype) - zero_point.to(scale.dtype)) * scale


def _conv(given: Attributes, images: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    spatial = weight.ndim - 2
    images, padding = _padded(images, given, spatial)
    strides = list(given.get("strides", [1] * spatial))
    if weight.shape[2:].numel() == 1 and not any(padding):
        # The same picked first: of few channels the gradient is not safe otherwise, see `distill.engine.NarrowConv2d`.
        picked = tuple(slice(None, None, step) for step in strides)
        images = images[(slice(None), slice(None), *picked)]
        strides = [1] * spatial
    found: Tensor = torch.convolution(
        images,
        weight,
        bias,
        strides,
        padding,
        given.get("dilations", [1] * spatial),
        False,
        [0] * spatial,
        given.get("group", 1),
    )
    return found


def _padded(images: Tensor, given: Attributes, spatial: int, value: float = 0.0) -> tuple[Tensor, list[int]]:
    """Returns images and the symmetric padding that is left to the operator; asymmetric padding is applied here."""
    pads = list(given.get("pads", [0] * 2 * spatial))
    begins, ends = pads[:spatial], pads[spatial:]
    if begins == ends:
        return images, begins
    both = [side for pair in zip(reversed(begins), reversed(ends), strict=True) for side in pair]
    return F.pad(images, both, value=value), [0] * spatial


def _gemm(given: Attributes, left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    left = left.T if given.get("transA") else left
    right = right.T if given.get("transB") else right
    found = given.get("alpha", 1.0) * (left @ right)
    return found if bias is None else found + given.get("beta", 1.0) * bias


def _batch_norm(given: Attributes, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    return F.batch_norm(x, mean, var, scale, bias, training=False, eps=given.get("epsilon", 1e-5))


def _layer_norm(given: Attributes, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    shape = x.shape[given.get("axis", -1) :]
    return F.layer_norm(x, shape, scale, bias, given.get("epsilon", 1e-5))


def _max_pool(given: Attributes, images: Tensor) -> Tensor:
    spatial = len(given["kernel_shape"])
    images, padding = _padded(images, given, spatial, -torch.inf)
    strides, dilations = (given.get(name, [1] * spatial) for name in ("strides", "dilations"))
    return F.max_pool2d(
        images, given["kernel_shape"], strides, padding, dilations, ceil_mode=bool(given.get("ceil_mode"))
    )


def _average_pool(given: Attributes, images: Tensor) -> Tensor:
    spatial = len(given["kernel_shape"])
    counted = bool(given.get("count_include_pad"))
    images, padding = _padded(images, given, spatial)
    return F.avg_pool2d(
        images,
        given["kernel_shape"],
        given.get("strides", [1] * spatial),
        padding,
        ceil_mode=bool(given.get("ceil_mode")),
        count_include_pad=counted,
    )


def _mean(given: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    places = axes.tolist() if axes is not None else given.get("axes", list(range(x.ndim)))
    return x.mean(dim=places, keepdim=bool(given.get("keepdims", 1)))


def _split(given: Attributes, x: Tensor, sizes: Tensor | None = None) -> Sequence[Tensor]:
    axis = given.get("axis", 0)
    if sizes is not None:
        return x.split(sizes.tolist(), axis)
    return x.split(math.ceil(x.shape[axis] / given["num_outputs"]), axis)


def _reshape(given: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    wanted = [x.shape[place] if size == 0 else size for place, size in enumerate(shape.tolist())]
    return x.reshape(wanted)


def _clip(given: Attributes, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    return x.clamp(low, high) if low is not None or high is not None else x


def _slice(
    given: Attributes, x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
) -> Tensor:
    places = axes.tolist() if axes is not None else list(range(len(starts)))
    strides = steps.tolist() if steps is not None else [1] * len(places)
    index: list[slice] = [slice(None)] * x.ndim
    for place, start, end, stride in zip(places, starts.tolist(), ends.tolist(), strides, strict=True):
        index[place] = slice(start, end, stride)
    return x[tuple(index)]


def _unsqueeze(given: Attributes, x: Tensor, axes: Tensor) -> Tensor:
    for axis in sorted(axes.tolist()):
        x = x.unsqueeze(axis)
    return x


def _squeeze(given: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(axes.tolist()))


def _flatten(given: Attributes, x: Tensor) -> Tensor:
    return x.reshape(math.prod(x.shape[: given.get("axis", 1)]), -1)


def _hard_sigmoid(given: Attributes, x: Tensor) -> Tensor:
    return (given.get("alpha", 0.2) * x + given.get("beta", 0.5)).clamp(0, 1)


def _gelu(given: Attributes, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=given.get("approximate", b"none").decode())


def _plain(function: Operator) -> Operator:
    """Returns an operator without attributes."""
    return lambda given, *inputs: function(*inputs)


OPERATORS: dict[str, Operator] = {
    "Add": _plain(operator.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": lambda given, *parts: torch.cat(parts, given["axis"]),
    "Conv": _conv,
    "DequantizeLinear": _plain(dequantise),
    "Div": _plain(operator.truediv),
    "Elu": lambda given, x: F.elu(x, given.get("alpha", 1.0)),
    "Erf": _plain(torch.erf),
    "Flatten": _flatten,
    "Gather": lambda given, x, index: x.select(given.get("axis", 0), int(index)),
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": _plain(functools.partial(torch.mean, dim=(2, 3), keepdim=True)),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _plain(F.hardswish),
    "Identity": _plain(lambda x: x),
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda given, x: F.leaky_relu(x, given.get("alpha", 0.01)),
    "MatMul": _plain(operator.matmul),
    "MaxPool": _max_pool,
    "Mul": _plain(operator.mul),
    "QuantizeLinear": _plain(quantise),
    "ReduceMean": _mean,
    "Relu": _plain(F.relu),
    "Reshape": _reshape,
    "Shape": _plain(lambda x: torch.tensor(x.shape)),
    "Sigmoid": _plain(torch.sigmoid),
    "Slice": _slice,
    "Softmax": lambda given, x: x.softmax(given.get("axis", -1)),
    "Split": _split,
    "Sqrt": _plain(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _plain(operator.sub),
    "Tanh": _plain(torch.tanh),
    "Transpose": lambda given, x: x.permute(given["perm"]),
    "Unsqueeze": _unsqueeze,
}
