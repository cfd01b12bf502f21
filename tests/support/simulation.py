"""A search without Ray, processes and training: a clock that counts, workers, and accuracies that stand in a table."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

from ray.tune.schedulers import TrialScheduler
from ray.tune.utils import flatten_dict

from ctkd_search.analysis.pareto import objective_values
from ctkd_search.records.listener import TrialListener
from ctkd_search.records.store import DIVERGED, FAILED, PAUSED, WAITING, SearchFolder
from ctkd_search.search.comparisons import missing_baselines
from ctkd_search.search.observer import Observer
from ctkd_search.search.record_writer import RecordWriter
from ctkd_search.search.scheduler import GroupedAsha
from ctkd_search.search.searcher import OptunaSearcher
from ctkd_search.search.stop_signal import StopSignal
from ctkd_search.search.study import Study

COSTS = {"resnet8": {"params": 78_042.0}, "wrn-16-1": {"params": 175_066.0}}


class Killed(BaseException):
    """An exception in place of the end of a process, which nothing catches."""


class Fuse(TrialListener):
    """Ends the process at the n-th moment at which something is written, reported or requested.

    Args:
        moments: Which one; None for never.
    """

    def __init__(self, moments: int | None = None) -> None:
        self.left = math.inf if moments is None else moments

    def burn(self, *told: object) -> None:
        """One moment passes."""
        self.left -= 1
        if self.left <= 0:
            raise Killed

    # As a listener, it burns at every event.
    trial_started = trial_reported = trial_ended = burn


class Folder(SearchFolder):
    """A search's directory; the process may end just before a record is written, and just after."""

    def __init__(self, root, fuse: Fuse, durable: bool) -> None:
        super().__init__(root, "x")
        self._fuse = fuse
        self._durable = durable

    def write_trial(self, trial) -> None:
        """Keeps one trial."""
        self._fuse.burn()
        if self._durable:
            super().write_trial(trial)
        self._fuse.burn()


@dataclass
class Outcome:
    """The outcome of a trial that is never stopped.

    Attributes:
        accuracies: After each epoch.
        diverges: Whether the loss of the last epoch given is no finite number.
        ticks: How long an epoch takes.
        fails: After how many epochs it raises.
        message: What it raises, as the last line of Ray's error file.
        failures: How often it does.
    """

    accuracies: list[float]
    diverges: bool = False
    ticks: int = 1
    fails: int | None = None
    message: str = "OSError: [Errno 5] Input/output error"
    failures: int = 0


