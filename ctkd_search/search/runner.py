"""Running the trials of a search or of a final training, from where it stands to its end."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.tune import ProgressReporter
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from ctkd_search.config import TrialConfig
from ctkd_search.data import Splits
from ctkd_search.display.progress import Progress
from ctkd_search.distill.asked import ExpertKey, augmented_teacher
from ctkd_search.distill.missing import MissingRecordings
from ctkd_search.distill.requests import TeacherOutput
from ctkd_search.errors import UserError, WorkFailed
from ctkd_search.records.listener import TrialListener
from ctkd_search.records.store import INTERRUPTED, PAUSED, TEACHERS, WAITING, SearchFolder, SearchRecord, TrialRecord
from ctkd_search.records.trial_configs import label_of
from ctkd_search.resources import Share
from ctkd_search.search.failures import is_full_disk
from ctkd_search.search.observer import Observer
from ctkd_search.search.packing import looser, pack
from ctkd_search.search.prepare import Need, asked_of, describe_recordings, missing_recordings, prepare_teachers
from ctkd_search.search.record_writer import RecordWriter
from ctkd_search.search.scheduler import GroupedAsha
from ctkd_search.search.searcher import PendingSearcher
from ctkd_search.search.stop_signal import OutOfTime, StopReason, StopSignal
from ctkd_search.search.trainable import DistillationTrial
from ctkd_search.space.definition import Space
from ctkd_search.text import one_line
from ctkd_search.tracking.store import REASON, mlflow_error
from ctkd_search.tracking.tracker import Parent

if TYPE_CHECKING:
    from ctkd_search.search.session import Session

_SCRATCH = "ctkd-search-"
_DAY = 86400.0


class TrialRunner(ABC):
    """Base class that runs trials and handles failures and interruptions; derived classes choose the trials.

    Args:
        session: Ray and MLflow.
        folder: The directory of the records.
        record: The record of the search or final training.
        splits: The images.
        progress: Shows the progress.
    """

    def __init__(
        self, session: Session, folder: SearchFolder, record: SearchRecord, splits: Splits, progress: Progress
    ) -> None:
        self.session = session
        self.folder = folder
        self.record = record
        self.splits = splits
        self.progress = progress
        self.teachers = session.trials_dir / TEACHERS
        self.records = {trial.number: trial for trial in folder.trials()}
        for trial in self.records.values():
            if not trial.ended and trial.status != PAUSED:
                trial.status, trial.reason = WAITING, ""
        self.splits_ref = ray.put(splits)
        # Whether the experts' outputs are recorded, because more than one trial requests them.
        self.keep_maps = True
        # The outputs of each expert that all trials request; the trial that records an epoch records all of them.
        self.asked: dict[ExpertKey, tuple[TeacherOutput, ...]] = {}
        self._missing: MissingRecordings | None = None
        # Whether the share of a trial is determined.
        self._settled = False

    @property
    def space(self) -> Space:
        """The space, without the pairs beyond its limits."""
        return self.session.space

    @property
    def share(self) -> Share:
        """The share of a trial."""
        return self.session.share

    @property
    def stopped(self) -> bool:
        """Returns whether a callback has stopped the work, which can go on later."""
        return self.session.stop_signal.reason is StopReason.CALLBACK

    def close_stopped(self) -> None:
        """Closes the parent run of work that a callback has stopped before there was anything to conclude."""
        tracker = self.session.tracker
        if tracker.flush(self.space.tracking.patience):
            tracker.finish("KILLED", {}, {REASON: StopReason.CALLBACK.value})

    def say_stopped(self) -> None:
        """Prints that a callback has stopped the work, and what goes on with it."""
        self.session.say(f"{StopReason.CALLBACK.value}; go on with: {self.record.again}")

    def label_of(self, trial: TrialRecord) -> str:
        """Returns the short name of a trial."""
        return label_of(self.space, trial)

    def run(self) -> list[TrialRecord]:
        """Runs the work that is left.

        Returns:
            Every trial, including those from before an interruption.

        Raises:
            KeyboardInterrupt: The user stopped it; it can be resumed.
            WorkFailed: The teachers could not be trained, or the disk is full.
        """
        with self.closing():
            self._work()
        return sorted(self.records.values(), key=lambda trial: trial.number)

    @contextlib.contextmanager
    def closing(self) -> Iterator[None]:
        """Closes the runs in MLflow where the block, some part of the work, ends with an error or an interruption.

        Raises:
            WorkFailed: The disk is full.
        """
        try:
            yield
        except BaseException as error:
            self._close(error)
            if is_full_disk(error) and not isinstance(error, UserError | WorkFailed):
                raise self._disk_full() from None
            raise

    @abstractmethod
    def _work(self) -> None:
        """Does the work that is left."""

    @abstractmethod
    def _candidates(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """Returns the trials whose states may still be needed after they have ended."""

    @abstractmethod
    def _searcher(self) -> PendingSearcher:
        """Returns the searcher that hands out the trials."""

    def _open(
        self,
        params: Mapping[str, Any],
        listeners: Sequence[TrialListener] = (),
        parent: Parent | None = None,
        scheduler: GroupedAsha | None = None,
    ) -> None:
        """Begins or resumes the parent run in MLflow, and makes the observer.

        Args:
            params: Parameters of the parent run.
            listeners: Further listeners of the trials.
            parent: The description of the parent run; None for that of a search.
            scheduler: Decides which trials are paused; None where no trial is stopped early.
        """
        session = self.session
        self.record.run_id = session.tracker.begin(self.record, params, list(self.records.values()), parent)
        if self.space.tracking.system_metrics:
            session.tracker.watch_machine()
        self.folder.write(self.record)
        keeper = RecordWriter(self.folder, self.records, self._candidates, session.tracker.run_id)
        self.observer = Observer(
            self.space.budget.epochs,
            self.space.resources.retries,
            self.folder.states,
            [keeper, *listeners, session.tracker, self.progress],
            self.records,
            session.stop_signal,
            session.say,
            scheduler,
        )
        for listener in self.observer.listeners:
            listener.work_started()

    def _check_time(self) -> None:
        """Ends the training of teachers after the time budget, and where another process has taken the work over.

        Raises:
            OutOfTime: The time budget has ended.
            WorkFailed: Another process works on.
        """
        reason = self.session.stop_signal.reason
        if reason is StopReason.TAKEN_OVER:
            raise WorkFailed(reason.value)
        if reason is StopReason.TIME_BUDGET:
            raise OutOfTime(
                f"{reason.value} while teachers were trained, whose finished epochs are kept; go on with: "
                f"{self.record.again}"
            )

    def _prepare_teachers(self, needs: Sequence[Need]) -> dict[str, float | None]:
        say, check = self.session.say, self._check_time
        recorded = describe_recordings(needs, len(self.splits.train), self.splits.geometry) if self.keep_maps else None
        if recorded:
            say(recorded)
        self.asked = asked_of(needs)
        name = self.record.name
        named = {augmented_teacher(need.config): self.space.named_teacher(need.config) for need in needs}
        experts = prepare_teachers(
            needs, named, name, self.splits, self.splits_ref, self.teachers, self.share, say, check
        )
        if self.keep_maps:
            self._missing = missing_recordings(needs, self.splits, self.teachers, self.share)
        return experts

    def missing_recordings(self) -> Mapping[str, int]:
        """Returns the number of epochs of the experts that are not recorded yet, by the expert's architecture."""
        return self._missing.count() if self._missing else {}

    def _settle_share(self, configs: list[TrialConfig]) -> None:
        """Determines the share of a trial, and prints it.

        Args:
            configs: The largest trials, which are measured where as many trials as fit share a GPU.
        """
        session = self.session
        self._settled = True
        if self.space.resources.trials_per_gpu == "auto":
            session.share = pack(
                self.share,
                configs,
                self.splits_ref,
                self.teachers,
                self.asked,
                self.space.resources,
                session.nodes,
                session.trials,
            )
        session.say(f"trials: {self.share}")

    def _add(self, trials: Sequence[TrialRecord]) -> None:
        for trial in trials:
            self.folder.write_trial(trial)
            self.records[trial.number] = trial

    def _run(self, scheduler: TrialScheduler | None, expected: int) -> None:
        """Lets Ray run the trials that the searcher hands out.

        Args:
            scheduler: Stops trials early; None where no trial is stopped.
            expected: Number of trials in all.
        """
        session, stop_signal = self.session, self.session.stop_signal
        while True:
            self.observer.packed = 0 < self.share.gpus < 1
            self.progress.expect(expected, self.share.concurrent)
            self.failure: Exception | None = None
            session.tuning = True
            try:
                with self.progress:
                    self._fit(self._searcher(), scheduler or FIFOScheduler())
            finally:
                session.tuning = False
            if self.failure is not None:
                raise self.failure
            reason = stop_signal.reason
            if reason is StopReason.TAKEN_OVER:
                raise WorkFailed(reason.value)
            if reason is StopReason.INTERRUPTED:
                raise KeyboardInterrupt
            if reason is StopReason.DISK_FULL:
                raise self._disk_full()
            if reason is StopReason.GPU_MEMORY:
                self.observer.close_running(WAITING, reason.value)
                session.share = looser(self.share, self.space.resources, session.nodes)
                session.say(f"{reason.value}; trials: {self.share}")
                stop_signal.forget(reason)
                continue
            if reason is not None:
                self.observer.close_running(INTERRUPTED, reason.value)
            return

    def _disk_full(self) -> WorkFailed:
        place = self.session.trials_dir
        return WorkFailed(f"the disk of {place} is full; free some space, and go on with: {self.record.again}")

    def _give_up(self, error: Exception) -> None:
        """Stops all trials; called where the next trial cannot be suggested or recorded."""
        if is_full_disk(error):
            self.session.stop_signal.set(StopReason.DISK_FULL)
        else:
            self.failure = error
            self.session.stop_signal.set(StopReason.NO_NEXT_TRIAL)

    def _fit(self, searcher: PendingSearcher, scheduler: TrialScheduler) -> None:
        """Lets Ray Tune run trials until the searcher has no more."""
        trainable = tune.with_resources(
            tune.with_parameters(
                DistillationTrial,
                splits_ref=[self.splits_ref],
                teachers=str(self.teachers),
                states=str(self.folder.states),
                search=self.record.name,
                device=self.share.device,
                threads=self.share.cpus,
                keep_maps=self.keep_maps,
                asked=self.asked,
            ),
            {"cpu": self.share.cpus, "gpu": self.share.gpus},
        )
        run_trials(trainable, searcher, scheduler, self.observer, self.session.stop_signal)

    def _close(self, error: BaseException) -> None:
        """Closes the runs in MLflow after an error or an interruption."""
        if self.session.stop_signal.reason is StopReason.TAKEN_OVER:
            return  # records and runs belong to another process now
        tracker, signal = self.session.tracker, self.session.stop_signal
        interrupted = isinstance(error, KeyboardInterrupt)
        known = StopReason.INTERRUPTED if interrupted else signal.reason
        why = known.value if known else one_line(str(error), 500) or type(error).__name__
        try:
            if hasattr(self, "observer"):
                signal.forget()
                self.observer.close_running(INTERRUPTED if interrupted else WAITING, why)
            if tracker.parent_id:
                tracker.flush(10.0)
                reason = "interrupted" if interrupted else one_line(str(error), 500) or type(error).__name__
                tracker.finish("KILLED" if interrupted else "FAILED", {}, {REASON: reason})
        except Exception as problem:  # a full disk, or a server that is away; the first error is raised anyway
            self.session.say(f"the runs in MLflow stay open ({mlflow_error(problem)})")


