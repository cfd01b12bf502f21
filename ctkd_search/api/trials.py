"""Trials of a search or of a final training: one as an object, all of them as data frames."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ctkd_search.display.trial_rows import columns_of, kind_of, metric_keys, trial_rows
from ctkd_search.records.store import TrialRecord
from ctkd_search.records.trial_configs import label_of
from ctkd_search.space.definition import Space

if TYPE_CHECKING:
    import pandas

# Columns of a data frame of trials after those of the leaderboard's CSV file.
_FURTHER = ("reason", "baseline", "repeats", "student_seed", "run_id")
# The types of columns in which values may be missing: whole numbers stay whole, and None is not a number.
_TYPES = {
    **dict.fromkeys(("confirmed_seeds", "repeats", "student_seed"), "Int64"),
    **dict.fromkeys(("confirmed_mean", "confirmed_deviation"), "float"),
}


@dataclass(frozen=True)
class Trial:
    """A trial as it was when it was read; a change of it changes nothing in the search.

    Attributes:
        number: Its number in the search, from 1.
        kind: ``trial``, ``baseline``, ``confirmation``, or ``final`` in a final training.
        name: A short text with its baseline or the values that distinguish it.
        values: Values of its parameters, those that have an effect.
        seed: Seed of its stream and, in a search, of its student.
        status: ``waiting``, ``running``, ``paused``, ``finished``, ``stopped early``, ``diverged``, ``failed`` or
            ``interrupted``.
        reason: Reason why it ended or waits.
        epochs: Metrics of each epoch, in order; accuracies are shares in [0, 1], losses are in nats, ``seconds`` in
            seconds, ``at`` in milliseconds since 1970.
        objective: Name of the metric that it is judged by, as in ``epochs``.
        value: Its objective after the last epoch; None if that was not measured.
        baseline: Name of the baseline that it is, or None.
        repeats: Number of the trial whose config it confirms with another seed, or None.
        run_id: Its run in MLflow, if there is one yet.
    """

    number: int
    kind: str
    name: str
    values: Mapping[str, Any]
    seed: int
    status: str
    reason: str
    epochs: Sequence[Mapping[str, Any]]
    objective: str
    value: float | None
    baseline: str | None
    repeats: int | None
    run_id: str | None

    def __repr__(self) -> str:
        measured = "" if self.value is None else f", {self.objective} {self.value:.4g}"
        epochs = f"{len(self.epochs)} epoch{'' if len(self.epochs) == 1 else 's'}"
        return f"<Trial {self.number} ({self.name}): {self.status}, {epochs}{measured}>"


def as_trial(space: Space, record: TrialRecord) -> Trial:
    """Returns a trial from its record."""
    return Trial(
        record.number,
        kind_of(record),
        label_of(space, record),
        copy.deepcopy(record.values),
        record.seed,
        record.status,
        record.reason,
        copy.deepcopy(record.epochs),
        record.objective,
        record.value,
        record.baseline,
        record.repeats,
        record.run_id,
    )


def trial_frame(space: Space, trials: Sequence[TrialRecord], leader: TrialRecord | None) -> pandas.DataFrame:
    """Returns a data frame with a row for each trial; see `ctkd_search.display.trial_rows`."""
    import pandas

    columns = [*columns_of(space, trials), *_FURTHER]
    rows = [{key: _hashable(row[key]) for key in columns} for row in trial_rows(space, trials, leader)]
    frame = pandas.DataFrame(rows, columns=columns)
    return frame.astype(_TYPES | dict.fromkeys(metric_keys(space), "float"))


def _hashable(value: Any) -> Any:
    """Returns a tuple for a list, so that rows can be grouped by it."""
    return tuple(value) if isinstance(value, list) else value


def epoch_frame(trials: Sequence[TrialRecord]) -> pandas.DataFrame:
    """Returns a data frame with a row for each epoch of each trial: ``trial``, ``epoch``, and each metric."""
    import pandas

    rows = [{"trial": trial.number, **epoch} for trial in trials for epoch in trial.epochs]
    names = dict.fromkeys(["trial", "epoch", *(name for row in rows for name in row)])
    frame = pandas.DataFrame(rows, columns=list(names))
    if "at" in frame:
        frame["at"] = pandas.to_datetime(frame["at"], unit="ms", utc=True)
    return frame
