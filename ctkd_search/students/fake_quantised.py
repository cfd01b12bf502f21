"""A quantised ONNX graph as a network of PyTorch that can be trained: every rounding of the file is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ctkd_search.errors import UserError
from ctkd_search.models.network import TappedNetwork
from ctkd_search.students.graph_operators import OPERATORS, rounded

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

# Layers whose weights and biases are trained.
_TRAINED = ("Conv", "Gemm", "MatMul")
_LARGEST = 127


class Parts(NamedTuple):
    """Names of tensors of a student's graph.

    Attributes:
        images: The normalised images.
        logits: The logits.
        maps: The feature maps, first stage first.
        embedding: The pooled features; None if the student has none.
    """

    images: str
    logits: str
    maps: tuple[str, ...]
    embedding: str | None


class _Weight(NamedTuple):
    """A trained parameter of a graph.

    Attributes:
        stored: Name of the stored whole numbers.
        scale: Name of their scales.
        axis: The axis of the scales; None for one scale.
        inputs: Name of the scale of the layer's inputs, and of the scales of its weights, of which a bias has the
            product; None for weights.
    """

    stored: str
    scale: str
    axis: int | None
    inputs: tuple[str, str] | None


class FakeQuantised(TappedNetwork):
    """A quantised graph whose weights are trained in float32 and rounded in every forward pass.

    Activations have the scales of the graph, and weights those that follow from their largest value, as in the file
    that `trained_model` returns: its answers are those of this network, but for ties of roundings. Normalisations are
    folded into the weights, or constant.

    Args:
        model: The quantised graph.
        prepared: The graph before it was quantised, with the weights in float32.
        parts: Names of its tensors.
        student: The student that it was made from.

    Raises:
        UserError: The graph has operators that cannot be trained here, or lacks one of the tensors.
    """

    _student: TappedNetwork

    def __init__(self, model: ModelProto, prepared: ModelProto, parts: Parts, student: TappedNetwork) -> None:
        from onnx import numpy_helper

        super().__init__()
        self._model, self._parts = model, parts
        # Outside of the registry of modules: it is neither trained nor kept.
        self.__dict__["_student"] = student
        if isinstance(classifier := getattr(student, "classifier", None), nn.Linear):
            self.__dict__["classifier"] = classifier
        self._nodes = _needed(model, parts)
        stored = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
        before = {item.name: numpy_helper.to_array(item) for item in prepared.graph.initializer}
        self._weights = _weights_of(model, stored)
        self._trained = nn.ParameterList(nn.Parameter(_tensor(before[name])) for name in self._weights)
        # Axes and shapes stay on the CPU, where operators read them without waiting for the device.
        self._shapes = {name: _tensor(values) for name, values in stored.items() if values.dtype == np.int64}
        self._constants = {name: f"constant_{number}" for number, name in enumerate(stored) if name not in self._shapes}
        for name, buffer in self._constants.items():
            self.register_buffer(buffer, _tensor(stored[name]), persistent=False)

    def __getattr__(self, name: str) -> Any:
        """Raises a `UserError` where a method reads a part that the student has, and its graph has not."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if hasattr(self.__dict__.get("_student"), name):
                raise UserError(f"the graph of an int8 student has no {name!r}, which the method reads") from None
            raise

    @property
    def layers(self) -> tuple[int, ...]:
        """Returns the numbers of its feature maps, from 1."""
        return tuple(range(1, len(self._parts.maps) + 1))

    @property
    def stages(self) -> nn.ModuleList:  # type: ignore[override]
        """Raises a `UserError`: a graph has no blocks that a method could replace."""
        raise UserError("the graph of an int8 student has no blocks that could be replaced by a teacher's")

    def embed(self, features: Tensor) -> Tensor:
        """Returns the pooled features of the last map, as the student that it was made from pools them."""
        return self._student.embed(features)

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Classifies a batch as the file does; see `TappedNetwork`."""
        values = self._run(images)
        return self._of(values, self._parts.logits), [self._of(values, name) for name in self._parts.maps]

    def with_embedding(self, images: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Classifies a batch, and returns the embedding too; see `TappedNetwork`."""
        if self._parts.embedding is None:
            raise TypeError("the network has no embedding")
        values = self._run(images)
        maps = [self._of(values, name) for name in self._parts.maps]
        return self._of(values, self._parts.logits), maps, self._of(values, self._parts.embedding)

    def trained_model(self) -> ModelProto:
        """Returns the quantised graph with the trained weights."""
        import onnx
        from onnx import numpy_helper

        model = onnx.ModelProto.FromString(self._model.SerializeToString())
        found: dict[str, np.ndarray] = {}
        limits = torch.iinfo(torch.int32)
        for name, (values, scale) in self._scaled().items():
            numbers = (values.detach() / scale).round().clamp(limits.min, limits.max)
            weight = self._weights[name]
            found[weight.stored], found[weight.scale] = numbers.cpu().numpy(), scale.cpu().numpy()
        for item in model.graph.initializer:
            if item.name in found:
                kept = numpy_helper.to_array(item)
                made = found[item.name].reshape(kept.shape).astype(kept.dtype)
                item.CopyFrom(numpy_helper.from_array(made, item.name))
        return model

    def _run(self, images: Tensor) -> dict[str, Tensor]:
        values: dict[str, Any] = {name: getattr(self, buffer) for name, buffer in self._constants.items()}
        values.update(self._shapes)
        values[self._parts.images] = images
        for name, (trained, scale) in self._scaled().items():
            values[name] = values[_dequantised(name)] = rounded(trained / scale) * scale
        for step in self._nodes:
            if step.outputs[0] in values:
                continue  # a trained weight
            inputs = [values[name] if name else None for name in step.inputs]
            made = step.run(step.given, *inputs)
            values.update(zip(step.outputs, [made] if isinstance(made, Tensor) else made, strict=True))
        return values

    def _of(self, values: dict[str, Tensor], name: str) -> Tensor:
        """Returns a tensor as the next layers read it: rounded, if it is quantised."""
        return values.get(_dequantised(name), values[name])

    def _scaled(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Returns every trained parameter with its scales, by its name before the graph was quantised."""
        scales: dict[str, Tensor] = {}
        found = {}
        for (name, weight), trained in zip(self._weights.items(), self._trained, strict=True):
            if weight.inputs is None:
                scales[weight.scale] = scale = _scale(trained.detach(), weight.axis)
            else:
                # Sums of products of inputs and weights have the product of their scales.
                of_images, weights = weight.inputs
                scale = getattr(self, self._constants[of_images]) * scales[weights].flatten()
            found[name] = trained, scale
        return found


def _scale(values: Tensor, axis: int | None) -> Tensor:
    """Returns the scales of weights: the largest of a channel is the largest whole number."""
    axes = [other for other in range(values.ndim) if other != axis]
    largest = values.abs().amax(dim=axes, keepdim=True) / _LARGEST
    return torch.where(largest > 0, largest, torch.ones_like(largest))


class _Step(NamedTuple):
    """A node of a graph: its operator, attributes, and the names of its inputs and outputs."""

    run: Any
    given: dict[str, Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def _needed(model: ModelProto, parts: Parts) -> list[_Step]:
    """Returns the nodes between the normalised images and the outputs, in an order in which they can be computed.

    Raises:
        UserError: There are operators that cannot be trained here, or a tensor is missing.
    """
    made = {name for node in model.graph.node for name in node.output}
    wanted = {name for name in (parts.images, parts.logits, *parts.maps, parts.embedding) if name}
    if missing := sorted(wanted - made):
        raise UserError(
            f"the int8 graph lacks {', '.join(missing)}, so that it cannot be tuned; leave --tune-epochs out"
        )
    needed = {end for name in wanted - {parts.images} for end in (name, _dequantised(name))}
    nodes: list[NodeProto] = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output) and parts.images not in node.output:
            nodes.append(node)
            needed.update(node.input)
    unknown = sorted({node.op_type for node in nodes} - set(OPERATORS))
    if unknown:
        raise UserError(
            f"the int8 graph has operators that cannot be tuned: {', '.join(unknown)}; leave --tune-epochs out"
        )
    return [_step(node) for node in reversed(nodes)]


def _step(node: NodeProto) -> _Step:
    from onnx import helper

    given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    inputs, outputs = tuple(node.input), tuple(node.output)
    if node.op_type == "DequantizeLinear":
        given = {}  # the axis, of weights, which are constants here
    return _Step(OPERATORS[node.op_type], given, inputs, outputs)


def _weights_of(model: ModelProto, stored: dict[str, np.ndarray]) -> dict[str, _Weight]:
    """Returns the parameters that are trained, by their names in the graph before it was quantised."""
    from onnx import helper

    makers = {name: node for node in model.graph.node for name in node.output}
    found: dict[str, _Weight] = {}
    for layer in model.graph.node:
        if layer.op_type not in _TRAINED:
            continue
        sources = [makers.get(name) for name in layer.input]
        kept = [_is_stored(node, stored) for node in sources]
        if not kept[1]:
            continue
        weights, images = sources[1], sources[0]
        assert weights is not None
        axis = {item.name: helper.get_attribute_value(item) for item in weights.attribute}.get("axis")
        scalar = stored[weights.input[1]].size == 1
        found[_plain_name(weights)] = _Weight(weights.input[0], weights.input[1], None if scalar else axis, None)
        if len(sources) > 2 and kept[2] and images is not None and images.op_type == "DequantizeLinear":
            bias = sources[2]
            assert bias is not None
            scales = images.input[1], weights.input[1]
            found[_plain_name(bias)] = _Weight(bias.input[0], bias.input[1], 0, scales)
    return found


def _is_stored(node: NodeProto | None, stored: dict[str, np.ndarray]) -> bool:
    """Returns whether a node returns a stored parameter in float32."""
    return node is not None and node.op_type == "DequantizeLinear" and node.input[0] in stored


def _plain_name(node: NodeProto) -> str:
    name: str = node.input[0]
    return name.removesuffix("_quantized")


def _dequantised(name: str) -> str:
    """Returns the name that ONNX Runtime's tools give to a tensor after its rounding."""
    return f"{name}_DequantizeLinear_Output"


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(values))