def run_trials(
    trainable: Any,
    searcher: PendingSearcher,
    scheduler: TrialScheduler,
    observer: Observer,
    stop_signal: StopSignal,
) -> None:
    """Lets Ray Tune run trials until there are no more, and removes the files that Ray itself writes."""
    _sweep()
    scratch = tempfile.mkdtemp(prefix=f"{_SCRATCH}{os.getpid()}-")
    try:
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                num_samples=-1,
                max_concurrent_trials=None,
                search_alg=searcher,
                scheduler=scheduler,
                reuse_actors=True,
                trial_name_creator=_name,
                trial_dirname_creator=_name,
            ),
            run_config=tune.RunConfig(
                name="ray",
                storage_path=scratch,
                callbacks=[observer],
                progress_reporter=_NoReports(),
                stop=stop_signal,
                # Trials save their states themselves.
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                verbose=0,
            ),
        ).fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class _NoReports(ProgressReporter):
    """Reports nothing; in a notebook, Tune's own reporter would clear what the cell has printed."""

    def should_report(self, trials: list[Any], done: bool = False) -> bool:
        """Returns False."""
        return False

    def report(self, trials: list[Any], done: bool, *sys_info: str) -> None:
        """Does nothing."""


def _sweep() -> None:
    """Removes directories left by processes that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        owner = path.name.removeprefix(_SCRATCH).partition("-")[0]
        # Only old ones: the directory may be shared with machines whose processes are not visible here. Another process
        # may remove them at the same time.
        with contextlib.suppress(OSError):
            old = time.time() - path.stat().st_mtime > _DAY
            if old and owner.isdecimal() and Path("/proc/self").exists() and not Path(f"/proc/{owner}").exists():
                shutil.rmtree(path, ignore_errors=True)


def _name(trial: Any) -> str:
    return f"{trial.config['number']:05d}-{trial.trial_id}"
