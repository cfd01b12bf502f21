"""The student in MLflow: logged, described and registered."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctkd_search.errors import UserError, WorkFailed
from ctkd_search.models.graph import NoGraph, no_graph
from ctkd_search.students.card import description
from ctkd_search.students.formats import TORCH, write_student
from ctkd_search.students.served import Metadata, ServedStudent
from ctkd_search.tracking.store import active_store

if TYPE_CHECKING:
    from ctkd_search.tracking.store import Mlflow

CARD_FILE = "card.md"
# Run by MLflow wherever the model is loaded; never imported here.
_CODE = Path(__file__).with_name("serving_code.py")
# What its script imports beside mlflow itself, which MLflow adds, by the suffix of the student's file.
_NEEDS = {".pt2": ("torch", "numpy", "pandas"), ".onnx": ("onnxruntime", "numpy", "pandas")}
_REST = "What is left out here is in `{}` among the run's artifacts."


def log_student(
    served: ServedStudent,
    example: Any,
    store: Mlflow,
    run_id: str,
    name: str,
    *,
    classes: Sequence[str],
    architecture: str,
    resize: int | None = None,
    card: str = "",
    tags: Mapping[str, str] | None = None,
) -> str:
    """Logs a student to MLflow as a graph of torch.export, and registers it; see `log_file`.

    Args:
        served: The student.
        example: A few raw images, uint8 of shape (batch, height, width, channels).
        store: MLflow.
        run_id: The run that it belongs to.
        name: The name to register it under.
        classes: Names of the classes.
        architecture: Name of its architecture.
        resize: See `Metadata`.
        card: Its model card, in Markdown; kept with the run and with the model.
        tags: Tags of the registered version.

    Returns:
        The registered version, as a ``models:`` URI.

    Raises:
        NoGraph: It cannot be exported, or its graph does not return its probabilities; nothing is logged.
    """
    metadata = Metadata(tuple(classes), example.shape[1], example.shape[3], architecture, resize=resize)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "student.pt2"
        _export(served, metadata, path)
        return log_file(path, metadata, example, store, run_id, name, card=card, tags=tags)


def _export(served: ServedStudent, metadata: Metadata, path: Path) -> None:
    """Writes a student's graph; whatever its network is at fault for is a `NoGraph`, and so not taken for MLflow's."""
    try:
        write_student(served, metadata, path, TORCH)
    except (NoGraph, UserError, OSError, MemoryError):
        raise
    except WorkFailed as error:
        raise NoGraph(str(error).replace(str(path), f"the graph of {metadata.architecture}")) from None
    except Exception as error:  # whatever torch raises as it saves the graph, reads it or runs it
        raise no_graph(metadata.architecture, error) from None


def log_file(
    path: Path,
    metadata: Metadata,
    example: Any,
    store: Mlflow,
    run_id: str,
    name: str,
    *,
    card: str = "",
    tags: Mapping[str, str] | None = None,
    ending: str = "",
) -> str:
    """Logs the file of a student to MLflow and registers it.

    The model is a script and an exported graph, which load wherever mlflow, pandas and torch or, for ONNX,
    onnxruntime are, without this package and without pickled code. It takes raw images, any number of them, and gives a
    DataFrame with a column of probabilities for each class.

    Args:
        path: The file, ``.pt2`` or ``.onnx``.
        metadata: Description of the student.
        example: A few raw images, uint8 of shape (batch, height, width, channels).
        store: MLflow.
        run_id: The run that it belongs to.
        name: The name to register it under.
        card: Its model card, in Markdown; kept with the run and with the model.
        tags: Tags of the registered version.
        ending: Ends the names of the model and of the card in the run, beside those of the student in float32.

    Returns:
        The registered version, as a ``models:`` URI.
    """
    import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    card_file = f"{Path(CARD_FILE).stem}{ending}{Path(CARD_FILE).suffix}"
    # The input without a name, so that MLflow hands an array to the model and not a mapping of arrays.
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.uint8), (-1, *example.shape[1:]))]),
        outputs=Schema([ColSpec("float", label) for label in metadata.classes]),
    )
    with active_store(store.uri), tempfile.TemporaryDirectory() as directory:
        # A model is kept where the active experiment keeps its artifacts, whatever the run's own experiment is.
        mlflow.set_experiment(experiment_id=store.experiment_id)
        artifacts = {"student": path}
        if card:
            artifacts["card"] = Path(directory) / CARD_FILE
            artifacts["card"].write_text(card, encoding="utf-8")
        # MLflow announces each registration on standard error, in the middle of our own lines.
        with contextlib.redirect_stderr(io.StringIO()):
            # What mlflow.pyfunc.log_model calls, which would take no run but the active one.
            logged = Model.log(
                None,
                mlflow.pyfunc,
                name=f"student{ending}",
                python_model=str(_CODE),
                artifacts={key: str(file) for key, file in artifacts.items()},
                signature=signature,
                input_example=example,
                metadata=metadata.as_dict(),
                pip_requirements=[f"{package}=={version(package).split('+')[0]}" for package in _NEEDS[path.suffix]],
                registered_model_name=name,
                run_id=run_id,
            )
    registered = logged.registered_model_version
    if card:
        store.client.log_text(run_id, card, card_file)
        store.client.update_model_version(name, registered, description(card, _REST.format(card_file)))
    for key, value in (tags or {}).items():
        store.client.set_model_version_tag(name, registered, key, value)
    return f"models:/{name}/{registered}"
