"""Static int8 quantisation of a student's ONNX graph, with ONNX Runtime's own tools."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ctkd_search.data.images import Images, Pictures
from ctkd_search.errors import WorkFailed
from ctkd_search.models.graph import quietly
from ctkd_search.students.formats import INPUT
from ctkd_search.text import first_line

if TYPE_CHECKING:
    from onnx import ModelProto

# Number of training images that the ranges of activations are measured on, and number of them at a time.
CALIBRATION_IMAGES = 512
_BATCH = 32
# Their results are few, and read as numbers: probabilities of 8 bits would be multiples of 1/255.
_FLOAT_OUTPUTS = ["Gemm", "MatMul"]
_FLOAT = "Softmax"


def calibration_images(train: Pictures) -> Images:
    """Returns the training images that a student is calibrated on, as it sees them in evaluation.

    They are drawn by a fixed seed, so that every student of a data set is calibrated on the same images.

    Args:
        train: The training images.
    """
    chosen = np.random.default_rng(0).permutation(len(train))[:CALIBRATION_IMAGES]
    return train[np.sort(chosen)].held()


def prepared(model: ModelProto) -> ModelProto:
    """Returns an ONNX graph as ONNX Runtime's tools prepare it: normalisations folded into convolutions, shapes known.

    Raises:
        WorkFailed: The tools fail on this graph.
    """
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with _tools(), tempfile.TemporaryDirectory() as directory:
        given, made = Path(directory) / "given.onnx", Path(directory) / "prepared.onnx"
        given.write_bytes(model.SerializeToString())
        quant_pre_process(given, made, skip_symbolic_shape=True)
        return onnx.load(made)


def quantised(model: ModelProto, images: Images) -> ModelProto:
    """Returns a prepared ONNX graph with int8 weights, one scale for each channel, and activations of 8 bits.

    Pairs of QuantizeLinear and DequantizeLinear (QDQ) mark what is quantised. Activations are unsigned, which the
    kernels of processors are made for; the ranges are the least and the greatest values for the images. The logits stay
    in float32, and so do softmaxes.

    Args:
        model: The graph, from `prepared`.
        images: The images for the ranges.

    Raises:
        WorkFailed: The tools fail on this graph.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        """The images as ONNX Runtime's calibration reads them."""

        def __init__(self) -> None:
            self._batches = _batches(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            """Returns the next batch; None after the last."""
            return next(self._batches, None)

    with _tools(), tempfile.TemporaryDirectory() as directory:
        given, made = Path(directory) / "given.onnx", Path(directory) / "int8.onnx"
        given.write_bytes(model.SerializeToString())
        quantize_static(
            given,
            made,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[node.name for node in model.graph.node if node.op_type == _FLOAT],
            extra_options={"OpTypesToExcludeOutputQuantization": _FLOAT_OUTPUTS},
        )
        return onnx.load(made)


def _batches(images: Images) -> Iterator[dict[str, np.ndarray]]:
    for start in range(0, len(images), _BATCH):
        yield {INPUT: images.pixels[start : start + _BATCH]}


@contextlib.contextmanager
def _tools() -> Iterator[None]:
    """Keeps the tools' remarks to themselves; what they raise becomes a failure of the work."""
    try:
        with quietly():
            yield
    except Exception as error:  # whatever they raise for a graph that they cannot quantise
        raise WorkFailed(f"ONNX Runtime cannot quantise this student ({first_line(error)})") from None
