"""The tracker: one parent run per search and one child run per trial, also when the server is away for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ctkd_search.analysis.standing import best_so_far
from ctkd_search.display.trial_rows import kind_of
from ctkd_search.errors import UserError
from ctkd_search.pairs import split_pair
from ctkd_search.records.listener import TrialListener
from ctkd_search.records.store import FAILED, FINISHED, INTERRUPTED, PAUSED, RUNNING, WAITING, SearchRecord, TrialRecord
from ctkd_search.space.document import dump
from ctkd_search.tracking.deliveries import Deliveries
from ctkd_search.tracking.store import REASON, RUN_NAME, Mlflow, Point, fitting, mlflow_error, points_of

# A run's status in MLflow: every trial that ended as planned is FINISHED, and one that waits may do so for good.
_STATUS = {FAILED: "FAILED", INTERRUPTED: "KILLED", RUNNING: "RUNNING", WAITING: "SCHEDULED", PAUSED: "SCHEDULED"}
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 20.0
# Seconds for which a delivery that has not failed is waited for at least, however little patience is asked for.
_ANSWER = 10.0
# Seconds for which a trial's epochs are gathered: a request costs more than what is in it.
_GATHERING = 10.0


@dataclass
class _Delivered:
    """The part of a trial that MLflow has: its run, number of epochs, status, parameters, and test."""

    run_id: str
    epochs: int = 0
    status: str = ""
    reason: str = ""
    described: bool = False
    tested: bool = False


@dataclass(frozen=True)
class Parent:
    """The description of a parent run.

    Attributes:
        title: Its name.
        tags: Its tags.
        file: Name of the artifact that contains its space or config.
    """

    title: str
    tags: Mapping[str, str]
    file: str


@dataclass(frozen=True)
class _Standings:
    """The parent run in the queue of deliveries, when a trial has finished.

    Attributes:
        objective: The objective that trials are judged by.
        number: A number that no trial has.
    """

    objective: str
    number: ClassVar[int] = 0


class Tracker(TrialListener):
    """Keeps the runs in MLflow equal to the records of a search.

    A separate thread compares the runs with the records and delivers the difference, so that the search never waits
    for a server. While the server is away, the records are on disk as always; once it answers again, everything is
    delivered, and nothing twice.

    Args:
        mlflow: The experiment.
        label: Returns the short name of a trial.
        method: Returns the method of a trial.
        say: Prints a line.
    """

    def __init__(
        self,
        mlflow: Mlflow,
        label: Callable[[TrialRecord], str],
        method: Callable[[TrialRecord], str],
        say: Callable[[str], None],
    ) -> None:
        self.mlflow = mlflow
        self.parent_id = ""
        self._label = label
        self._method = method
        self._say = say
        self._delivered: dict[int, _Delivered] = {}
        self._deliveries: Deliveries[TrialRecord | _Standings] = Deliveries()
        # Trials that have ended, and the number of standings already logged (one after each ended trial).
        self._explored: dict[int, TrialRecord] = {}
        self._standings = 0
        self._away_since: float | None = None
        self._refused: set[int] = set()
        self._machine: Any = None
        self._thread = threading.Thread(target=self._deliver_all, name="mlflow", daemon=True)

    def begin(
        self,
        search: SearchRecord,
        params: Mapping[str, Any],
        records: Sequence[TrialRecord],
        parent: Parent | None = None,
    ) -> str:
        """Starts or resumes the parent run and the trials' runs, and begins to deliver.

        Runs of this search that belong to no trial, left by a process that was killed, are closed and tagged.

        Args:
            search: The record of the whole.
            params: Parameters of the parent run.
            records: Every trial.
            parent: The description of the parent run; None for that of a search.

        Returns:
            The parent run's id.

        Raises:
            UserError: MLflow does not answer, or the parent run was deleted.
        """
        try:
            self.parent_id = search.run_id or self._start_parent(search, params, parent)
            self.mlflow.reopen(self.parent_id)
            self._adopt({record.number for record in records})
        except Exception as error:  # whatever MLflow, its server or its store raises
            raise UserError(
                f"cannot {'go on with run ' + search.run_id if search.run_id else 'begin a run'} in MLflow at "
                f"{self.mlflow.place} ({mlflow_error(error)}); check the server, or choose another --name"
            ) from None
        self._explored = {record.number: record for record in records if record.explores}
        for record in records:
            run = self._delivered.get(record.number)
            begun = record.status != WAITING or bool(record.epochs)
            if run is None and begun:
                self._deliveries.note(record)
            elif run and (run.described, run.epochs, run.status, run.tested) != (
                True,
                len(record.epochs),
                _STATUS.get(record.status, "FINISHED"),
                record.test is not None,
            ):
                run.epochs = max(0, run.epochs - 1)  # the last one may have been logged in part
                self._deliveries.note(record)
        for record in self._explored.values():
            if record.status == FINISHED:  # a process that was killed may have left them behind
                self._deliveries.note(_Standings(record.objective), _GATHERING)
                break
        self._thread.start()
        return self.parent_id

    def abandon(self, run_id: str | None) -> None:
        """Closes the run of a search that ended before its first trial, if it was left open."""
        from mlflow.exceptions import MlflowException

        if run_id is None:
            return
        try:
            if self.mlflow.client.get_run(run_id).info.status == "RUNNING":
                self.mlflow.log(run_id, tags={REASON: "it ended before its first trial, and was begun anew"})
                self.mlflow.client.set_terminated(run_id, "KILLED")
        except MlflowException:
            return  # deleted, or in another store

    def _find_parent(self, search: SearchRecord) -> str | None:
        found = self.mlflow.client.search_runs(
            [self.mlflow.experiment_id], f"tags.`ctkd.search_id` = '{search.id}'", max_results=1
        )
        return found[0].info.run_id if found else None

    def _start_parent(self, search: SearchRecord, params: Mapping[str, Any], parent: Parent | None) -> str:
        parent = parent or Parent(search.name, {"ctkd.kind": "search", "ctkd.search": search.name}, "space.yaml")
        tags = {**parent.tags, "ctkd.search_id": search.id}
        # A run that was created just before a crash may lack its description; logging it again changes nothing.
        run_id = self._find_parent(search) or self._create_run(parent.title, tags)
        self.mlflow.log(run_id, params=params)
        self.mlflow.client.log_text(run_id, dump(search.space), parent.file)
        return run_id

    def _create_run(self, name: str, tags: Mapping[str, str]) -> str:
        run = self.mlflow.client.create_run(self.mlflow.experiment_id, run_name=name[:RUN_NAME], tags=fitting(tags))
        return str(run.info.run_id)

    def _adopt(self, known: set[int]) -> None:
        token = None
        while True:
            page = self.mlflow.client.search_runs(
                [self.mlflow.experiment_id],
                f"tags.`mlflow.parentRunId` = '{self.parent_id}'",
                max_results=1000,
                page_token=token,
            )
            for run in (run for run in page if "ctkd.trial" in run.data.tags):  # others are the user's own
                number = int(run.data.tags["ctkd.trial"])
                if number not in known or number in self._delivered:
                    self.mlflow.log(run.info.run_id, tags={"ctkd.orphan": "true", REASON: "its trial is not known"})
                    self.mlflow.client.set_terminated(run.info.run_id, "KILLED")
                    continue
                epochs = int(run.data.metrics.get("epoch", 0))
                described, tested = bool(run.data.params), "test_accuracy" in run.data.metrics
                self._delivered[number] = _Delivered(
                    run.info.run_id, epochs, run.info.status, described=described, tested=tested
                )
            token = page.token
            if not token:
                return

    def trial_started(self, trial: TrialRecord) -> None:
        """Notes the trial for delivery."""
        self._deliveries.note(trial)

    def trial_reported(self, trial: TrialRecord) -> None:
        """Notes the trial for delivery, with the epochs that it reports in the next seconds."""
        self._deliveries.note(trial, _GATHERING)

    def trial_ended(self, trial: TrialRecord) -> None:
        """Notes the trial for delivery."""
        self._deliveries.note(trial)

    def trial_tested(self, trial: TrialRecord) -> None:
        """Notes the trial, whose student has been tested, for delivery."""
        self._deliveries.note(trial)

    def run_id(self, number: int) -> str | None:
        """Returns the id of a trial's run, if it has one yet."""
        run = self._delivered.get(number)
        return run.run_id if run else None

    def _deliver_all(self) -> None:
        pause = _FIRST_PAUSE
        while (item := self._deliveries.take()) is not None:
            try:
                if isinstance(item, _Standings):
                    self._deliver_standings(item.objective)
                else:
                    self._deliver(item)
            except Exception as error:
                if _is_refusal(error):
                    self._give_up(item, error)
                    continue
                self._went_away(error)
                if not self._deliveries.again(item, pause):
                    return
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                pause = _FIRST_PAUSE
                self._came_back()

    def _deliver(self, trial: TrialRecord) -> None:
        """Updates a trial's run."""
        if trial.number in self._refused:
            return
        # The record may change meanwhile; it is then delivered once more.
        epochs, status, reason, test = list(trial.epochs), trial.status, trial.reason, trial.test
        run = self._delivered.get(trial.number)
        if run is None:
            run_id = self._create_run(self._label(trial), self._tags(trial))
            run = self._delivered[trial.number] = _Delivered(run_id, status="RUNNING")
        params: dict[str, Any] = {}
        if not run.described:
            teacher, student = split_pair(trial.values["pair"])
            params = {**trial.values, "teacher": teacher, "student": student}
        points = points_of(epochs[run.epochs :])
        if test is not None and not run.tested:
            measured = {f"test_{name}": value for name, value in test.items() if name != "images"}
            points += points_of([{"epoch": epochs[-1]["epoch"], "at": epochs[-1]["at"], **measured}])
        state = _STATUS.get(status, "FINISHED")
        changed = (state, reason) != (run.status, run.reason)
        tags = {"ctkd.status": status, REASON: reason} if changed else {}
        self.mlflow.log(run.run_id, params=params, points=points, tags=tags)
        run.described, run.epochs, run.tested = True, max(run.epochs, len(epochs)), run.tested or test is not None
        if changed:
            if state in ("RUNNING", "SCHEDULED"):
                self.mlflow.client.update_run(run.run_id, status=state)
            else:
                self.mlflow.client.set_terminated(run.run_id, state)
            run.status, run.reason = state, reason
        if trial.explores:
            self._explored[trial.number] = trial
        if status == FINISHED:
            self._deliveries.note(_Standings(trial.objective), _GATHERING)

    def _deliver_standings(self, objective: str) -> None:
        """Updates the parent run's metrics: the progress of the search, and the best value so far."""
        if _Standings.number in self._refused:
            return
        standings = best_so_far(list(self._explored.values()))
        points = [
            Point(name, value, standing.at, standing.trials)
            for standing in standings[self._standings :]
            for name, value in (
                (f"best_{objective}", standing.value),
                ("trials_finished", standing.trials),
                ("epochs_trained", standing.epochs),
            )
        ]
        self.mlflow.log(self.parent_id, points=points)
        self._standings = len(standings)

    def _tags(self, trial: TrialRecord) -> dict[str, str]:
        tags = {
            "mlflow.parentRunId": self.parent_id,
            "ctkd.kind": kind_of(trial),
            "ctkd.trial": str(trial.number),
            "ctkd.seed": str(trial.seed),
            "ctkd.pair": trial.values["pair"],
            "ctkd.method": self._method(trial),
        }
        if trial.baseline is not None:
            tags["ctkd.baseline"] = trial.baseline
        if trial.repeats is not None:
            tags["ctkd.confirms"] = str(trial.repeats)
        return tags

    def _went_away(self, error: Exception) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            self._say(
                f"MLflow at {self.mlflow.place} does not answer ({mlflow_error(error)}); the work goes on, and its "
                "runs are updated once it answers again"
            )

    def _came_back(self) -> None:
        if self._away_since is not None:
            self._away_since = None
            self._say("MLflow answers again")

    def _give_up(self, item: TrialRecord | _Standings, error: Exception) -> None:
        self._refused.add(item.number)
        what = "the search's own run" if isinstance(item, _Standings) else f"trial {item.number}"
        self._say(f"MLflow refuses {what} ({mlflow_error(error)}); its record is kept on disk")

    def flush(self, seconds: float) -> bool:
        """Waits until everything is delivered, and returns whether it is.

        Args:
            seconds: How long to wait for MLflow where it does not answer.
        """
        return self._deliveries.flush(seconds, max(seconds, _ANSWER))

    def close(self) -> None:
        """Ends the delivery; the rest is delivered when the search goes on."""
        if self._machine:
            self._machine.finish()
        self._deliveries.close()
        if self._thread.is_alive():
            self._thread.join(timeout=_LONGEST_PAUSE)

    def finish(self, status: str, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Closes the parent run."""
        now = int(time.time() * 1000)
        points = [Point(name, value, now, 0) for name, value in metrics.items()]
        self.mlflow.log(self.parent_id, points=points, tags=tags)
        self.mlflow.client.set_terminated(self.parent_id, status)

    def watch_machine(self) -> None:
        """Logs the load of this machine to the parent run, until that run is closed."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        self._machine = SystemMetricsMonitor(self.parent_id, resume_logging=True, tracking_uri=self.mlflow.uri)
        self._machine.start()

    def set_view(self, key: str, value: str) -> None:
        """Sets a view of the trials for MLflow's UI; a store that refuses it shows them in its own way."""
        try:
            self.mlflow.client.set_experiment_tag(self.mlflow.experiment_id, key, value)
        except Exception as error:  # whatever MLflow, its server or its store raises
            self._say(
                f"MLflow refuses the view of the trials ({mlflow_error(error)}); its UI shows them in its own way"
            )

    def log_text(self, text: str, name: str) -> None:
        """Logs a text as an artifact of the parent run."""
        self.mlflow.client.log_text(self.parent_id, text, name)

    def log_file(self, path: Path) -> None:
        """Logs a file as an artifact of the parent run, by its name."""
        self.mlflow.client.log_artifact(self.parent_id, str(path))


def _is_refusal(error: Exception) -> bool:
    """Returns whether MLflow refuses a request, so that trying again would not help."""
    from mlflow.exceptions import MlflowException

    if not isinstance(error, MlflowException):
        return False
    code = error.get_http_status_code()
    # Not permitted yet, too slow, too many: these may succeed later.
    return 400 <= code < 500 and code not in (401, 403, 408, 429)
