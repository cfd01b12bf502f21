"""One sitting at a search: from where it stands to its end."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from rich.console import Console

from ctkd_search.data import Splits
from ctkd_search.errors import UserError, WorkFailed
from ctkd_search.results.mlflow_view import view_tag
from ctkd_search.results.pareto import objective_values
from ctkd_search.results.store import (
    INTERRUPTED,
    TEACHERS,
    WAITING,
    SearchFolder,
    SearchRecord,
    TrialRecord,
    contenders,
)
from ctkd_search.results.trial_configs import config_of, label_of
from ctkd_search.search.comparisons import missing_baselines, missing_confirmations, to_confirm
from ctkd_search.search.costs import measure_costs, within_limits
from ctkd_search.search.failures import is_full_disk
from ctkd_search.search.keeper import Keeper
from ctkd_search.search.machine import Share
from ctkd_search.search.observer import DISK_FULL, PACKED_TOO_TIGHTLY, Observer
from ctkd_search.search.packing import looser, pack
from ctkd_search.search.prepare import Need, describe_maps, need_of, needs_of_space, prepare_teachers
from ctkd_search.search.progress import Progress
from ctkd_search.search.scheduler import Halt, Ladders
from ctkd_search.search.searcher import Agenda
from ctkd_search.search.session import INTERRUPTION
from ctkd_search.search.study import Study
from ctkd_search.search.trainable import DistillationTrial
from ctkd_search.space import Space

if TYPE_CHECKING:
    from ctkd_search.search.session import Session

# An earlier search to begin from: its name, its space and its trials.
WarmStart = tuple[str, Space, list[TrialRecord]]
_SCRATCH = "ctkd-search-"
_DAY = 86400.0


class Sitting:
    """Runs the trials of a search: baselines, those that Optuna suggests, and the confirmation of the winner.

    Args:
        session: Ray and MLflow.
        folder: The search's directory.
        record: Its own record.
        splits: The images.
        console: Where to draw.
    """

    def __init__(
        self, session: Session, folder: SearchFolder, record: SearchRecord, splits: Splits, console: Console
    ) -> None:
        self.session = session
        self.folder = folder
        self.record = record
        self.splits = splits
        self.teachers = session.trials_dir / TEACHERS
        self.records = {trial.number: trial for trial in folder.trials()}
        for trial in self.records.values():
            if not trial.ended:
                trial.status, trial.reason = WAITING, ""
        self.splits_ref = ray.put(splits)
        self.progress = Progress(
            console, self.space.budget.epochs, lambda trial: label_of(self.space, trial), session.halt.left
        )

    @property
    def space(self) -> Space:
        """The space, without the pairs that cost too much."""
        return self.session.space

    @property
    def share(self) -> Share:
        """What a trial gets."""
        return self.session.share

    def run(self, warm_start: WarmStart | None) -> list[TrialRecord]:
        """Runs everything that is left to do.

        Args:
            warm_start: An earlier search to begin from.

        Returns:
            Every trial of the search, those from before an interruption included.

        Raises:
            KeyboardInterrupt: The user stopped it; the search can go on.
            WorkFailed: The teachers could not be trained, or the disk is full.
        """
        try:
            self._prepare(warm_start)
            self._explore()
            if self.session.halt.reason is None:
                self._confirm()
        except BaseException as error:
            self._close(error)
            if is_full_disk(error) and not isinstance(error, UserError | WorkFailed):
                raise self._disk_full() from None
            raise
        return sorted(self.records.values(), key=lambda trial: trial.number)

    def _prepare(self, warm_start: WarmStart | None) -> None:
        """Everything up to the first trial."""
        session, record = self.session, self.record
        if self.space.strategy.costs:
            if not record.costs:
                record.costs = measure_costs(self.space, self.splits, self.share)
                self.folder.write(record)
            session.space = within_limits(self.space, record.costs, session.say)
        self.study = Study(
            self.space,
            self.folder.study,
            record.name,
            lambda trial: objective_values(trial, self.space.strategy.objectives, record.costs),
        )
        if warm_start:
            taken, there = self.study.take(*warm_start)
            session.say(f"warm start: {taken} of the {there} trials of {warm_start[0]!r} are trials of this space too")
        self.study.begin()
        self.study.catch_up(list(self.records.values()))
        self._add(missing_baselines(self.space, self.records))
        self.ladders = Ladders(self.space, self.records)
        record.run_id = session.tracker.begin(record, _parent_params(self.space, record), list(self.records.values()))
        if self.space.tracking.system_metrics:
            session.tracker.watch_machine()
        session.tracker.set_view(*view_tag(self.space, record.name, record.run_id))
        self.folder.write(record)
        keeper = Keeper(self.folder, self.records, self._candidates, session.tracker.run_id)
        self.observer = Observer(
            self.space.budget.epochs,
            self.space.resources.retries,
            self.folder.states,
            [keeper, self.study, session.tracker, self.progress],
            self.records,
            session.halt,
            session.say,
        )
        if not self._left():
            return
        baselines = [trial for trial in self.records.values() if trial.baseline and not trial.ended]
        needs = [*needs_of_space(self.space), *(need_of(config_of(self.space, trial)) for trial in baselines)]
        record.experts |= self._prepare_teachers(needs)
        self.folder.write(record)
        if self.space.resources.trials_per_gpu == "auto":
            configs = self.space.largest_configs()
            session.share = pack(self.share, configs, self.splits_ref, self.teachers, session.gpus, session.cpus)
        session.say(f"trials: {self.share}")

    def _prepare_teachers(self, needs: Sequence[Need]) -> dict[str, float | None]:
        say = self.session.say
        if maps := describe_maps(needs, len(self.splits.train), self.splits.geometry.image_size):
            say(maps)
        return prepare_teachers(needs, self.record.name, self.splits, self.splits_ref, self.teachers, self.share, say)

    def _add(self, trials: Sequence[TrialRecord]) -> None:
        for trial in trials:
            self.folder.write_trial(trial)
            self.records[trial.number] = trial

    def _candidates(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """The trials that may win, as far as can be seen now."""
        confirm = self.space.strategy.confirm
        confirmable = to_confirm(self.space, records, self.record.costs)
        if len(self.space.strategy.objectives) == 1:
            confirmable = confirmable[: confirm.best if confirm else 1]
        # Of a front, what is far down now may come up once something above it is beaten.
        return [*confirmable, *contenders(records)[:1]]

    def _left(self) -> int:
        """How many trials are left to run before the confirmation."""
        explored = sum(trial.explores for trial in self.records.values())
        waiting = sum(trial.status == WAITING for trial in self.records.values())
        return waiting + max(0, self.space.budget.trials - explored)

    def _explore(self) -> None:
        """Runs the baselines, and the trials that Optuna suggests."""
        if self._left():
            explored = sum(trial.explores for trial in self.records.values())
            trials = max(self.space.budget.trials, explored)
            self._run(trials, len(self.records) - explored + trials)

    def _confirm(self) -> None:
        """Trains the best configs again with fresh seeds, and the baselines beside them."""
        self._add(missing_confirmations(self.space, self.records, self.record.costs))
        waiting = [trial for trial in self.records.values() if trial.status == WAITING]
        if not waiting:
            return
        seeds = sorted({trial.seed for trial in waiting})
        configs = {trial.repeats for trial in waiting}
        self.session.say(
            f"confirming the winner: {len(configs)} configs, baselines included, with {len(seeds)} fresh seeds"
        )
        self._prepare_teachers([need_of(config_of(self.space, trial)) for trial in waiting])
        self._run(0, len(self.records))

    def _run(self, trials: int, expected: int) -> None:
        """Runs what waits, and as many trials as Optuna is asked for."""
        session, halt = self.session, self.session.halt
        while True:
            self.observer.packed = 0 < self.share.gpus < 1
            self.progress.expect(expected, self.share.concurrent)
            agenda = Agenda(
                self.space, self.folder, self.study, self.records, self.share.concurrent, trials, self._give_up
            )
            self.failure: Exception | None = None
            session.tuning = True
            try:
                with self.progress:
                    self._fit(agenda)
            finally:
                session.tuning = False
            if self.failure is not None:
                raise self.failure
            if halt.reason == INTERRUPTION:
                raise KeyboardInterrupt
            if halt.reason == DISK_FULL:
                raise self._disk_full()
            if halt.reason == PACKED_TOO_TIGHTLY:
                self.observer.close_running(WAITING, PACKED_TOO_TIGHTLY)
                session.share = looser(self.share, session.gpus, session.cpus)
                session.say(f"{PACKED_TOO_TIGHTLY}; trials: {self.share}")
                halt.again()
                continue
            if halt.reason is not None:
                self.observer.close_running(INTERRUPTED, halt.reason)
            return

    def _disk_full(self) -> WorkFailed:
        place = self.session.trials_dir
        return WorkFailed(f"the disk that holds {place} is full; make room and go on with: {self.record.again}")

    def _give_up(self, error: Exception) -> None:
        """Called when the next trial cannot be asked for or noted."""
        if is_full_disk(error):
            self.session.halt.because(DISK_FULL)
        else:
            self.failure = error
            self.session.halt.because("no trial can be begun")

    def _fit(self, agenda: Agenda) -> None:
        """Lets Ray Tune run trials until the agenda has no more."""
        trainable = tune.with_resources(
            tune.with_parameters(
                DistillationTrial,
                splits_ref=[self.splits_ref],
                teachers=str(self.teachers),
                states=str(self.folder.states),
                search=self.folder.name,
                device=self.share.device,
                threads=self.share.cpus,
            ),
            {"cpu": self.share.cpus, "gpu": self.share.gpus},
        )
        run_trials(trainable, agenda, self.ladders, self.observer, self.session.halt, self.share.concurrent)

    def _close(self, error: BaseException) -> None:
        """Leaves no run of a search that ended before its time open."""
        tracker = self.session.tracker
        interrupted = isinstance(error, KeyboardInterrupt)
        try:
            if hasattr(self, "observer"):
                self.session.halt.again()
                self.observer.close_running(INTERRUPTED if interrupted else WAITING, INTERRUPTION)
            if tracker.parent_id:
                tracker.flush(10.0)
                reason = "interrupted" if interrupted else str(error)[:500]
                tracker.finish("KILLED" if interrupted else "FAILED", {}, {"ctkd.reason": reason})
        except Exception as problem:  # of a full disk, or a server that is away: what counts is already said
            self.session.say(f"the search's runs in MLflow stay open ({str(problem).splitlines()[0][:200]})")


def run_trials(
    trainable: Any, agenda: Agenda, ladders: Ladders, observer: Observer, halt: Halt, concurrent: int
) -> None:
    """Lets Ray Tune run an agenda. What Ray itself writes is not needed afterwards."""
    _sweep()
    scratch = tempfile.mkdtemp(prefix=f"{_SCRATCH}{os.getpid()}-")
    try:
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                num_samples=-1,
                max_concurrent_trials=None,
                search_alg=agenda,
                scheduler=ladders,
                reuse_actors=True,
                trial_name_creator=_name,
                trial_dirname_creator=_name,
            ),
            run_config=tune.RunConfig(
                name="ray",
                storage_path=scratch,
                callbacks=[observer],
                stop=halt,
                # Trials keep their states themselves.
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                verbose=0,
            ),
        ).fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _sweep() -> None:
    """Removes what processes that were killed have left."""
    for path in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        owner = path.name.removeprefix(_SCRATCH).partition("-")[0]
        # Of old ones only: the directory may be shared with machines whose processes are not seen here.
        old = time.time() - path.stat().st_mtime > _DAY
        if old and owner.isdecimal() and Path("/proc/self").exists() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(path, ignore_errors=True)


def _name(trial: Any) -> str:
    return f"{trial.config['number']:05d}-{trial.trial_id}"


def _parent_params(space: Space, record: SearchRecord) -> dict[str, Any]:
    budget, strategy = space.budget, space.strategy
    return {
        "dataset": space.dataset.name,
        "data_fingerprint": record.fingerprint[:16],
        "trials": budget.trials,
        "epochs": budget.epochs,
        "grace_period": budget.grace_period,
        "reduction_factor": budget.reduction_factor,
        "sampler": strategy.sampler.name,
        "scheduler": strategy.scheduler.name,
        "objectives": list(strategy.objectives),
        "teachers": space.teachers.mode,
        "seed": space.seed,
        **{f"search.{name}": str(entry) for name, entry in space.entries.items()},
    }
