"""The teachers of a search, as far as they are still in the teacher cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from ctkd_search.config import TrialConfig
from ctkd_search.distill.build import teacher_runs
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.engine import PRECISIONS
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.recording import TeacherRun, expert_runs, scratch_run
from ctkd_search.records.store import TrialRecord
from ctkd_search.report.spending import Spending, Use, live_teachers, per_epoch, summed

# The number of training images is not recorded; both batchings that may result from it are tried.
_UNKNOWN = 0


class KeptTeachers:
    """The trainings of teachers that a search used, as far as they are in the teacher cache.

    Args:
        directory: The teacher cache.
        fingerprint: Hash of the search's training images.
    """

    def __init__(self, directory: Path, fingerprint: str) -> None:
        self.cache = TeacherCache(directory)
        self._fingerprint = fingerprint
        # A space may leave the precision to the machine of the search, which may be another one than this.
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def scratch(self, config: TrialConfig) -> TeacherRun | None:
        """Returns the training of a config's scratch teacher, if it is kept."""
        return self._kept(scratch_run(config, self._fingerprint, self._device, _UNKNOWN), config)

    def records_scratch(self, config: TrialConfig) -> bool:
        """Returns whether a trial of a config has its scratch teacher recorded, as such or as its expert."""
        needs, where = make_method(config.method).needs, (self._fingerprint, self._device)
        return scratch_run(config, *where, _UNKNOWN) in teacher_runs(config, *where, needs, _UNKNOWN)

    def experts(self, config: TrialConfig) -> list[TeacherRun | None]:
        """Returns the training of each member of a config's expert, if it is kept; None where it is the user's own."""
        runs = expert_runs(config, self._fingerprint, self._device, _UNKNOWN)
        return [None if run is None else self._kept(run, config) for run in runs]

    def curve(self, run: TeacherRun) -> list[float] | None:
        """Returns the validation accuracy after each epoch; None if it was not recorded for all of them."""
        accuracies = (self.cache.about(run.expert()) or {}).get("validation_accuracies") or [None]
        return None if None in accuracies else accuracies

    def seconds(self, run: TeacherRun) -> list[float]:
        """Returns the seconds of each epoch of training, as far as they were recorded."""
        return list(self.cache.index.seconds(run.entry).values())

    def _kept(self, run: TeacherRun, config: TrialConfig) -> TeacherRun | None:
        free = config.teachers.recipe.precision == "auto"
        # This machine's own precision first.
        for precision in sorted(PRECISIONS, key=lambda name: name != run.recipe.precision):
            if precision != run.recipe.precision and not free:
                continue
            for joined in (True, False):
                recipe = dataclasses.replace(run.recipe, precision=precision)
                found = dataclasses.replace(run, recipe=recipe, joined=joined)
                if found.expert() in self.cache:
                    return found
        return None


def spending(teachers: KeptTeachers, trials: Sequence[tuple[TrialRecord, TrialConfig]]) -> Spending:
    """Returns the cost of a search with recorded teachers, with an estimate for live ones."""
    all_runs: dict[TeacherRun | None, None] = {}
    of_experts: dict[TeacherRun | None, None] = {}
    uses = []
    for trial, config in trials:
        needs = make_method(config.method).needs
        members = config.teachers.expert.members(config.teacher) if needs.any_expert else []
        own = [member.checkpoint is not None for member in members]
        scratch = teachers.scratch(config) if needs.any_scratch or any(own) else None
        experts = teachers.experts(config) if members else []
        if needs.any_scratch:
            all_runs[scratch] = None
        trained = [expert for expert, theirs in zip(experts, own, strict=True) if not theirs]
        all_runs |= dict.fromkeys(trained)
        of_experts |= dict.fromkeys(trained)
        # The user's own expert is as large as the scratch teacher.
        like_experts = [scratch if theirs else expert for expert, theirs in zip(experts, own, strict=True)]
        uses.append(
            Use(
                len(trial.epochs),
                _epoch(teachers, scratch) if needs.any_scratch else 0.0,
                summed(_epoch(teachers, run) for run in like_experts),
            )
        )
    live_scratch, live_expert = live_teachers([use for use in uses if use.epochs])
    return Spending(
        trials=sum(trial.own_seconds for trial, _ in trials),
        epochs=sum(len(trial.epochs) for trial, _ in trials),
        recording=sum(trial.seconds - trial.own_seconds for trial, _ in trials),
        teachers=summed(_whole(teachers, run) for run in all_runs),
        experts=summed(_whole(teachers, run) for run in of_experts),
        live_scratch=live_scratch,
        live_expert=live_expert,
    )


def _epoch(teachers: KeptTeachers, run: TeacherRun | None) -> float | None:
    return None if run is None else per_epoch(teachers.seconds(run))


def _whole(teachers: KeptTeachers, run: TeacherRun | None) -> float | None:
    """Returns the seconds of a whole training; None if not every epoch was recorded."""
    seconds = [] if run is None else teachers.seconds(run)
    return sum(seconds) if run is not None and len(seconds) == run.epochs else None
