"""The conclusion of a search's parent run: artifacts, summary, and the mark of the winner."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ctkd_search.analysis.standing import confirmed, gap_to
from ctkd_search.display.leaderboard_file import first_of_each, leaderboard_csv, leaderboard_text, summary
from ctkd_search.records.store import FINISHED, SearchRecord, TrialRecord
from ctkd_search.space.definition import Space
from ctkd_search.tracking.tracker import Tracker

_BEST = "ctkd.best"


def conclude_parent(
    tracker: Tracker,
    space: Space,
    search: SearchRecord,
    trials: Sequence[TrialRecord],
    winner: TrialRecord,
    model: str,
) -> None:
    """Logs the leaderboard, marks the winner's run, and closes the parent run.

    Args:
        tracker: The search's runs, with everything delivered.
        space: The space.
        search: The search's own record.
        trials: Every trial.
        winner: The winner.
        model: The registered model, as a ``models:`` URI; empty if there is none.
    """
    tracker.log_text(leaderboard_text(space, search, trials), "leaderboard.txt")
    tracker.log_text(leaderboard_csv(space, trials, winner), "leaderboard.csv")
    _mark(tracker, winner)
    tracker.finish(
        "FINISHED",
        _measures(trials, winner),
        {
            "ctkd.best_trial": str(winner.number),
            "ctkd.best_run": winner.run_id or "",
            "ctkd.model": model,
            # MLflow shows this as the run's description.
            "mlflow.note.content": summary(space, trials, winner),
        },
    )


def _measures(trials: Sequence[TrialRecord], winner: TrialRecord) -> dict[str, float]:
    """Returns metrics of the winner; shares and their differences in [0, 1]."""
    judge = winner.metric
    measures = {"winner_validation_accuracy": winner.accuracy, "trials": float(len(trials))}
    if winner.value is not None:
        measures[f"winner_{judge.key}"] = winner.value
    mean = next((config.estimate for config in confirmed(trials) if config.trial is winner), None)
    if mean:
        measures |= {
            f"winner_confirmed_{judge.name}": mean.mean,
            "winner_confirmed_seeds": float(mean.n),
        }
        if math.isfinite(mean.half_width):
            measures["winner_confirmed_half_width"] = mean.half_width
    for baseline in first_of_each(trials):
        gap = gap_to(trials, winner, baseline) if baseline.status == FINISHED else None
        if gap is not None:
            measures[f"ahead_of_{baseline.baseline}"] = -judge.sign * gap.mean
    return measures


def _mark(tracker: Tracker, winner: TrialRecord) -> None:
    """Tags the winner's run as the best, and removes the tag from any other run."""
    mlflow, children = tracker.mlflow, f"tags.`mlflow.parentRunId` = '{tracker.parent_id}'"
    for run in mlflow.client.search_runs([mlflow.experiment_id], f"{children} and tags.`{_BEST}` = 'true'"):
        if run.info.run_id != winner.run_id:
            mlflow.client.delete_tag(run.info.run_id, _BEST)
    if winner.run_id:
        mlflow.log(winner.run_id, tags={_BEST: "true"})
