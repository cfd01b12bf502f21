"""The MLflow store that searches and final trainings log their runs to."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from ctkd_search.errors import UserError
from ctkd_search.leases.lease import wait_for
from ctkd_search.paths import expanded_uri
from ctkd_search.space.distributions import show
from ctkd_search.text import first_line
from ctkd_search.tracking.advice import advice
from ctkd_search.uris import uri_fault

# The most entries, and the most parameters among them, that MLflow accepts in one request.
_AT_ONCE = 1000
_PARAMS_AT_ONCE = 100
# The most characters that MLflow accepts in a name, a parameter's value and a tag's value; longer texts are cut.
_KEY, _PARAM, _TAG = 250, 6000, 8000
# What MLflow accepts no name of a parameter with.
_NO_NAME = re.compile(r"[^/\w.\- :]")
# The most characters of a run's name.
RUN_NAME = 250
# The tag with the reason for which a run ended.
REASON = "ctkd.reason"
# Entries of an epoch that are not metrics: the time of the measurement.
_NO_METRICS = ("at",)
# The environment variable that names a store, for MLflow and for its users.
_URI = "MLFLOW_TRACKING_URI"
# The environment variable in which MLflow keeps the active experiment, beside a variable of its own.
_EXPERIMENT = "MLFLOW_EXPERIMENT_ID"
# Held while another store is active: what is given back must be what the user chose, not what another thread did.
_ACTIVE = threading.RLock()
# Environment variables that contain secrets.
_SECRETS = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD")


def store_uri(given: str | None, trials_dir: Path) -> str:
    """Returns the URI of the store: the given one, MLFLOW_TRACKING_URI, or a SQLite file in the directory of searches.

    Raises:
        UserError: The given URI contains a password.
    """
    if given is not None and (fault := uri_fault(given)):
        raise UserError(f"the tracking URI {fault}")
    wanted = given or os.environ.get(_URI)
    return expanded_uri(wanted) if wanted else f"sqlite:///{trials_dir.resolve() / 'mlflow.db'}"


def _directory_of(uri: str, otherwise: Path) -> Path:
    """Returns the directory of a SQLite store, shared by all its users; `otherwise` where it does not exist yet."""
    directory = Path(uri.partition("?")[0].removeprefix("sqlite:///")).parent
    return directory if uri.startswith("sqlite:///") and directory.is_dir() else otherwise


def refuse_place(uri: str, trials_dir: Path) -> None:
    """Refuses a directory of searches in which a SQLite store, or the artifacts beside it, would go elsewhere.

    SQLAlchemy takes what is after ? for options, and from 2.1 on it decodes what is after %; MLflow decodes the path of
    the artifacts. No way of writing such a path is right for all of them.

    Args:
        uri: The tracking URI.
        trials_dir: The directory of the searches.

    Raises:
        UserError: The path of the directory has such a character.
    """
    place = trials_dir.resolve()
    if uri.startswith("sqlite:") and (wrong := next((mark for mark in "%?" if mark in str(place)), None)):
        raise UserError(
            f"MLflow cannot keep its store in {place}, whose path has a {wrong} in it; rename the directory, or choose "
            "another --trials-dir"
        )


def without_secrets(text: str) -> str:
    """Returns a text with MLflow's passwords and tokens replaced by dots."""
    text = re.sub(r"://[^/@\s]+@", "://...@", text)
    for name in _SECRETS:
        if secret := os.environ.get(name):
            text = text.replace(secret, "...")
    return text


