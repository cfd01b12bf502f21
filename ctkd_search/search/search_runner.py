"""The run of a search: its baselines, the trials that Optuna suggests, and the confirmation of the winner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ctkd_search.analysis.pareto import objective_values
from ctkd_search.analysis.standing import not_confirmed, winner
from ctkd_search.analysis.stopping import finalists, going_on
from ctkd_search.analysis.time_left import Later, TimeLeft
from ctkd_search.data import Splits
from ctkd_search.display.progress import Progress
from ctkd_search.distill.asked import augmented_teacher, passes_of_teachers
from ctkd_search.records.listener import TrialListener
from ctkd_search.records.store import PAUSED, WAITING, SearchFolder, SearchRecord, TrialRecord
from ctkd_search.resources import teachers_at_once
from ctkd_search.search.comparisons import may_win, missing_baselines, missing_confirmations
from ctkd_search.search.costs import measure_costs
from ctkd_search.search.prepare import Need, need_of, needs_left, seconds_of_teachers
from ctkd_search.search.runner import TrialRunner
from ctkd_search.search.scheduler import GroupedAsha
from ctkd_search.search.searcher import OptunaSearcher
from ctkd_search.search.stop_signal import OutOfTime, StopReason
from ctkd_search.search.study import Study
from ctkd_search.search.warm_start import Source, begin_study
from ctkd_search.space.baselines import baseline_pairs
from ctkd_search.space.comparisons import each_needs_with_baselines
from ctkd_search.space.definition import Space
from ctkd_search.space.limits import within_limits
from ctkd_search.text import amount
from ctkd_search.tracking.view import view_tag

if TYPE_CHECKING:
    from ctkd_search.search.session import Session


class SearchRunner(TrialRunner):
    """Runs the trials of a search.

    Args:
        session: Ray and MLflow.
        folder: The search's directory.
        record: The search's record.
        splits: The images.
        console: The console to print to.
        sources: The earlier searches to begin from, compared.
        listeners: Further listeners of the trials, called after the records are written.
    """

    def __init__(
        self,
        session: Session,
        folder: SearchFolder,
        record: SearchRecord,
        splits: Splits,
        console: Console,
        sources: Sequence[Source],
        listeners: Sequence[TrialListener] = (),
    ) -> None:
        budget = session.space.budget
        left = TimeLeft(
            budget.epochs,
            session.space.rungs,
            going_on(session.space),
            self.missing_recordings,
            lambda: self._later,
            finalists=finalists(session.space),
        )
        progress = Progress(console, budget.epochs, self.label_of, session.stop_signal.seconds_left, left)
        super().__init__(session, folder, record, splits, progress)
        self._sources = sources
        self._listeners = listeners
        # Number of trials that Optuna suggests in all.
        self._asked = 0
        # The work that follows after the present trials.
        self._later = Later()

    def _work(self) -> None:
        try:
            self._prepare()
        except OutOfTime as over:
            if winner(list(self.records.values())) is None:
                raise
            # Of a search that goes on, as after its confirmation was interrupted.
            self.session.say(str(over))
            return
        self._explore()
        if self.session.stop_signal.reason is None:
            self._confirm()
        else:
            self._say_if_not_confirmed()

    def _prepare(self) -> None:
        """Prepares everything that the first trial needs."""
        session, record = self.session, self.record
        # Students that cannot be quantised are refused before any is trained.
        if self.space.strategy.costs or self.space.strategy.quantises:
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
        # Before anything is added to a study that lacks trials: Optuna numbers them in order.
        self.study.catch_up(list(self.records.values()))
        begin_study(self.study, self.space, record, self._sources, session.say)
        self.folder.write(record)
        self._add(missing_baselines(self.space, self.records))
        self.scheduler = GroupedAsha(self.space, self.records)
        self._open(_parent_params(self.space, record), [self.study, *self._listeners], scheduler=self.scheduler)
        session.tracker.set_view(*view_tag(self.space, record.name, session.tracker.parent_id))
        # A callback may have stopped the search when it began: its teachers are not trained then.
        if not self._left() or self.stopped:
            return
        needs = needs_left(self.space, self.records.values(), session.config_of)
        record.experts |= self._prepare_teachers(needs)
        self.folder.write(record)
        self._later = self._what_follows()
        self._settle_share(self.space.largest_configs())

    def _searcher(self) -> OptunaSearcher:
        concurrent = self.share.concurrent
        return OptunaSearcher(
            self.space,
            self.folder,
            self.study,
            self.records,
            concurrent,
            self._asked,
            self._give_up,
            self.scheduler,
        )

    def _candidates(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        """Returns the trials that may still win."""
        return may_win(self.space, records, self.record.costs)

    def _left(self) -> int:
        """Returns the number of trials that are left before the confirmation."""
        explored = sum(trial.explores for trial in self.records.values())
        waiting = sum(trial.status in (WAITING, PAUSED) for trial in self.records.values())
        return waiting + max(0, self.space.budget.trials - explored)

    def _explore(self) -> None:
        """Runs the baselines, and the trials that Optuna suggests."""
        if self._left() and not self.stopped:
            explored = sum(trial.explores for trial in self.records.values())
            self._asked = max(self.space.budget.trials, explored)
            self._run(self.scheduler, len(self.records) - explored + self._asked)
            if self.session.stop_signal.reason is None:
                self.observer.stop_paused([trial for trial in self.records.values() if trial.status == PAUSED])

    def _what_follows(self) -> Later:
        """Returns the work of the confirmation, assuming the first pair and augmentation, before any is known."""
        space, confirm = self.space, self.space.strategy.confirm
        if confirm is None:
            return Later()
        pair, config = space.pairs()[0], space.pair_configs()[0]
        baselines = len(baseline_pairs(space.strategy.baselines, [pair]))
        needs = [
            Need(config, needs)
            for other, needs in each_needs_with_baselines(space)
            if augmented_teacher(other) == augmented_teacher(config)
        ]
        passes = passes_of_teachers((need.config, need.needs) for need in needs).get(augmented_teacher(config), [])
        recorded = sum(each.epochs for each in passes) if space.teachers.mode != "live" else 0
        teachers = seconds_of_teachers(needs, self.splits, self.teachers, self.share)
        at_once = min(confirm.seeds, teachers_at_once(self.share)) if self.share.gpus else 1
        return Later(
            confirm.seeds * (space.confirmations() + baselines),
            {config.teacher: confirm.seeds * recorded},
            # Those of several seeds are trained side by side, which saves time where each has GPUs of its own.
            confirm.seeds * teachers / at_once,
        )

    def _confirm(self) -> None:
        """Trains the best configs and the baselines again with fresh seeds."""
        self._add(missing_confirmations(self.space, self.records, self.record.costs))
        waiting = [trial for trial in self.records.values() if trial.status == WAITING]
        if not waiting:
            return
        seeds = sorted({trial.seed for trial in waiting})
        configs = {trial.repeats for trial in waiting}
        self.session.say(
            f"confirming the winner: {amount(len(configs), 'config')}, baselines included, with "
            f"{amount(len(seeds), 'fresh seed')}"
        )
        self._later = Later()
        try:
            self._prepare_teachers([need_of(self.session.config_of(trial)) for trial in waiting])
        except OutOfTime as over:
            self.session.say(f"the winner is not confirmed: {over}")
            return
        if not self._settled:
            self._settle_share([self.session.config_of(trial) for trial in waiting])
        self._asked = 0
        self._run(self.scheduler, len(self.records))
        self._say_if_not_confirmed()

    def _say_if_not_confirmed(self) -> None:
        """Prints that the time budget has left no time to confirm the winner, if that is so."""
        line = not_confirmed(self.space, list(self.records.values()), self.record.again)
        if line and self.session.stop_signal.reason is StopReason.TIME_BUDGET:
            self.session.say(line)


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
