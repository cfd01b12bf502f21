"""Files of students: an exported graph of torch, or ONNX; each is compared with PyTorch before it is kept."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ctkd_search.errors import WorkFailed
from ctkd_search.files import atomic
from ctkd_search.students.served import Metadata, ServedStudent
from ctkd_search.text import one_line

if TYPE_CHECKING:
    from onnx import ModelProto

METADATA_FILE = "metadata.json"
INPUT, OUTPUT = "images", "probabilities"
# Batch sizes: one image, and a number that no export is specialised to.
_TRIED = (1, 7)
_TOLERANCE = 1e-4


def write_torch(served: ServedStudent, metadata: Metadata, path: Path) -> None:
    """Writes a student as a graph of torch.export (``.pt2``), for any batch size.

    It is loaded with ``torch.export.load(path).module()``, without this package. The file contains the metadata as
    ``metadata.json``, one of its extra files.

    Raises:
        WorkFailed: The file does not return the student's probabilities; it is not kept.
    """
    exported = _exported(served, metadata)
    with atomic(path) as temporary:
        # torch checks the suffix of a path.
        with open(temporary, "wb") as file, quietly():
            torch.export.save(exported, file, extra_files={METADATA_FILE: json.dumps(metadata.as_dict())})
        with open(temporary, "rb") as file, quietly():
            graph = torch.export.load(file).module()
        compare(served, metadata, lambda images: graph(torch.tensor(images)).numpy(), str(path))


def write_onnx(served: ServedStudent, metadata: Metadata, path: Path) -> None:
    """Writes a student as ONNX, for any batch size: ``images`` in, ``probabilities`` out.

    The file's properties contain the metadata; values that are not texts are written as JSON.

    Raises:
        WorkFailed: The file is not valid, or does not return the student's probabilities; it is not kept.
    """
    content = checked_onnx(onnx_model(served, metadata), metadata.as_dict(), str(path))
    compare(served, metadata, onnx_runner(onnx_session(content)), str(path))
    write_bytes(path, content)


def onnx_model(served: nn.Module, metadata: Metadata, outputs: Sequence[str] = (OUTPUT,)) -> ModelProto:
    """Returns the graph of a network that takes raw images as ONNX, for any batch size.

    Args:
        served: The network, in evaluation mode.
        metadata: Description of its images.
        outputs: Names of its outputs.
    """
    exported = _exported(served, metadata)
    with quietly():
        program = torch.onnx.export(
            exported,
            (_example(metadata),),
            dynamo=True,
            input_names=[INPUT],
            output_names=list(outputs),
            dynamic_shapes={INPUT: {0: "batch"}},
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    for node in model.graph.node:
        # The lines of the files on this machine that it came from.
        del node.metadata_props[:]
    return model


def checked_onnx(model: ModelProto, properties: Mapping[str, Any], what: str) -> bytes:
    """Returns the content of an ONNX file.

    Args:
        model: The graph.
        properties: The file's properties; values that are not texts are written as JSON.
        what: Name of the file, for the message.

    Raises:
        WorkFailed: The file would not be valid.
    """
    import onnx

    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in properties.items()}
    onnx.helper.set_model_props(model, texts)
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        raise WorkFailed(
            f"{what} would not be valid ONNX ({one_line(str(error))}); it was not written; try --format torch"
        ) from None
    content: bytes = model.SerializeToString()
    return content


def onnx_session(content: bytes | Path, threads: int = 0) -> Any:
    """Returns a session of ONNX Runtime on the processor, which prints nothing.

    Args:
        content: The content of an ONNX file, or its path.
        threads: Number of threads; 0 for one on each core.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # it would print the error that it raises
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def onnx_runner(session: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the function of a session, from raw images to probabilities."""

    def run(images: np.ndarray) -> np.ndarray:
        found: np.ndarray = session.run([OUTPUT], {INPUT: images})[0]
        return found

    return run


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces a file in one step."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def compare(served: ServedStudent, metadata: Metadata, run: Callable[[np.ndarray], np.ndarray], what: str) -> None:
    """Compares an exported graph with the student itself, on batches of one and of seven random images.

    Args:
        served: The student.
        metadata: Its description.
        run: The exported graph: raw images to probabilities.
        what: Its name, for the message.

    Raises:
        WorkFailed: A probability differs by more than 1e-4.
    """
    draw = np.random.default_rng(0)
    for count in _TRIED:
        shape = (count, metadata.image_size, metadata.image_size, metadata.channels)
        images = draw.integers(0, 256, shape, dtype=np.uint8)
        with torch.inference_mode():
            expected = served(torch.tensor(images)).numpy()
            found = run(images)
        off = float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")
        # NaN is not at most the tolerance either.
        if not off <= _TOLERANCE:
            raise WorkFailed(
                f"{what} would not return the student's probabilities (off by {off:.2g} in a batch of {count}); "
                "it was not written"
            )


def _exported(served: nn.Module, metadata: Metadata) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1)
    with quietly():
        exported = torch.export.export(served, (_example(metadata),), dynamic_shapes={INPUT: {0: batch}})
    for node in exported.graph.nodes:
        # The lines of the files on this machine that it came from.
        node.meta.pop("stack_trace", None)
    return exported


def _example(metadata: Metadata) -> torch.Tensor:
    """Two images: of one, the exporter would conclude that there is never more."""
    return torch.zeros(2, metadata.image_size, metadata.image_size, metadata.channels, dtype=torch.uint8)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keeps the exporters' remarks to themselves; what goes wrong is raised."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