def quiet_mlflow() -> None:
    """Turns off MLflow's output and telemetry, and shortens its retries from minutes to seconds."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    # Errors are raised as well, and reported in one line.
    for name in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")


@contextmanager
def active_store(uri: str) -> Iterator[None]:
    """Makes a store the one that MLflow uses by itself, and gives back afterwards what the user's code had chosen.

    That is the store and the active experiment, which may be another one in the block. MLflow keeps both in the
    environment too, where the next search in this process would take them for the user's.
    """
    import mlflow
    from mlflow.tracking import fluent

    with _ACTIVE:
        before = {name: os.environ.get(name) for name in (_URI, _EXPERIMENT)}
        experiment = fluent._active_experiment_id
        mlflow.set_tracking_uri(uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(None)
            fluent._active_experiment_id = experiment
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


class Point(NamedTuple):
    """A value of a metric.

    Attributes:
        name: Name of the metric.
        value: The value.
        at: Its time, in milliseconds since 1970.
        step: Its step.
    """

    name: str
    value: float
    at: int
    step: int


def points_of(epochs: Sequence[Mapping[str, Any]]) -> list[Point]:
    """Returns the metrics of epochs as points."""
    return [
        Point(name, value, epoch["at"], epoch["epoch"])
        for epoch in epochs
        for name, value in epoch.items()
        if name not in _NO_METRICS
    ]


class Mlflow:
    """An experiment in an MLflow store.

    Args:
        uri: The tracking URI.
        experiment: Name of the experiment; made if it does not exist.
        artifacts: Where a local store keeps the experiment's artifacts.

    Attributes:
        place: The URI without secrets, for messages.

    Raises:
        UserError: MLflow cannot be used at the URI.
    """

    def __init__(self, uri: str, experiment: str, artifacts: Path) -> None:
        quiet_mlflow()
        from mlflow import MlflowClient

        refuse_place(uri, artifacts.parent)
        self.uri = uri
        self.place = without_secrets(uri)
        local = uri.startswith("sqlite:")
        # Two processes that create the tables of a new file at the same time make each other fail.
        place = _directory_of(uri, artifacts.parent)
        opening = wait_for(place, "mlflow", "opening MLflow's store") if local else nullcontext()
        try:
            with opening:
                self.client = MlflowClient(uri)
                location = str(artifacts.resolve() / experiment) if local else None
                found = self.client.get_experiment_by_name(experiment) or self._made(experiment, location)
                self.experiment_id = found.experiment_id
        except Exception as error:  # whatever MLflow, its server or its store raises
            raise UserError(f"cannot use MLflow at {self.place} ({mlflow_error(error)}): {advice(error)}") from None
        if found.lifecycle_stage != "active":
            raise UserError(f"the MLflow experiment {experiment!r} was deleted; restore it, or set tracking.experiment")

    def _made(self, experiment: str, location: str | None) -> Any:
        """Returns a new experiment; or that of another process, which has made it in the meantime."""
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_experiment(self.client.create_experiment(experiment, artifact_location=location))
        except MlflowException:
            if (others := self.client.get_experiment_by_name(experiment)) is None:
                raise
            return others

    def reopen(self, run_id: str) -> None:
        """Notes that a run that had ended goes on, and removes the reason for which it ended."""
        self.client.update_run(run_id, status="RUNNING")
        if REASON in self.client.get_run(run_id).data.tags:
            self.client.delete_tag(run_id, REASON)

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, Any] | None = None,
        points: Sequence[Point] = (),
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Logs parameters, points of metrics and tags of a run, in one request if it holds them.

        What a parameter's name cannot have in MLflow, as the + of an architecture, becomes an underscore.
        MLflow keeps points that are logged again only once.
        """
        from mlflow.entities import Metric, Param, RunTag

        accepted = {_NO_NAME.sub("_", name)[:_KEY]: _exact(value)[:_PARAM] for name, value in (params or {}).items()}
        described = [Param(name, value) for name, value in accepted.items()]
        measured = [Metric(point.name, float(point.value), point.at, point.step) for point in points]
        named = [RunTag(name, value) for name, value in fitting(tags or {}).items()]
        while described or measured or named:
            room = _AT_ONCE - len(named) - len(described[:_PARAMS_AT_ONCE])
            self.client.log_batch(run_id, measured[:room], described[:_PARAMS_AT_ONCE], named)
            described, measured, named = described[_PARAMS_AT_ONCE:], measured[room:], []


def store_of_run(place: str, run_id: str) -> Mlflow:
    """Opens the store of a run that is in it, at the run's experiment.

    Args:
        place: Its URI without secrets, as records have it; MLFLOW_TRACKING_URI may add them.
        run_id: The run.

    Raises:
        UserError: MLflow does not answer there, or has no such run.
    """
    given = expanded_uri(os.environ.get(_URI) or place)
    uri = given if without_secrets(given) == place else place
    quiet_mlflow()
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///").partition("?")[0]).is_file():
        raise UserError(f"there is no MLflow store {place}, where the run {run_id} was logged; bring it back")
    from mlflow import MlflowClient

    try:
        client = MlflowClient(uri)
        experiment = client.get_experiment(client.get_run(run_id).info.experiment_id).name
    except Exception as error:  # whatever MLflow, its server or its store raises
        raise UserError(
            f"cannot read the run {run_id} in MLflow at {place} ({mlflow_error(error)}): {advice(error)}"
        ) from None
    # The experiment exists, with a place for its artifacts of its own.
    return Mlflow(uri, experiment, _directory_of(uri, Path(os.sep)) / "artifacts")


def fitting(tags: Mapping[str, str]) -> dict[str, str]:
    """Returns tags cut to the lengths that MLflow accepts."""
    return {name[:_KEY]: value[:_TAG] for name, value in tags.items()}


def mlflow_error(error: BaseException) -> str:
    """Returns the first line of an error of MLflow's, without passwords and tokens."""
    return without_secrets(first_line(error))


def _exact(value: Any) -> str:
    """Returns a parameter's value with all its digits; layers as 1,2,3."""
    return show(value) if isinstance(value, list | tuple) else str(value)
