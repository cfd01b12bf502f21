"""When samplers begin to model, and which values they draw together."""

from __future__ import annotations

import logging

import optuna
import pytest
from optuna.trial import TrialState
from support.factories import a_space

from ctkd_search.search.sampler import make_sampler

COMPLETE, PRUNED, RUNNING = TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING


def a_study(space):
    sampler = make_sampler(space.strategy.sampler, space.seed, space.entries)
    return optuna.create_study(sampler=sampler, direction="maximize")


def ended(study, space, state, value=0.5):
    """Draws a trial, which ends so; returns it."""
    trial = study.ask()
    space.suggest(trial)
    if state == PRUNED:
        trial.report(value, 1)
    if state != RUNNING:
        study.tell(trial, value if state == COMPLETE else None, state=state)
    return trial


@pytest.mark.parametrize(
    ("startup", "states", "models"),
    [
        (4, [COMPLETE, PRUNED, PRUNED, COMPLETE], True),
        (4, [COMPLETE, PRUNED, COMPLETE], False),
        # One that finished tells nothing of where to go on, however many were stopped.
        (4, [COMPLETE, PRUNED, PRUNED, PRUNED, PRUNED], False),
        (None, [COMPLETE, COMPLETE, *[PRUNED] * 7], False),
        (None, [COMPLETE, COMPLETE, *[PRUNED] * 8], True),
    ],
)
def test_a_gaussian_process_begins_when_enough_trials_are_known_and_two_have_finished(startup, states, models):
    options = {} if startup is None else {"startup_trials": startup}
    space = a_space(sampler={"name": "gp", **options})
    study = a_study(space)
    for number, state in enumerate(states):
        ended(study, space, state, 0.1 * number)
    assert bool(study.ask().relative_params) is models


def test_qmc_is_one_sequence_though_trials_at_once_have_different_conditions(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("optuna"), "propagate", True)
    search = {
        "step_loss": {"choice": ["kl", "mse"]},
        "temperature": {"float": [1, 20], "when": {"step_loss": "kl"}},
        "lr": {"float": [0.01, 0.5]},
        "alpha": {"float": [0.1, 5]},
    }
    space = a_space(sampler="qmc", seed=2, search={"pair": "wrn-16-2/resnet8", **search})
    study = a_study(space)
    oldest = ended(study, space, RUNNING)
    for number in range(20):
        if number == 5:
            # Its values are known, so that it leaves the sequence alone.
            study.enqueue_trial({"step_loss": "kl", "temperature": 4.0, "lr": 0.1, "alpha": 1.0})
        ended(study, space, COMPLETE)
        # Optuna goes by the first trial that is not under way, which changes.
        if number == 10:
            study.tell(oldest, 0.5)
    trials = study.trials
    assert len({"temperature" in trial.params for trial in trials[:2]}) == 2
    points = [(trial.params["lr"], trial.params["alpha"]) for trial in trials]
    assert len(set(points)) == len(points)
    kept = study._storage.get_study_system_attrs(study._study_id)
    assert list(kept.values()) == [len(trials) - 2]
    # Optuna has nothing to say of the conditions, whose parameters are drawn alone.
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
