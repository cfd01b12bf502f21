"""Suggestions of a study that is opened and told of results as a search does it."""

from __future__ import annotations

import math

from ctkd_search.records.store import FINISHED, RUNNING, STOPPED
from ctkd_search.search.study import Study
from support.factories import a_trial

SAMPLERS = {
    "tpe": {"name": "tpe", "startup_trials": 3},
    "gp": {"name": "gp", "startup_trials": 3},
    "cmaes": {"name": "cmaes", "population": 4},
    "qmc": "qmc",
    "random": "random",
}


def opened(path, space, records=()):
    """Return a study as a search opens it."""
    study = Study(space, path, "x", lambda trial: [trial.accuracy])
    study.begin()
    study.catch_up(records)
    return study


def next_trial(study, records, objective):
    """Asks for a trial. The one before the last ends only now, so that there is always one that runs."""
    number = len(records) + 1
    asked, stored, _ = study.ask(number, [record.optuna for record in records])
    records.append(a_trial(number, stored=stored, optuna=asked, status=RUNNING))
    if number > 1:
        ended = records[-2]
        ended.epochs.append({"epoch": 1, "validation_accuracy": objective(ended.stored)})
        study.trial_reported(ended)
        ended.status = STOPPED if number % 3 == 0 else FINISHED
        study.trial_ended(ended)


def drawn(space, path, objective, count, reopen=()):
    """The values that a study suggests; it is closed and opened again before the trials in `reopen`."""
    study, records = opened(path, space), []
    while len(records) < count:
        if len(records) + 1 in reopen:
            study = opened(path, space, records)
        next_trial(study, records, objective)
    return [record.stored for record in records]


def towards(stored):
    """An objective with its best value inside the ranges."""
    return -abs(math.log(stored["alpha"])) - abs(stored["lr"] - 0.1)
