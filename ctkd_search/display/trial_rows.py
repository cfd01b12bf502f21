"""The trials of a search as rows of plain values, for a CSV file and for a data frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ctkd_search.analysis.standing import confirmed
from ctkd_search.display.comparisons import measured_of
from ctkd_search.metrics import ACCURACY
from ctkd_search.records.store import BASELINE, FINAL, TrialRecord
from ctkd_search.records.trial_configs import label_of
from ctkd_search.space.definition import Space

# The columns of a table of trials before those of its metrics, and between them and those of the parameters.
_BEFORE = ("trial", "kind", "winner", "name", "status", "epochs")
_AFTER = ("seconds", "own_seconds", "seed", "confirmed_mean", "confirmed_deviation", "confirmed_seeds")


def parameter_names(space: Space, trials: Sequence[TrialRecord]) -> list[str]:
    """Returns the names of all parameters that trials have values of, in the order of the space."""
    names = [name for name in space.parameters if any(name in trial.values for trial in trials)]
    return names + sorted({name for trial in trials for name in trial.values} - set(names))


def metric_keys(space: Space) -> list[str]:
    """Returns the keys of the metrics of a space's trials, the accuracy first."""
    return [metric.key for metric in dict.fromkeys([ACCURACY, *measured_of(space)])]


def columns_of(space: Space, trials: Sequence[TrialRecord]) -> list[str]:
    """Returns the columns of a table of trials, which has them without a single trial too."""
    return [*_BEFORE, *metric_keys(space), *_AFTER, *parameter_names(space, trials)]


def trial_rows(space: Space, trials: Sequence[TrialRecord], leader: TrialRecord | None) -> list[dict[str, Any]]:
    """Returns a row for each trial, with the columns of `columns_of` and a few more.

    Accuracies and calibration errors are shares in [0, 1], losses are in nats; ``confirmed_mean`` is the mean of the
    metric that trials are ranked by. ``own_seconds`` exclude the time in which a trial recorded experts for all others,
    or waited for such a recording. What is not known is None.

    Args:
        space: The space.
        trials: The trials, in the order of the rows.
        leader: The winner, if there is one.
    """
    metrics = metric_keys(space)
    parameters = parameter_names(space, trials)
    means = {config.trial.number: config.estimate for config in confirmed(trials)}
    rows = []
    for trial in trials:
        mean = means.get(trial.number)
        known = {
            "trial": trial.number,
            "kind": kind_of(trial),
            "winner": trial is leader,
            "name": label_of(space, trial),
            "status": trial.status,
            "epochs": len(trial.epochs),
            "seconds": trial.seconds,
            "own_seconds": trial.own_seconds,
            "seed": trial.seed,
            "confirmed_mean": mean.mean if mean else None,
            "confirmed_deviation": mean.deviation if mean and not math.isnan(mean.deviation) else None,
            "confirmed_seeds": mean.n if mean else None,
            "reason": trial.reason,
            "baseline": trial.baseline,
            "repeats": trial.repeats,
            "student_seed": trial.student_seed,
            "run_id": trial.run_id,
        }
        measured = {key: trial.epochs[-1].get(key) if trial.epochs else None for key in metrics}
        rows.append({**known, **measured, **{name: trial.values.get(name) for name in parameters}})
    return rows


def kind_of(trial: TrialRecord) -> str:
    """Returns the kind of a trial: ``trial``, ``baseline``, ``confirmation``, or ``final`` in a final training."""
    if trial.repeats is not None:
        return "confirmation"
    return {BASELINE: "baseline", FINAL: "final"}.get(trial.kind, "trial")
