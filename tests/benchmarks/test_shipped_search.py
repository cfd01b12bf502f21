"""The package's search in a simulation is stopped, paused and promoted as the package does it."""

from __future__ import annotations

import numpy as np
import pytest
from shipped_search import ShippedSearch
from simulation import Decision, Trial
from surrogate import Training

EPOCHS = 18


def training(end: float, early: float) -> Training:
    """A training whose accuracy stays, and whose averaged weights have one loss until the end."""
    flat = np.full(EPOCHS, end)
    signals = {f"{average}accuracy": flat for average in ("", "averaged_0.5_", "averaged_1_")}
    signals |= {f"{average}loss": np.full(EPOCHS, early) for average in ("", "averaged_0.5_", "averaged_1_")}
    return Training(signals, EPOCHS, False, 100 * end)


def played(search: ShippedSearch, *losses: float) -> list[tuple[int, Decision]]:
    """Runs trials of these losses to the first epoch that does not go on; each with its epochs then."""
    found = []
    for number, loss in enumerate(losses):
        trial = Trial(number, search.ask(number), training(1 - loss, loss))
        decision = Decision.CONTINUE
        while decision is Decision.CONTINUE and trial.epochs < EPOCHS - 1:
            trial.epochs += 1
            decision = search.reported(trial)
        if decision is Decision.CONTINUE:
            trial.epochs += 1
            search.ended(trial)
        found.append((trial.epochs, decision))
    return found


RANDOM = {"sampler": "random"}


def test_the_default_rungs_are_those_of_the_space_and_the_best_that_waits_is_promoted():
    search = ShippedSearch("digits", 0, RANDOM)
    assert search.space.rungs == [5, 15]
    # One in three goes on, and at least one.
    found = played(search, 0.5, 0.6, 0.8, 0.9, 0.7, 0.95)
    assert found == [(18, Decision.CONTINUE), *[(5, Decision.PAUSE)] * 5]
    assert search.ask(6) == 1


@pytest.mark.parametrize(("sections", "expected"), [({"scheduler": "none"}, 18), ({"budget": {"grace_period": 2}}, 2)])
def test_the_sections_of_the_space_count(sections, expected):
    assert played(ShippedSearch("digits", 0, {**RANDOM, **sections}), 0.5, 0.6)[1][0] == expected


def test_trials_that_are_not_promoted_are_stopped_for_good():
    search = ShippedSearch("digits", 0, {**RANDOM, "scheduler": {"promote": False}})
    assert [decision for _, decision in played(search, 0.5, 0.6)] == [Decision.CONTINUE, Decision.STOP]
    assert isinstance(search.ask(2), dict)


def test_only_a_search_that_is_told_to_begins_with_the_default_settings():
    point = ShippedSearch("digits", 0, RANDOM).space.paper_point()
    assert ShippedSearch("digits", 0, RANDOM, defaults=True).ask(0) == point
    assert ShippedSearch("digits", 0, RANDOM).ask(0) != point


@pytest.mark.parametrize(("objective", "chosen"), [("validation_accuracy", 0), ("validation_loss", 1)])
def test_the_chosen_trial_is_the_best_by_the_objective_of_the_space(objective, chosen):
    search = ShippedSearch("digits", 0, {"sampler": "random", "scheduler": "none", "objectives": [objective]})
    trials = {}
    for number, (accuracy, loss) in enumerate([(0.9, 0.5), (0.8, 0.4)]):
        trials[number] = Trial(number, search.ask(number), training(accuracy, loss), epochs=EPOCHS)
        search.ended(trials[number])
    assert search.chosen(trials) is trials[chosen]
