"""Measurements of students in int8 for searches: accuracy of a trained one, latency and size of an architecture."""

from __future__ import annotations

import numpy as np

from ctkd_search.data import Splits
from ctkd_search.data.images import Images
from ctkd_search.geometry import Geometry
from ctkd_search.models import build
from ctkd_search.models.network import TappedNetwork
from ctkd_search.students.formats import checked_onnx, onnx_model, onnx_runner, onnx_session
from ctkd_search.students.precisions import accuracy_of, latencies_ms
from ctkd_search.students.quantisation import calibration_images, prepared, quantised
from ctkd_search.students.served import Metadata, ServedStudent

_RANDOM_IMAGES = 32
_WHAT = "the int8 student"


def int8_accuracy(student: TappedNetwork, splits: Splits, threads: int) -> float:
    """Returns the accuracy of a student in int8 on the validation images, in [0, 1], with ONNX Runtime.

    Args:
        student: The trained student, on the CPU.
        splits: The images; it is calibrated on training images.
        threads: Number of threads.

    Raises:
        WorkFailed: It cannot be quantised.
    """
    served = ServedStudent(student, splits.mean, splits.std)
    content = _content(served, splits.classes, splits.geometry, calibration_images(splits.train))
    return accuracy_of(onnx_runner(onnx_session(content, threads)), splits.validation)


def int8_costs(architecture: str, geometry: Geometry, threads: int) -> dict[str, float]:
    """Returns the costs of an architecture's int8 file, which its weights do not change.

    Args:
        architecture: The architecture.
        geometry: Classes, channels and size of the images.
        threads: Number of threads of ONNX Runtime.

    Returns:
        ``int8_latency_ms``, the median time for one image in milliseconds, and ``onnx_bytes``, the size of the file.

    Raises:
        WorkFailed: It cannot be quantised.
    """
    student = build(architecture, geometry, seed=0, published=False)
    served = ServedStudent(student, [127.5] * geometry.channels, [64.0] * geometry.channels)
    shape = (_RANDOM_IMAGES, geometry.image_size, geometry.image_size, geometry.channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    classes = tuple(map(str, range(geometry.classes)))
    content = _content(served, classes, geometry, Images(pixels, np.zeros(_RANDOM_IMAGES, dtype=np.int64)))
    (latency,) = latencies_ms([onnx_runner(onnx_session(content, threads))], pixels[:1])
    return {"int8_latency_ms": latency, "onnx_bytes": len(content)}


def _content(served: ServedStudent, classes: tuple[str, ...], geometry: Geometry, images: Images) -> bytes:
    """Returns the content of a student's int8 file."""
    metadata = Metadata(classes, geometry.image_size, geometry.channels, "")
    model = quantised(prepared(onnx_model(served, metadata)), images)
    return checked_onnx(model, {}, _WHAT)
