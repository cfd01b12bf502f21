"""Files of students: an exported graph of torch, or ONNX; each is compared with PyTorch before it is kept."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ctkd_search.errors import WorkFailed
from ctkd_search.files import atomic
from ctkd_search.models.graph import graph_of, quietly
from ctkd_search.students.served import Metadata, ServedStudent
from ctkd_search.text import first_line, one_line

if TYPE_CHECKING:
    from onnx import ModelProto

METADATA_FILE = "metadata.json"
INPUT, OUTPUT = "images", "probabilities"
# Batch sizes: one image, and a number that no export is specialised to.
_TRIED = (1, 7)
Runner = Callable[[np.ndarray], np.ndarray]
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Format:
    """A format of students' files.

    Attributes:
        runtime: Name of what runs a file here.
        graph: Returns the graph of a network that takes raw images, for any batch size.
        content: Returns the content of the file of a graph with some properties; its last argument names the file in
            messages.
        runner: Returns the function of a content, from raw images to probabilities, on a number of threads (0 for the
            runtime's own choice).
    """

    runtime: str
    graph: Callable[[nn.Module, Metadata], Any]
    content: Callable[[Any, Mapping[str, Any], str], bytes]
    runner: Callable[[bytes, int], Runner]


def write_student(served: ServedStudent, metadata: Metadata, path: Path, form: Format) -> None:
    """Writes a student to a file that contains the metadata.

    Raises:
        NoGraph: The student cannot be exported as a graph.
        WorkFailed: The file is not valid, or does not return the student's probabilities; it is not kept.
    """
    content = form.content(form.graph(served, metadata), metadata.as_dict(), str(path))
    compare(served, metadata, form.runner(content, 0), str(path))
    write_bytes(path, content)


def torch_graph(served: nn.Module, metadata: Metadata) -> torch.export.ExportedProgram:
    """Returns the graph of a network that takes raw images, as torch.export makes it, for any batch size.

    Raises:
        NoGraph: torch.export cannot trace it.
    """
    exported = graph_of(served, metadata.architecture, _example(metadata))
    for node in exported.graph.nodes:
        # The lines of the files on this machine that it came from.
        node.meta.pop("stack_trace", None)
    return exported


def torch_content(exported: torch.export.ExportedProgram, properties: Mapping[str, Any], what: str) -> bytes:
    """Returns the content of a file of torch.export, with its properties as ``metadata.json``, an extra file of it."""
    del what
    file = io.BytesIO()
    with quietly():
        torch.export.save(exported, file, extra_files={METADATA_FILE: json.dumps(dict(properties))})
    return file.getvalue()


def torch_runner(content: bytes, threads: int = 0) -> Runner:
    """Returns the function of a file of torch.export; see `graph_runner`."""
    with quietly():
        return graph_runner(torch.export.load(io.BytesIO(content)).module(), threads)


def graph_runner(graph: nn.Module, threads: int = 0) -> Runner:
    """Returns the function of a loaded graph of torch.export, from raw images to probabilities.

    Args:
        graph: The graph.
        threads: Number of threads; 0 for as many as torch uses.

    Raises:
        WorkFailed: By the function: torch lacks an operation of it on this processor.
    """

    def run(images: np.ndarray) -> np.ndarray:
        before = torch.get_num_threads()
        torch.set_num_threads(threads or before)
        try:
            with torch.inference_mode():
                found: np.ndarray = graph(torch.tensor(images)).numpy()
        except RuntimeError as error:  # an operation that this processor lacks in the graph's precision
            raise WorkFailed(
                f"torch does not run the student's graph on this processor ({first_line(error)})"
            ) from None
        finally:
            torch.set_num_threads(before)
        return found

    return run


def onnx_model(served: nn.Module, metadata: Metadata, outputs: Sequence[str] = (OUTPUT,)) -> ModelProto:
    """Returns the graph of a network that takes raw images as ONNX, for any batch size.

    Args:
        served: The network, in evaluation mode.
        metadata: Description of its images.
        outputs: Names of its outputs.
    """
    exported = torch_graph(served, metadata)
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


def onnx_runner(session: Any) -> Runner:
    """Returns the function of a session, from raw images to probabilities."""

    def run(images: np.ndarray) -> np.ndarray:
        found: np.ndarray = session.run([OUTPUT], {INPUT: images})[0]
        return found

    return run


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces a file in one step."""
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def compare(served: ServedStudent, metadata: Metadata, run: Runner, what: str) -> None:
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


def _example(metadata: Metadata) -> torch.Tensor:
    """Two images: of one, the exporter would conclude that there is never more."""
    return torch.zeros(2, metadata.image_size, metadata.image_size, metadata.channels, dtype=torch.uint8)


def _onnx_content_runner(content: bytes, threads: int) -> Runner:
    """Returns the function of an ONNX file.

    Raises:
        WorkFailed: ONNX Runtime lacks an operation of it on this processor.
    """
    try:
        return onnx_runner(onnx_session(content, threads))
    except Exception as error:  # whatever the runtime raises
        raise WorkFailed(
            f"ONNX Runtime does not run the student's graph on this processor ({first_line(error)})"
        ) from None


ONNX = Format("ONNX Runtime", onnx_model, checked_onnx, _onnx_content_runner)
TORCH = Format("torch", torch_graph, torch_content, torch_runner)
FORMATS = {"onnx": ONNX, "torch": TORCH}
