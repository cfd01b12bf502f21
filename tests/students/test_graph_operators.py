"""Operators of ONNX in PyTorch: each returns what ONNX Runtime returns, and gradients flow through roundings."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper

from ctkd_search.students.graph_operators import OPERATORS, quantise, rounded

DRAW = np.random.default_rng(0)


def image(*shape):
    return DRAW.normal(size=shape or (2, 4, 7, 7)).astype(np.float32)


def whole(*numbers):
    return np.array(numbers, np.int64)


UINT8, STEP = np.array(100, np.uint8), np.array(0.02, np.float32)
CHANNELS = [image(4), image(4), image(4), np.abs(image(4)) + 0.1]
# Operator, attributes, inputs, and the number of outputs.
CASES = [
    ("Add", {}, [image(), image(4, 1, 1)], 1),
    ("AveragePool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, [image()], 1),
    ("AveragePool", {"kernel_shape": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1}, [image()], 1),
    ("BatchNormalization", {"epsilon": 1e-3}, [image(), *CHANNELS], 1),
    ("Clip", {}, [image(), np.array(0, np.float32), np.array(0.5, np.float32)], 1),
    ("Concat", {"axis": 1}, [image(), image()], 1),
    ("Conv", {"strides": [2, 2], "pads": [1, 1, 1, 1]}, [image(), image(6, 4, 3, 3), image(6)], 1),
    ("Conv", {"group": 4, "pads": [0, 1, 2, 1], "dilations": [2, 2]}, [image(), image(4, 1, 3, 3)], 1),
    ("Div", {}, [image(), np.abs(image()) + 1], 1),
    ("Elu", {"alpha": 0.7}, [image()], 1),
    ("Erf", {}, [image()], 1),
    ("Flatten", {"axis": 2}, [image()], 1),
    ("Gather", {"axis": 1}, [image(), np.array(2, np.int64)], 1),
    ("Gelu", {}, [image()], 1),
    ("Gelu", {"approximate": "tanh"}, [image()], 1),
    ("Gemm", {"transB": 1, "alpha": 0.5, "beta": 2.0}, [image(3, 5), image(4, 5), image(4)], 1),
    ("Gemm", {"transA": 1}, [image(5, 3), image(5, 4)], 1),
    ("GlobalAveragePool", {}, [image()], 1),
    ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.4}, [4 * image()], 1),
    ("HardSwish", {}, [4 * image()], 1),
    ("Identity", {}, [image()], 1),
    ("LayerNormalization", {"axis": -1, "epsilon": 1e-3}, [image(2, 5, 8), image(8), image(8)], 1),
    ("LeakyRelu", {"alpha": 0.3}, [image()], 1),
    ("MatMul", {}, [image(2, 3, 5), image(5, 4)], 1),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 1, 1, 1]}, [image() - 5], 1),
    ("Mul", {}, [image(), image(2, 4, 1, 1)], 1),
    ("ReduceMean", {"keepdims": 0}, [image(), whole(2, 3)], 1),
    ("ReduceMean", {}, [image(), whole(-1)], 1),
    ("Relu", {}, [image()], 1),
    ("Reshape", {}, [image(), whole(0, 2, 2, -1)], 1),
    ("Shape", {}, [image()], 1),
    ("Sigmoid", {}, [image()], 1),
    ("Slice", {}, [image(), whole(1, 0), whole(4, 7), whole(1, 3), whole(1, 2)], 1),
    ("Softmax", {"axis": 1}, [image()], 1),
    ("Split", {"axis": 1}, [image(), whole(1, 3)], 2),
    ("Split", {"axis": 1, "num_outputs": 2}, [image()], 2),
    ("Split", {"axis": 2, "num_outputs": 3}, [image()], 3),
    ("Sqrt", {}, [np.abs(image())], 1),
    ("Squeeze", {}, [image(2, 1, 4, 1), whole(1, 3)], 1),
    ("Sub", {}, [image(), image()], 1),
    ("Tanh", {}, [image()], 1),
    ("Transpose", {"perm": [0, 2, 3, 1]}, [image()], 1),
    ("Unsqueeze", {}, [image(2, 4), whole(0, 3)], 1),
    ("QuantizeLinear", {}, [3 * image(), STEP, UINT8], 1),
    ("DequantizeLinear", {}, [DRAW.integers(0, 256, (3, 4)).astype(np.uint8), STEP, UINT8], 1),
    ("DequantizeLinear", {}, [whole(-300, 5).astype(np.int32), np.array([0.1], np.float32), np.array(0, np.int32)], 1),
]


def by_onnx_runtime(name, given, inputs, count):
    """Returns the outputs of a graph with this one node."""
    names = [f"input_{number}" for number in range(len(inputs))]
    node = helper.make_node(name, names, [f"output_{number}" for number in range(count)], **given)
    kinds = [
        helper.make_tensor_value_info(own, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for own, value in zip(names, inputs, strict=True)
    ]
    # Their types are inferred.
    made = [helper.make_empty_tensor_value_info(output) for output in node.output]
    graph = helper.make_graph([node], "one", kinds, made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    model = onnx.shape_inference.infer_shapes(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip(names, inputs, strict=True)))


@pytest.mark.parametrize(
    ("name", "given", "inputs", "count"), CASES, ids=[f"{case[0]}-{place}" for place, case in enumerate(CASES)]
)
def test_an_operator_returns_what_onnx_runtime_returns(name, given, inputs, count):
    expected = by_onnx_runtime(name, given, inputs, count)
    texts = {key: value.encode() if isinstance(value, str) else value for key, value in given.items()}
    found = OPERATORS[name](texts, *(torch.from_numpy(value) for value in inputs))
    found = [found] if isinstance(found, torch.Tensor) else found
    assert len(found) == len(expected) == count
    for one, other in zip(found, expected, strict=True):
        assert tuple(one.shape) == other.shape
        np.testing.assert_allclose(one.numpy().astype(np.float64), other.astype(np.float64), atol=2e-5, rtol=1e-4)


def test_every_operator_is_compared():
    assert {case[0] for case in CASES} == set(OPERATORS)


def test_gradients_flow_through_roundings_and_not_out_of_range():
    values = torch.tensor([-1.0, 0.26, 0.49, 3.0], requires_grad=True)
    found = quantise(values, torch.tensor(0.01), torch.tensor(20, dtype=torch.uint8))
    assert found.tolist() == [0, 46, 69, 255]
    found.sum().backward()
    assert values.grad.tolist() == pytest.approx([0, 100, 100, 0])
    assert rounded(torch.tensor([0.5, 1.5, -0.5, 2.4])).tolist() == [0, 2, 0, 2]
