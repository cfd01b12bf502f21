"""The winner's student, logged and registered."""

from __future__ import annotations

from ctkd_search.data import Splits
from ctkd_search.distill.weights import load_weights
from ctkd_search.results.model import ServedStudent, load_student, log_student
from ctkd_search.results.store import SearchFolder, TrialRecord
from ctkd_search.search.states import state_path
from ctkd_search.search.tracking import Tracker

_EXAMPLES = 4


def register(folder: SearchFolder, winner: TrialRecord, splits: Splits, tracker: Tracker, name: str) -> str:
    """Logs the student of a trial as a model of its run, and registers it.

    Returns:
        The registered version, as a ``models:`` URI.
    """
    run_id = tracker.run_id(winner.number)
    assert run_id is not None  # everything has been delivered
    weights = load_weights(state_path(folder.states, winner.number))
    architecture = winner.values["pair"].split("/")[1]
    student = load_student(architecture, splits.geometry, weights)
    served = ServedStudent(student, splits.mean, splits.std)
    return log_student(served, splits.validation.pixels[:_EXAMPLES], tracker.mlflow, run_id, name)
