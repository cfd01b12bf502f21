"""Registration of an int8 student in MLflow, beside the student in float32."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ctkd_search.analysis.standing import find_trial
from ctkd_search.errors import UserError, WorkFailed
from ctkd_search.names import registered_name
from ctkd_search.records.store import SearchFolder
from ctkd_search.students.model import log_file
from ctkd_search.students.precisions import FLOAT, Comparison
from ctkd_search.students.served import Metadata
from ctkd_search.tracking.store import Mlflow, mlflow_error, store_of_run

# The alias of the newest int8 version of a registered student.
ALIAS = "int8"
_ENDING = "-int8"
_EXAMPLES = 4


class Target(NamedTuple):
    """The place of an int8 student in MLflow.

    Attributes:
        store: MLflow.
        run_id: The run that it belongs to.
        name: The name to register it under.
        tags: Tags of the registered version.
    """

    store: Mlflow
    run_id: str
    name: str
    tags: dict[str, str]

    @property
    def uri(self) -> str:
        """Returns the URI of the newest int8 version."""
        return f"models:/{self.name}@{ALIAS}"


def target_of(folder: SearchFolder, name: str, wanted: str | None, final: bool) -> Target:
    """Returns the place of the int8 version of a student, which exists in MLflow.

    Args:
        folder: The directory of the search, or of the final training.
        name: Name of the search, or of the config that was trained.
        wanted: Number of the trial; None for the winner. Of no meaning for a final training.
        final: Whether the student is that of a final training.

    Raises:
        UserError: It has no run in MLflow yet, or MLflow cannot be reached.
    """
    record = folder.search()
    if final:
        run_id, tags, what = record.run_id, {"ctkd.final": record.name}, f"the final training {record.name}"
    else:
        trial = find_trial(folder.readable_trials(), wanted)
        run_id, tags = trial.run_id, {"ctkd.search": record.name, "ctkd.trial": str(trial.number)}
        what = f"trial {trial.number} of the search {name!r}"
    if run_id is None:
        raise UserError(
            f"--register needs a run in MLflow, and {what} has none yet; go on with: {record.again}, or leave it out"
        )
    store = store_of_run(record.tracking_uri, run_id)
    return Target(store, run_id, registered_name(name, final), tags)


def register_int8(
    target: Target, path: Path, metadata: Metadata, images: np.ndarray, card: str, found: Comparison
) -> str:
    """Logs an int8 file as a model of its run, registers it, and makes it the newest int8 version.

    Args:
        target: The place.
        path: The file.
        metadata: Description of the student.
        images: Raw images, uint8 of shape (images, height, width, channels), of which a few become the example.
        card: Its model card.
        found: Its measurements.

    Returns:
        A line about it.

    Raises:
        WorkFailed: MLflow does not answer, or refuses it.
    """
    chosen, before = found.files[found.chosen], found.files[FLOAT]
    tags = {
        **target.tags,
        "ctkd.precision": found.chosen,
        "ctkd.validation_accuracy": f"{chosen.accuracy:.6f}",
        "ctkd.float32_validation_accuracy": f"{before.accuracy:.6f}",
        "ctkd.onnx_bytes": str(chosen.bytes),
    }
    store, name = target.store, target.name
    try:
        uri = log_file(
            *(path, metadata, images[:_EXAMPLES], store, target.run_id, name), card=card, tags=tags, ending=_ENDING
        )
        store.client.set_registered_model_alias(name, ALIAS, uri.rpartition("/")[2])
    except Exception as error:  # whatever MLflow, its server or its store raises
        raise WorkFailed(
            f"{path} is written, but MLflow at {store.place} did not register it ({mlflow_error(error)}); try again "
            "once it answers"
        ) from None
    return (
        f"registered in MLflow as {uri}, which is {target.uri} now; serve it with: mlflow models serve -m {target.uri} "
        "--env-manager local"
    )
