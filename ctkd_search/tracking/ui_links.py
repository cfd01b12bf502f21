"""Links to the searches of a directory in MLflow's UI."""

from __future__ import annotations

from pathlib import Path

from ctkd_search.records.store import SearchFolder, names
from ctkd_search.tracking.store import quiet_mlflow
from ctkd_search.tracking.view import view_link


def links(trials_dir: Path, uri: str, server: str) -> list[str]:
    """Returns a line with a link to the view of the trials for each search.

    Args:
        trials_dir: The directory of the searches.
        uri: The store of the runs; searches that are not in it are left out.
        server: The address of the UI.
    """
    quiet_mlflow()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(uri)
    found = []
    for name in names(trials_dir):
        run_id = SearchFolder(trials_dir, name).search().run_id
        if run_id is None:
            continue
        try:
            experiment = client.get_run(run_id).info.experiment_id
        except MlflowException:
            continue  # in another store, or deleted
        found.append(f"compare the trials of {name}: {view_link(server, experiment, name)}")
    return found
