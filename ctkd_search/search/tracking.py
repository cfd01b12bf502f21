"""MLflow: one parent run a search, one child run a trial."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ctkd_search.distributions import show
from ctkd_search.errors import UserError
from ctkd_search.results.store import FAILED, INTERRUPTED, TrialRecord

T = TypeVar("T")
# A run's status in MLflow; every trial that ended as planned is FINISHED, whatever came of it.
_STATUS = {FAILED: "FAILED", INTERRUPTED: "KILLED"}


def default_uri(trials_dir: Path) -> str:
    """The SQLite store of a directory of searches."""
    return f"sqlite:///{trials_dir.resolve() / 'mlflow.db'}"


def quiet_mlflow() -> None:
    """Keeps MLflow from writing between our lines, and from reporting on its use."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")


class Tracker:
    """Writes a search to MLflow while it runs.

    Args:
        uri: The tracking URI.
        experiment: Name of the experiment; made if it does not exist.
        artifacts: Where a local store keeps the experiment's artifacts.
        label: Makes the short name of a trial from its values.

    Raises:
        UserError: There is no MLflow at the URI.
    """

    def __init__(self, uri: str, experiment: str, artifacts: Path, label: Callable[[Mapping[str, Any]], str]) -> None:
        quiet_mlflow()
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        self.uri = uri
        self.label = label
        try:
            self._client = MlflowClient(uri)
            with _short_patience():
                found = self._client.get_experiment_by_name(experiment)
            if found is None:
                local = uri.startswith("sqlite:")
                location = str(artifacts.resolve() / experiment) if local else None
                self.experiment_id = self._client.create_experiment(experiment, artifact_location=location)
            else:
                self.experiment_id = found.experiment_id
        except (MlflowException, OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise UserError(
                f"cannot use MLflow at {uri} ({reason}); check the tracking URI, or start the server"
            ) from None
        if found is not None and found.lifecycle_stage != "active":
            raise UserError(f"the MLflow experiment {experiment!r} was deleted; restore it, or set tracking.experiment")
        self.parent_id = ""

    def start(self, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """Starts the parent run and returns its id."""
        run = self._client.create_run(self.experiment_id, run_name=name, tags={**tags, "ctkd.kind": "search"})
        self.parent_id = run.info.run_id
        self._log(self.parent_id, params=params)
        return self.parent_id

    def go_on(self, run_id: str) -> None:
        """Takes the parent run of an interrupted search up again.

        Raises:
            UserError: The run is not there any more.
        """
        from mlflow.exceptions import MlflowException

        self.parent_id = run_id
        try:
            self._client.update_run(run_id, status="RUNNING")
        except MlflowException as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise UserError(f"the search's run {run_id} is not in MLflow at {self.uri} any more ({reason})") from None

    def trial_started(self, trial: TrialRecord) -> None:
        """Starts the trial's run, or takes it up again."""
        if trial.run_id is not None:
            self._client.update_run(trial.run_id, status="RUNNING")
            return
        run = self._client.create_run(
            self.experiment_id,
            run_name=self.label(trial.values),
            tags={
                "mlflow.parentRunId": self.parent_id,
                "ctkd.kind": "trial",
                "ctkd.trial": trial.id,
                "ctkd.number": str(trial.number),
            },
        )
        trial.run_id = run.info.run_id
        self._log(trial.run_id, params=trial.values)

    def trial_reported(self, trial: TrialRecord, metrics: dict[str, Any]) -> None:
        """Logs an epoch, unless it was logged before an interruption."""
        assert trial.run_id is not None  # it was started
        logged = self._client.get_run(trial.run_id).data.metrics.get("epoch", 0) if trial.resumed else 0
        if metrics["epoch"] > logged:
            self._log(trial.run_id, metrics=metrics, step=metrics["epoch"])

    def trial_ended(self, trial: TrialRecord) -> None:
        """Closes the trial's run with how and why it ended."""
        if trial.run_id is None:
            return
        self._log(trial.run_id, tags={"ctkd.status": trial.status, "ctkd.reason": trial.reason})
        self._client.set_terminated(trial.run_id, _STATUS.get(trial.status, "FINISHED"))

    def tick(self, trials: Sequence[TrialRecord]) -> None:
        """Nothing to do between events."""

    def finish(self, status: str, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Closes the parent run."""
        self._log(self.parent_id, metrics=metrics, tags=tags)
        self._client.set_terminated(self.parent_id, status)

    def log_run(self, name: str, params: Mapping[str, Any], epochs: Sequence[Mapping[str, Any]]) -> str:
        """Logs a whole run at once and returns its id."""
        run = self._client.create_run(self.experiment_id, run_name=name, tags={"ctkd.kind": "train"})
        self._log(run.info.run_id, params=params)
        for metrics in epochs:
            self._log(run.info.run_id, metrics=metrics, step=metrics["epoch"])
        self._client.set_terminated(run.info.run_id, "FINISHED")
        return run.info.run_id

    def log_text(self, run_id: str, text: str, name: str) -> None:
        """Keeps a text as an artifact of a run."""
        self._client.log_text(run_id, text, name)

    def _log(
        self,
        run_id: str,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        step: int = 0,
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        now = int(time.time() * 1000)
        self._client.log_batch(
            run_id,
            metrics=[Metric(name, float(value), now, step) for name, value in (metrics or {}).items()],
            params=[Param(name, _exact(value)) for name, value in (params or {}).items()],
            tags=[RunTag(name, value) for name, value in (tags or {}).items()],
        )


@contextmanager
def _short_patience() -> Iterator[None]:
    """Few retries and short waits, so that a wrong address is an answer and not a pause of minutes."""
    wanted = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
    ours = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]


def _exact(value: Any) -> str:
    """A parameter's value with all its digits; layers as 1,2,3."""
    return show(value) if isinstance(value, list | tuple) else str(value)
