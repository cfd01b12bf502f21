"""The run of a final training: the trainings that are left, and then the test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console

from ctkd_search.analysis.final_lines import first_student
from ctkd_search.analysis.time_left import TimeLeft
from ctkd_search.data import Splits
from ctkd_search.display.progress import FinalProgress
from ctkd_search.final.plan import FinalPlan
from ctkd_search.final.results import flat, keep_student, measure_on_test
from ctkd_search.records.listener import TrialListener
from ctkd_search.records.store import FINISHED, WAITING, SearchFolder, SearchRecord, TrialRecord
from ctkd_search.search.prepare import need_of
from ctkd_search.search.runner import TrialRunner
from ctkd_search.search.searcher import PendingSearcher
from ctkd_search.students.kept import STUDENT_FILE
from ctkd_search.students.registration import kept_student
from ctkd_search.tracking.tracker import Parent

if TYPE_CHECKING:
    from ctkd_search.search.session import Session


class FinalRunner(TrialRunner):
    """Trains every student of a final training to its end, and tests them.

    Args:
        session: Ray and MLflow.
        folder: The final training's directory.
        record: Its own record.
        splits: The images, without held out ones.
        console: The console to print to.
        plan: The plan.
        trials: Every training of the plan, before it begins.
        listeners: Further listeners of the trainings, called after the records are written.
    """

    def __init__(
        self,
        session: Session,
        folder: SearchFolder,
        record: SearchRecord,
        splits: Splits,
        console: Console,
        plan: FinalPlan,
        trials: Sequence[TrialRecord],
        listeners: Sequence[TrialListener] = (),
    ) -> None:
        epochs = plan.config.epochs
        left = TimeLeft(epochs, missing=self.missing_recordings)
        progress = FinalProgress(console, epochs, self.label_of, session.stop_signal.seconds_left, left)
        super().__init__(session, folder, record, splits, progress)
        self.plan = plan
        self._listeners = listeners
        self.keep_maps = plan.keeps_maps()
        self._add([trial for trial in trials if trial.number not in self.records])

    def _work(self) -> None:
        session, plan = self.session, self.plan
        trials = list(self.records.values())
        tags = {"ctkd.kind": "train", "ctkd.search": plan.name, "ctkd.final": self.folder.name}
        self._open(
            {**flat(session.config_of(trials[0])), "seeds": plan.seeds, "new_streams": plan.new_streams},
            self._listeners,
            parent=Parent(f"{plan.name}: final training", tags, "final.yaml"),
        )
        waiting = [session.config_of(trial) for trial in trials if trial.status == WAITING]
        if waiting and not self.stopped:
            self._prepare_teachers([need_of(config) for config in waiting])
            self._settle_share(waiting)
            self._run(None, len(trials))
        if not self.stopped:
            self._test()

    def _searcher(self) -> PendingSearcher:
        return PendingSearcher(self.records, self.share.concurrent, self.session.config_of, self._give_up)

    def _candidates(self, records: Sequence[TrialRecord]) -> list[TrialRecord]:
        return [trial for trial in records if trial.status == FINISHED]

    def _test(self) -> None:
        """Writes the student of the first seed, and tests every student."""
        trials = sorted(self.records.values(), key=lambda trial: trial.number)
        chosen = first_student(trials)
        # Before the test, which may fail: its images may be broken.
        self._keep_student(chosen)

        def keep(trial: TrialRecord) -> None:
            self.folder.write_trial(trial)
            self.session.tracker.trial_tested(trial)

        measure_on_test(
            self.plan.config,
            trials,
            lambda trial: kept_student(self.folder, trial, self.splits),
            keep,
            self.session.say,
        )
        if first_student(trials) is not chosen:  # its outputs on the test images were not finite
            self._keep_student(first_student(trials))

    def _keep_student(self, chosen: TrialRecord | None) -> None:
        """Writes the student of a training into the folder, or removes the file where there is none."""
        path = self.folder.path / STUDENT_FILE
        if chosen is None:
            path.unlink(missing_ok=True)
            return
        student = kept_student(self.folder, chosen, self.splits)
        keep_student(path, student, self.plan.config.student, self.splits)
