"""One sitting at a search: Ray up, MLflow open, the keyboard minded; everything closed again at the end."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import socket
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import ray
import torch
from ray import tune
from rich.console import Console

from ctkd_search.data import Splits
from ctkd_search.distill.engine import resolve_precision
from ctkd_search.distill.weights import load_weights
from ctkd_search.errors import UserError
from ctkd_search.results.model import ServedStudent, load_student, log_student
from ctkd_search.results.store import TEACHERS, SearchFolder, SearchRecord, TrialRecord
from ctkd_search.search.machine import Share, share_out
from ctkd_search.search.observer import Observer
from ctkd_search.search.packing import pack
from ctkd_search.search.prepare import describe_maps, prepare_teachers
from ctkd_search.search.progress import Progress
from ctkd_search.search.scheduler import Deadline, Ladder
from ctkd_search.search.searcher import make_searcher
from ctkd_search.search.tracking import Tracker, default_uri
from ctkd_search.search.trainable import DistillationTrial, state_path
from ctkd_search.space import Space

_EXAMPLES = 4
_SAME_KEYSTROKE_SECONDS = 2.0


class Session:
    """Holds Ray and MLflow open; use it as a context manager.

    Args:
        space: The space.
        trials_dir: Directory of all searches.
        say: Writes a line.

    Raises:
        UserError: MLflow or the Ray cluster cannot be reached, or more is asked of the machine than it has.
    """

    share: Share

    def __init__(self, space: Space, trials_dir: Path, say: Callable[[str], None]) -> None:
        self.space = space
        self.trials_dir = trials_dir.resolve()
        self.say = say
        self.interrupted = False
        self._interrupted_at = 0.0
        self._tuning = False
        uri = space.tracking.uri or default_uri(trials_dir)
        self.tracker = Tracker(uri, space.tracking.experiment or space.name, trials_dir / "artifacts", space.label)

    def __enter__(self) -> Session:
        """Starts Ray, or joins a cluster."""
        # Ray's own tables, reports and loggers stay away; the observer sees to all of that.
        os.environ.update(
            RAY_USAGE_STATS_ENABLED="0",
            RAY_AIR_NEW_OUTPUT="0",
            TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
            TUNE_DISABLE_SIGINT_HANDLER="1",
            TUNE_GLOBAL_CHECKPOINT_S="2",  # seconds between two snapshots of the search
            TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S="0",
        )
        # A trial that goes on reports to Optuna what it had measured before once more.
        warnings.filterwarnings("ignore", message="The reported value is ignored because this `step")
        # Ray would change it for an unset variable in a later version, and warns until then.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        address = self.space.resources.address
        # "local": a cluster that happens to run on this machine is joined only when asked for.
        options: dict[str, Any] = {"address": address} if address else {"address": "local", "include_dashboard": False}
        if not address:
            # Only this machine can reach it.
            options |= {"_node_ip_address": "127.0.0.1", "num_gpus": torch.cuda.device_count()}
        if address:
            _knock(address)
        try:
            ray.init(logging_level=logging.CRITICAL, log_to_driver=False, **options)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            reason = str(error).strip().splitlines()[0][:200]
            what = f"cannot join the Ray cluster at {address}" if address else "cannot start Ray"
            raise UserError(f"{what} ({reason}); check the address") from None
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        total = ray.cluster_resources()
        try:
            device = torch.device("cuda" if total.get("GPU") else "cpu")
            self.space = with_precision(self.space, device)
            self.gpus, self.cpus = total.get("GPU", 0.0), int(total.get("CPU", 1))
            self.share = share_out(self.space.resources, self.gpus, self.cpus)
        except UserError:
            ray.shutdown()
            raise
        # After ray.init, which takes SIGTERM for itself.
        self._handlers = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        # Ray Tune takes SIGUSR1 as the request to end, from a moment after it has begun; until then it would kill.
        self._handlers[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, self._stop_at_once)
        return self

    def __exit__(self, *exception: object) -> None:
        """Stops Ray and gives the signals back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        ray.shutdown()

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-C: let Ray keep its state and end; at a second one, or outside the trials, end at once."""
        if not self._tuning:
            raise KeyboardInterrupt
        if self.interrupted:
            # One keystroke may come twice, from the terminal and from a parent process.
            if time.monotonic() - self._interrupted_at > _SAME_KEYSTROKE_SECONDS:
                raise KeyboardInterrupt
            return
        self.interrupted = True
        self._interrupted_at = time.monotonic()
        self.say("stopping, and keeping what has been done ...")
        signal.raise_signal(signal.SIGUSR1)  # what Ray Tune takes as the request to end

    def _stop_at_once(self, number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def search(self, folder: SearchFolder, record: SearchRecord, splits: Splits, console: Console) -> list[TrialRecord]:
        """Prepares the teachers and runs the trials.

        Returns:
            Every trial of the search, those from before an interruption included.

        Raises:
            KeyboardInterrupt: The user stopped it; the search can go on.
        """
        known = folder.trials()
        if record.run_id is None:
            record.run_id = self.tracker.start(record.name, self._parent_params(record), {"ctkd.search": record.name})
            folder.write(record)
        else:
            self.tracker.go_on(record.run_id)
        deadline = Deadline(self.space.budget.seconds())
        progress = Progress(
            console,
            self.space.budget.trials,
            self.space.budget.epochs,
            self.share.concurrent,
            self.space.label,
            deadline.left,
        )
        observer = Observer(self.space, folder.states, [self.tracker, _Keeper(folder), progress], known, self.say)
        try:
            splits_ref = ray.put(splits)
            teachers = self.trials_dir / TEACHERS
            maps = describe_maps(self.space, len(splits.train), splits.geometry.image_size)
            if maps:
                self.say(maps)
            record.experts |= prepare_teachers(
                self.space, record.name, splits, splits_ref, teachers, self.share, self.say
            )
            folder.write(record)
            if self.space.resources.trials_per_gpu == "auto":
                configs = self.space.largest_configs()
                self.share = pack(self.share, configs, splits_ref, teachers, self.gpus, self.cpus)
                progress.concurrent = self.share.concurrent
            self.say(f"trials: {self.share}")
            ladder = Ladder(self.space.budget, known)
            tuner = self._tuner(folder, splits_ref, teachers, observer, ladder, deadline)
            self._tuning = True
            with progress:
                tuner.fit()
        except BaseException as error:
            self._close(observer, error)
            raise
        finally:
            self._tuning = False
        if self.interrupted:
            self._close(observer, KeyboardInterrupt())
            raise KeyboardInterrupt
        observer.close_running("the time budget ended")
        return sorted(observer.records.values(), key=lambda trial: trial.number)

    def _close(self, observer: Observer, error: BaseException) -> None:
        """Leaves no run of a search that ended before its time open."""
        observer.close_running("the search was interrupted")
        interrupted = isinstance(error, KeyboardInterrupt)
        reason = "interrupted" if interrupted else str(error)
        self.tracker.finish("KILLED" if interrupted else "FAILED", {}, {"ctkd.reason": reason})

    def _parent_params(self, record: SearchRecord) -> dict[str, Any]:
        budget = self.space.budget
        return {
            "dataset": self.space.dataset.name,
            "data_fingerprint": record.fingerprint[:16],
            "trials": budget.trials,
            "epochs": budget.epochs,
            "grace_period": budget.grace_period,
            "reduction_factor": budget.reduction_factor,
            "teachers": self.space.teachers.mode,
            "seed": self.space.seed,
            **{f"search.{name}": str(entry) for name, entry in self.space.entries.items()},
        }

    def _tuner(
        self,
        folder: SearchFolder,
        splits_ref: Any,
        teachers: Path,
        observer: Observer,
        ladder: Ladder,
        deadline: Deadline,
    ) -> tune.Tuner:
        trainable = tune.with_resources(
            tune.with_parameters(
                DistillationTrial,
                space=self.space,
                splits_ref=[splits_ref],
                teachers=str(teachers),
                states=str(folder.states),
                search=folder.name,
                device=self.share.device,
                threads=self.share.cpus,
            ),
            {"cpu": self.share.cpus, "gpu": self.share.gpus},
        )
        path = str(folder.ray_path)
        if tune.Tuner.can_restore(path):
            return tune.Tuner.restore(path, trainable=trainable, resume_unfinished=True)
        budget = self.space.budget
        return tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                num_samples=budget.trials,
                max_concurrent_trials=self.share.concurrent,
                search_alg=make_searcher(self.space),
                scheduler=ladder,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=folder.ray_path.name,
                storage_path=str(folder.path.resolve()),
                callbacks=[observer],
                stop=deadline,
                # Trials keep their states themselves.
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                verbose=0,
            ),
        )

    def register(self, folder: SearchFolder, winner: TrialRecord, splits: Splits, name: str) -> str:
        """Logs the student of a trial as a model of its run, and registers it.

        Returns:
            The registered version, as a ``models:`` URI.
        """
        assert winner.run_id is not None  # it has begun
        weights = load_weights(state_path(folder.states, winner.id))
        architecture = winner.values["pair"].split("/")[1]
        student = load_student(architecture, splits.geometry, weights)
        served = ServedStudent(student, splits.mean, splits.std)
        return log_student(served, splits.validation.pixels[:_EXAMPLES], self.tracker, winner.run_id, name)


def with_precision(space: Space, device: torch.device) -> Space:
    """The space with ``precision: auto`` resolved once, so that every worker means the same by it."""
    train = dataclasses.replace(space.train, precision=resolve_precision(space.train.precision, device))
    recipe = space.teachers.recipe
    recipe = dataclasses.replace(recipe, precision=resolve_precision(recipe.precision, device))
    return dataclasses.replace(space, train=train, teachers=dataclasses.replace(space.teachers, recipe=recipe))


def _knock(address: str) -> None:
    """Raises UserError if nobody listens at a cluster's address: Ray itself would wait for many minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdecimal():
        return  # "auto", say, which Ray resolves
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot join the Ray cluster at {address} ({reason}); check the address") from None


class _Keeper:
    """Keeps every trial's record on disk."""

    def __init__(self, folder: SearchFolder) -> None:
        self._folder = folder

    def trial_started(self, trial: TrialRecord) -> None:
        self._folder.write_trial(trial)

    def trial_reported(self, trial: TrialRecord, metrics: dict[str, Any]) -> None:
        self._folder.write_trial(trial)

    def trial_ended(self, trial: TrialRecord) -> None:
        self._folder.write_trial(trial)

    def tick(self, trials: Any) -> None:
        """Nothing to keep between events."""
