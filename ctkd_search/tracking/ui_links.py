"""Links to the searches of a directory in MLflow's UI."""

from __future__ import annotations

import sys
from pathlib import Path

from ctkd_search.errors import UserError
from ctkd_search.records.store import SearchFolder, names
from ctkd_search.tracking.advice import advice
from ctkd_search.tracking.store import mlflow_error, quiet_mlflow, without_secrets
from ctkd_search.tracking.view import view_link


def links(trials_dir: Path, uri: str, server: str) -> list[str]:
    """Returns a line with a link to the view of the trials for each search.

    Args:
        trials_dir: The directory of the searches.
        uri: The store of the runs; searches that are not in it are left out.
        server: The address of the UI.

    Raises:
        UserError: MLflow cannot be used at the URI.
    """
    quiet_mlflow()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        client = MlflowClient(uri)
    except Exception as error:  # whatever MLflow or its store raises
        place = without_secrets(uri)
        raise UserError(f"cannot use MLflow at {place} ({mlflow_error(error)}): {advice(error)}") from None
    found = []
    for name in names(trials_dir):
        try:
            run_id = SearchFolder(trials_dir, name).search().run_id
        except UserError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        if run_id is None:
            continue
        try:
            experiment = client.get_run(run_id).info.experiment_id
        except MlflowException:
            continue  # in another store, or deleted
        found.append(f"compare the trials of {name}: {view_link(server, experiment, name)}")
    return found