@dataclass
class Simulation:
    """One run of a search: its parts are the real ones, put together as SearchRunner does it.

    Args:
        space: The space.
        root: The directory of all searches.
        outcome: What becomes of a trial, by its record.
        workers: Trials at once.
        fuse: When the process ends.
        durable: Whether anything is written to the disk, from which another run may go on.
    """

    space: object
    root: object
    outcome: Callable
    workers: int = 1
    fuse: Fuse = field(default_factory=Fuse)
    durable: bool = True

    def __post_init__(self) -> None:
        space = self.space
        self.root.mkdir(exist_ok=True)
        self.folder = Folder(self.root, self.fuse, self.durable)
        self.folder.path.mkdir(exist_ok=True)
        self.said = []
        # Every decision that the scheduler was asked for: number, epoch, accuracy, whether it goes on.
        self.decisions = []
        # Every trial that began or went on: how many decisions there were before, its number, and its epochs so far.
        self.starts = []
        # Every trial that diverged or failed for good: how many decisions there were before, and its number.
        self.lost = []
        self.records = {trial.number: trial for trial in self.folder.trials()}
        for trial in self.records.values():
            if not trial.idle:
                trial.status, trial.reason = WAITING, ""
        self.study = Study(
            space,
            self.folder.study if self.durable else None,
            "x",
            lambda trial: objective_values(trial, space.strategy.objectives, COSTS),
        )
        self.study.begin()
        self.study.catch_up(list(self.records.values()))
        for trial in missing_baselines(space, self.records):
            self.folder.write_trial(trial)
            self.records[trial.number] = trial
        self.stop_signal = StopSignal(None)
        self.scheduler = GroupedAsha(space, self.records)
        writer = RecordWriter(self.folder, self.records, lambda records: [], lambda number: None)
        self.observer = Observer(
            space.budget.epochs,
            space.resources.retries,
            self.folder.states,
            [writer, self.study, self.fuse],
            self.records,
            self.stop_signal,
            self.said.append,
            self.scheduler,
        )
        self.searcher = OptunaSearcher(
            space,
            self.folder,
            self.study,
            self.records,
            self.workers,
            space.budget.trials,
            self._give_up,
            self.scheduler,
        )

    def _give_up(self, error: Exception) -> None:
        raise error

    def run(self) -> Simulation:
        """Plays Ray until there is nothing left to do."""
        clock, begun, events = 0, 0, []
        while True:
            while not self.stop_signal.stop_all() and isinstance(answer := self.searcher.suggest(f"r{begun}"), dict):
                trial = SimpleNamespace(trial_id=f"r{begun}", config=answer, last_result=None, error_file=None)
                self.starts.append((len(self.decisions), answer["number"], len(self.records[answer["number"]].epochs)))
                self.observer.on_trial_start(0, [], trial)
                heapq.heappush(events, (clock + self._outcome(trial).ticks, begun, 1, trial))
                begun += 1
            if self.stop_signal.stop_all():
                return self
            if not events:
                self.observer.stop_paused([trial for trial in self.records.values() if trial.status == PAUSED])
                return self
            clock, order, epoch, trial = heapq.heappop(events)
            if self._epoch(trial, epoch):
                heapq.heappush(events, (clock + self._outcome(trial).ticks, order, epoch + 1, trial))

    def _outcome(self, trial) -> Outcome:
        return self.outcome(self.records[trial.config["number"]])

    def _epoch(self, trial, epoch: int) -> bool:
        """One epoch of a trial, and whether there is another one."""
        goes_on = self._played(trial, epoch)
        record = self.records[trial.config["number"]]
        if record.status in (DIVERGED, FAILED):
            self.lost.append((len(self.decisions), record.number))
        return goes_on

    def _played(self, trial, epoch: int) -> bool:
        """One epoch of a trial, as Ray handles it; whether there is another one."""
        outcome, record = self._outcome(trial), self.records[trial.config["number"]]
        if outcome.fails == epoch - 1 and record.retries < outcome.failures:
            trial.error_file = self.root / "error.txt"
            trial.error_file.write_text(f"Failure # 1 (occurred at noon)\n{outcome.message}\n")
            self.searcher.on_trial_complete(trial.trial_id, error=True)
            self.observer.on_trial_error(0, [], trial)
            return False
        accuracy = outcome.accuracies[epoch - 1]
        diverged = outcome.diverges and epoch == len(outcome.accuracies)
        metrics = {"epoch": epoch, "validation_accuracy": accuracy, "seconds": 1.0}
        metrics["averaged_validation_loss"] = 1 - accuracy
        result = {"training_iteration": epoch, "metrics": tuple(metrics.items()), "notes": []}
        result |= {"diverged": diverged, "done": diverged or epoch >= self.space.budget.epochs}
        goes_on = not result["done"]
        if goes_on:  # of one that is done by itself, Ray does not ask
            goes_on = self.scheduler.on_trial_result(None, trial, flatten_dict(result)) == TrialScheduler.CONTINUE
            self.decisions.append((record.number, epoch, accuracy, goes_on))
        self.observer.on_trial_result(0, [], trial, result)
        trial.last_result = result
        if not goes_on:
            self.searcher.on_trial_complete(trial.trial_id, result)
            self.observer.on_trial_complete(0, [], trial)
        return goes_on


def study_in(path, space, costs=COSTS):
    """Opens a study in a file, or one in memory for None."""
    return Study(space, path, "x", lambda trial: objective_values(trial, space.strategy.objectives, costs))
