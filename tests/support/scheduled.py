"""The scheduler of a search of nine epochs, and the decisions that it is asked for, without Ray."""

from __future__ import annotations

from types import SimpleNamespace

from ctkd_search.search.scheduler import GroupedAsha
from support import factories
from support.factories import a_space

STOP, CONTINUE = "STOP", "CONTINUE"


def a_trial(number, *accuracies, alpha=None, **more):
    """Return the record of a trial with a config of its own, unless it is given."""
    return factories.a_trial(number, *accuracies, values={"alpha": number if alpha is None else alpha}, **more)


def grouped_asha(*records, **sections):
    """Return the scheduler of a search of nine epochs with rungs after epochs 1 and 3, and its trials."""
    known = {record.number: record for record in records}
    given = sections.pop("scheduler", "asha")
    scheduler = {"name": given} if isinstance(given, str) else given
    if scheduler["name"] != "none":
        scheduler = {"signal": "objective", "horizon": 0, **scheduler}
    return GroupedAsha(a_space(**sections, scheduler=scheduler), known), known


def decision(found, known, number, epoch, accuracy, **more):
    """Returns the decision about a trial that reports a value; an unknown trial begins."""
    known.setdefault(number, a_trial(number, status="running", **more))
    trial = SimpleNamespace(config={"number": number}, trial_id=f"r{number}")
    result = {"training_iteration": epoch, "metrics": (("validation_accuracy", accuracy),)}
    return found.on_trial_result(None, trial, result)
