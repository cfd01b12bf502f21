"""A student as a user names it, ready to classify: a file of one of the formats, or a model in MLflow."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctkd_search.errors import UserError
from ctkd_search.models.graph import quietly
from ctkd_search.paths import expanded, is_file
from ctkd_search.students.formats import METADATA_FILE, graph_runner, onnx_runner, onnx_session
from ctkd_search.students.kept import STUDENT_FILE, read_student
from ctkd_search.students.served import Metadata
from ctkd_search.text import first_line
from ctkd_search.tracking.store import active_store, mlflow_error, quiet_mlflow, without_secrets
from ctkd_search.versions import STUDENT_FORMAT, format_fault

_SCHEMES = ("models:/", "runs:/")
_KINDS = "a file that export wrote (.onnx, .pt2), a final training's student.pt, or models:/NAME@champion in MLflow"


@dataclass(frozen=True)
class Predictor:
    """A loaded student.

    Attributes:
        metadata: Its description.
        run: From raw images, uint8 of shape (batch, height, width, channels), to probabilities, float32 of shape
            (batch, classes).
    """

    metadata: Metadata
    run: Callable[[np.ndarray], np.ndarray]


def open_model(model: str, store: str) -> Predictor:
    """Opens a student.

    A graph of torch and a model in MLflow are programs: open them only from sources that you trust.

    Args:
        model: A file, the directory of a final training or of an MLflow model, or an MLflow URI.
        store: MLflow's tracking URI.

    Raises:
        UserError: It is not a student, or cannot be read.
    """
    if model.startswith(_SCHEMES):
        return _from_mlflow(model, store)
    model = expanded(model)
    path = Path(model)
    if is_file(path / "MLmodel"):
        return _from_mlflow(model, store)
    if is_file(path / STUDENT_FILE):
        path = path / STUDENT_FILE
    if not is_file(path):
        missing = f"{path} is a directory without a student" if os.path.isdir(path) else f"there is no file {path}"
        raise UserError(f"{missing}; MODEL is {_KINDS}")
    if path.suffix in (".yaml", ".yml"):
        raise UserError(
            f"{path} is a config and contains no student; train one with: ctkd-search train {path}; or export that of "
            "a search with: ctkd-search export NAME --format onnx"
        )
    readers = {".onnx": _from_onnx, ".pt2": _from_graph, ".pt": _from_final, ".pth": _from_final}
    if path.suffix not in readers:
        raise UserError(f"{path} is not a student by its name; MODEL is {_KINDS}")
    return readers[path.suffix](path)


def _from_final(path: Path) -> Predictor:
    kept = read_student(path)

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return kept.served(torch.tensor(images)).numpy()

    return Predictor(kept.metadata, run)


def _from_graph(path: Path) -> Predictor:
    noted = {METADATA_FILE: ""}
    try:
        with quietly():
            graph = torch.export.load(path, extra_files=noted).module()
    except Exception as error:  # whatever torch makes of another file
        raise UserError(f"{path} is not a graph of torch.export that this torch reads ({first_line(error)})") from None
    return Predictor(_metadata(_parsed(noted[METADATA_FILE]), str(path)), graph_runner(graph))


def _from_onnx(path: Path) -> Predictor:
    try:
        session = onnx_session(path)
    except Exception as error:  # whatever the runtime raises for another file
        raise UserError(f"{path} is not an ONNX model that this runtime reads ({first_line(error)})") from None
    properties = session.get_modelmeta().custom_metadata_map
    metadata = _metadata({key: _parsed(value) or value for key, value in properties.items()}, str(path))
    return Predictor(metadata, onnx_runner(session))


def _from_mlflow(uri: str, store: str) -> Predictor:
    quiet_mlflow()
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    if uri.startswith(_SCHEMES) and store.startswith("sqlite:///") and not is_file(Path(store[len("sqlite:///") :])):
        raise UserError(f"there is no MLflow store {store.removeprefix('sqlite:///')}; name yours with --tracking-uri")
    import mlflow.pyfunc

    try:
        with active_store(store):
            model = mlflow.pyfunc.load_model(uri)
    except Exception as error:  # whatever MLflow, its server or its store raises
        reason = mlflow_error(error)
        bare = re.fullmatch(r"models:/[^/@]+", uri)
        hint = f"; name its version or alias too, as in {uri}@champion" if bare else ""
        raise UserError(f"cannot load {uri} from MLflow at {without_secrets(store)} ({reason}){hint}") from None
    return Predictor(_metadata(model.metadata.metadata, uri), lambda images: model.predict(images).to_numpy())


def _metadata(values: Mapping[str, Any] | None, source: str) -> Metadata:
    """Returns the description of a student from the metadata of its file.

    Raises:
        UserError: There is none, or another version has written it.
    """
    values = values or {}
    if "architecture" in values:
        wrote = values.get("versions")
        writer = wrote.get("ctkd-search") if isinstance(wrote, Mapping) else None
        if fault := format_fault(values.get("format"), STUDENT_FORMAT, writer):
            raise UserError(f"the student {source} {fault}, or export it again")
    try:
        return Metadata(
            tuple(map(str, values["classes"])),
            int(values["image_size"]),
            int(values["channels"]),
            str(values["architecture"]),
            dict(values["versions"]),
            values["resize"] if isinstance(values.get("resize"), int) else None,
        )
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{source} was not made by ctkd-search: it has no metadata on its classes and images") from None


def _parsed(text: str | bytes) -> Any:
    """Returns the value of a JSON text; None if it is not JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return None
