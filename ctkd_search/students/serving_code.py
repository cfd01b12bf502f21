"""The registered student as MLflow loads it.

MLflow keeps a copy of this file in the model and runs it wherever the model is loaded, so that it imports nothing of
ctkd-search. The network and its preprocessing are a graph, of torch.export or of ONNX, and no pickled code.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

_METADATA = "metadata.json"
# Images at a time, so that memory does not grow with the request.
_BATCH = 512


class Student(PythonModel):
    """An image classifier: raw images in, one column of probabilities for each class out."""

    def load_context(self, context: Any) -> None:
        """Reads the exported graph.

        Args:
            context: MLflow's; its artifact ``student`` is the graph's file, with the suffix of its format.
        """
        path = context.artifacts["student"]
        self._run, metadata = _from_onnx(path) if path.endswith(".onnx") else _from_torch(path)
        self._classes: list[str] = metadata["classes"]
        self._shape = (metadata["image_size"], metadata["image_size"], metadata["channels"])

    def predict(self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Classifies images.

        Args:
            context: MLflow's.
            model_input: Raw images, uint8 of shape (batch, height, width, channels).
            params: None; the model has no parameters.

        Returns:
            A row for each image, a column of probabilities for each class.

        Raises:
            ValueError: They are not such images; the message names the rule and the value.
        """
        images = np.asarray(model_input)
        if images.ndim != 4 or images.shape[1:] != self._shape or not len(images):
            wanted = ", ".join(map(str, self._shape))
            raise ValueError(f"images must have the shape (at least 1, {wanted}), but got {images.shape}")
        if images.dtype != np.uint8:
            raise ValueError(f"images must be raw pixels from 0 to 255 of type uint8, but got {images.dtype}")
        parts = [self._run(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)]
        return pd.DataFrame(np.concatenate(parts), columns=self._classes)


def _from_torch(path: str) -> tuple[Callable[[np.ndarray], np.ndarray], dict[str, Any]]:
    """Returns the function of a graph of torch.export, from images to probabilities, and its metadata."""
    import torch

    noted = {_METADATA: ""}
    graph = torch.export.load(path, extra_files=noted).module()

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            found: np.ndarray = graph(torch.tensor(images)).numpy()
        return found

    return run, json.loads(noted[_METADATA])


def _from_onnx(path: str) -> tuple[Callable[[np.ndarray], np.ndarray], dict[str, Any]]:
    """Returns the function of an ONNX graph, from images to probabilities, and its metadata."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    properties = session.get_modelmeta().custom_metadata_map

    def run(images: np.ndarray) -> np.ndarray:
        found: np.ndarray = session.run(["probabilities"], {"images": images})[0]
        return found

    return run, {name: json.loads(properties[name]) for name in ("classes", "image_size", "channels")}


set_model(Student())
