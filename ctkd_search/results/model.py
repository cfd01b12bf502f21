"""The student as others use it: raw images in, probabilities out."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ctkd_search.data.stream import Normalise
from ctkd_search.models import Geometry, build
from ctkd_search.models.network import TappedNetwork

if TYPE_CHECKING:
    from ctkd_search.mlflow_store import Mlflow


class ServedStudent(nn.Module):
    """A student that takes raw images, with the preprocessing inside.

    Args:
        student: The trained student.
        mean: Mean of each channel that it was trained with, in pixel values.
        std: Standard deviation of each channel, likewise.
    """

    def __init__(self, student: TappedNetwork, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.normalise = Normalise(tuple(mean), tuple(std))
        self.student = student
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Classifies raw images.

        Args:
            images: uint8, shape (batch, height, width, channels).

        Returns:
            Probabilities, shape (batch, classes).
        """
        logits, _ = self.student(self.normalise(images))
        return torch.softmax(logits, dim=1)


def load_student(architecture: str, geometry: Geometry, weights: Mapping[str, Any]) -> TappedNetwork:
    """A student with trained weights."""
    student = build(architecture, geometry, seed=0)
    student.load_state_dict(dict(weights))
    return student


def log_student(served: ServedStudent, example: Any, store: Mlflow, run_id: str, name: str) -> str:
    """Logs a student to MLflow and registers it.

    It is saved as an exported graph, which loads wherever torch is, without this package, for any batch size.

    Args:
        served: The student.
        example: A few raw images, uint8 of shape (batch, height, width, channels), at least two.
        store: MLflow.
        run_id: The run that it belongs to.
        name: The name to register it under.

    Returns:
        The registered version, as a ``models:`` URI.
    """
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    with torch.inference_mode():
        probabilities = served(torch.tensor(example)).numpy()
    # Without names, so that MLflow hands arrays to the model and not mappings of arrays.
    signature = ModelSignature(
        inputs=Schema([TensorSpec(example.dtype, (-1, *example.shape[1:]))]),
        outputs=Schema([TensorSpec(probabilities.dtype, (-1, probabilities.shape[1]))]),
    )
    mlflow.set_tracking_uri(store.uri)
    # A model is kept where the active experiment keeps its artifacts, whatever the run's own experiment is.
    mlflow.set_experiment(experiment_id=store.experiment_id)
    # MLflow announces each registration on standard error, in the middle of our own lines.
    with contextlib.redirect_stderr(io.StringIO()):
        logged = mlflow.pytorch.log_model(
            served,
            name="student",
            signature=signature,
            input_example=example,
            serialization_format="pt2",
            pip_requirements=[f"torch=={torch.__version__.split('+')[0]}", "numpy"],
            registered_model_name=name,
            run_id=run_id,
        )
    client = mlflow.MlflowClient()
    client.set_registered_model_alias(name, "champion", logged.registered_model_version)
    return f"models:/{name}/{logged.registered_model_version}"
