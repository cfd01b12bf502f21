"""Searches on a simulated clock: decisions about each trial, and reports to Optuna, also after interruptions."""

from __future__ import annotations

import dataclasses
import math

import pytest
from optuna.trial import TrialState
from support.asha import any_outcomes, asha, asked_once, promotions
from support.factories import a_space, a_trial
from support.simulation import COSTS, Fuse, Killed, Outcome, Simulation, study_in
from support.suggestions import SAMPLERS, opened

from ctkd_search.config import plain
from ctkd_search.records.store import (
    BASELINE,
    DIVERGED,
    FAILED,
    FINISHED,
    INTERRUPTED,
    PAUSED,
    RUNNING,
    STOPPED,
    WAITING,
)
from ctkd_search.search.comparisons import missing_confirmations

NAN = math.nan
COMPLETE, PRUNED, FAIL = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL


def told(simulation):
    """Returns Optuna's data of each trial, by its number in the search: state, value, and accuracy after each epoch."""
    trials = simulation.study.study.get_trials(deepcopy=False)
    return {
        trial.user_attrs["trial"]: (trial.state, trial.values, trial.intermediate_values)
        for trial in trials
        if trial.state != TrialState.WAITING
    }


def same(one, other):
    """Returns whether two things are equal, where NaN equals NaN."""
    return repr(one) == repr(other)


def kept(simulation):
    """Returns the record of each trial on disk."""
    return [dataclasses.asdict(record) for record in simulation.folder.trials()]


# One worker, nine epochs, rungs after epochs 1 and 3, where the best third goes on: what each trial would reach, what
# becomes of it after how many epochs, and why.
STORY = [
    (Outcome([0.5, 0.6, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.75]), FINISHED, 9),  # nobody was there before
    (Outcome([0.4] * 9), STOPPED, 1),  # 0.4 < 0.5
    (Outcome([0.46, 0.9, 0.9]), STOPPED, 1),  # the best of three is 0.5
    (Outcome([0.53, 0.9, 0.69]), STOPPED, 3),  # the best of four is 0.53, but 0.69 < 0.7
    (Outcome([NAN, 0.9, 0.9]), STOPPED, 1),  # no number is below any other
    (Outcome([0.9, 0.9, NAN, 0.9]), STOPPED, 3),
    (Outcome([0.9, 0.9, 0.71], diverges=True), DIVERGED, 3),
    (Outcome([0.9, 0.2, 0.7, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]), FINISHED, 9),  # 0.7 is not below 0.7
    (Outcome([0.95] * 9, fails=2, failures=3), FAILED, 2),  # twice more, and again in vain
    (Outcome([0.95] * 9, fails=4, failures=2), FINISHED, 9),
    (Outcome([0.95] * 9, fails=0, failures=9), FAILED, 0),
    (Outcome([0.95] * 9, fails=0, failures=1, message="ctkd_search.errors.UserError: no"), FAILED, 0),
]


def by_number(outcomes):
    """Gives each trial the outcome at its place."""
    return lambda record: outcomes[record.number - 1]


def test_each_trial_ends_as_it_must_and_optuna_receives_exactly_that(tmp_path):
    outcomes = [outcome for outcome, _, _ in STORY]
    space = a_space(budget={"trials": len(STORY)}, sampler="random")
    played = Simulation(space, tmp_path, by_number(outcomes)).run()
    ended = [(record.status, len(record.epochs)) for record in played.records.values()]
    assert ended == [(status, epochs) for _, status, epochs in STORY]
    expected = {}
    for number, (outcome, status, epochs) in enumerate(STORY, start=1):
        heard = dict(enumerate(outcome.accuracies[:epochs], start=1))
        state = {FINISHED: COMPLETE, STOPPED: PRUNED, DIVERGED: FAIL, FAILED: FAIL}[status]
        last = outcome.accuracies[epochs - 1] if epochs else None
        # Optuna itself takes a pruned trial's last accuracy for its value, if it is one.
        value = [last] if state in (COMPLETE, PRUNED) and not math.isnan(last) else None
        expected[number] = (state, value, heard)
    assert same(told(played), expected)
    assert same(kept(played), [plain(dataclasses.asdict(record)) for record in played.records.values()])
    reasons = {trial.user_attrs["trial"]: trial.user_attrs["reason"] for trial in played.study.study.trials}
    assert reasons == {number: record.reason for number, record in played.records.items()}


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(("grace", "factor", "epochs"), [(1, 3, 9), (2, 2, 9), (1, 2, 8), (3, 4, 5), (4, 3, 4)])
def test_decisions_are_those_of_asha_by_the_book_and_optunas_states_follow_from_them(
    tmp_path, workers, grace, factor, epochs
):
    outcomes = any_outcomes(workers + 10 * grace + factor, 40, epochs)
    budget = {"trials": 40, "epochs": epochs, "grace_period": grace, "reduction_factor": factor}
    space = a_space(budget=budget, sampler="random")
    played = Simulation(space, tmp_path, by_number(outcomes), workers, durable=False).run()
    events = asked_once(played)
    assert [event[3] for event in events] == asha(played, space.budget.rungs(), factor)
    promoted = promotions(played, space.budget.rungs(), factor)
    assert promoted or epochs < 8
    stops = {(number, epoch) for number, epoch, _, goes_on in events if not goes_on}
    for number, (state, _, heard) in told(played).items():
        outcome, record = outcomes[number - 1], played.records[number]
        length = len(heard)
        assert same(heard, dict(enumerate(outcome.accuracies[:length], start=1)))
        if (number, length) in stops and record.status != FAILED:
            assert (record.status, state) == (STOPPED, PRUNED)
        elif length == epochs:
            assert (record.status, state) == (FINISHED, COMPLETE)
        elif outcome.diverges and length == len(outcome.accuracies):
            assert (record.status, state) == (DIVERGED, FAIL)
        else:
            assert (record.status, state, length) == (FAILED, FAIL, outcome.fails)
        assert number in promoted or not any((number, epoch) in stops for epoch in range(1, length))
    assert len(told(played)) == 40
    assert {state for state, _, _ in told(played).values()} >= {COMPLETE, FAIL}


def the_same_search(one, other):
    """Returns whether two searches have equal records and studies."""
    trials = [
        [
            (trial.params, trial.state, trial.values, trial.intermediate_values)
            for trial in simulation.study.study.trials
        ]
        for simulation in (one, other)
    ]
    return same(*trials) and same(kept(one), kept(other))


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "moments"), [("tpe", 43), ("cmaes", 59), ("qmc", 67)])
def test_a_search_whose_process_is_killed_again_and_again_comes_to_the_same(tmp_path, sampler, moments):
    # The second of the first six waits at the first rung until the sixth has come.
    outcomes = [Outcome([value] * 9) for value in (0.6, 0.5, 0.1, 0.2, 0.3, 0.15)]
    outcomes += [outcome for outcome, _, _ in STORY] + any_outcomes(1, 4, 9)
    space = a_space(budget={"trials": len(outcomes)}, sampler=SAMPLERS[sampler], baselines=["kd"])
    # Two baselines, which come first.
    outcomes = [Outcome([0.1] * 9), Outcome([0.99] * 9), *outcomes]
    undisturbed = Simulation(space, tmp_path / "a", by_number(outcomes)).run()
    killed = 0
    while True:
        try:
            resumed = Simulation(space, tmp_path / "b", by_number(outcomes), fuse=Fuse(moments)).run()
            break
        except Killed:
            killed += 1
    assert killed >= 5
    assert promotions(undisturbed, space.rungs, 3)
    assert the_same_search(undisturbed, resumed)


def test_cmaes_draws_the_numbers_of_every_trial_together_and_the_others_alone(tmp_path):
    space = a_space(sampler=SAMPLERS["cmaes"], budget={"trials": 30})
    outcomes = [Outcome([value] * 9) for value in (0.5, 0.9, 0.4, 0.95, 0.3) * 6]
    played = Simulation(space, tmp_path, by_number(outcomes), durable=False).run()
    trials = played.study.study.trials
    # Some of the stopped ones lack the temperature, though every one that finished may have it.
    assert {("temperature" in trial.params, trial.state) for trial in trials} >= {(False, PRUNED), (True, COMPLETE)}
    assert all("cma:generation" in trial.system_attrs for trial in trials[2:])
    assert trials[-1].system_attrs["cma:generation"] >= 3


def test_catching_up_reports_what_was_missing_and_nothing_twice(tmp_path):
    space, path = a_space(sampler="random"), tmp_path / "study.log"
    study = study_in(path, space)
    records = []
    for number in range(1, 7):
        asked, stored, _ = study.ask(number, [record.optuna for record in records])
        records.append(a_trial(number, status=RUNNING, space=space, stored=stored, optuna=asked))
    first = records[0]
    first.epochs = [{"epoch": 1, "validation_accuracy": 0.25}]
    study.trial_reported(first)
    for record, accuracies, status in [
        (records[0], [0.25, 0.5, 0.75], FINISHED),
        (records[1], [0.1, 0.2], STOPPED),
        (records[2], [0.1, 0.2], DIVERGED),
        (records[3], [], FAILED),
        (records[4], [0.3], WAITING),
        (records[5], [0.4, 0.5], INTERRUPTED),
    ]:
        record.status, record.reason = status, status
        record.epochs = [{"epoch": n, "validation_accuracy": a} for n, a in enumerate(accuracies, start=1)]
    baseline = a_trial(7, 0.5, space=space, stored=records[0].stored, kind=BASELINE, baseline="kd")
    for _ in range(2):
        again = study_in(path, space)
        again.catch_up([*records, baseline])
        found = [(trial.state, trial.value, trial.intermediate_values) for trial in again.study.trials]
        assert found == [
            (COMPLETE, 0.75, {1: 0.25, 2: 0.5, 3: 0.75}),
            (PRUNED, 0.2, {1: 0.1, 2: 0.2}),
            (FAIL, None, {1: 0.1, 2: 0.2}),
            (FAIL, None, {}),
            (TrialState.RUNNING, None, {1: 0.3}),
            (TrialState.RUNNING, None, {1: 0.4, 2: 0.5}),
        ]
    # What goes on is told on, from where it stands.
    records[5].epochs.append({"epoch": 3, "validation_accuracy": 0.6})
    again.trial_reported(records[5])
    records[5].status = FINISHED
    again.trial_ended(records[5])
    again.trial_ended(records[5])
    assert again.study.trials[5].values == [0.6]
    assert again.study.trials[5].intermediate_values == {1: 0.4, 2: 0.5, 3: 0.6}


TWO = {"objectives": ["validation_accuracy", "params"]}


@pytest.mark.parametrize("workers", [1, 3])
def test_of_two_objectives_optuna_receives_both_at_the_end_and_no_epochs(tmp_path, workers):
    space = a_space(budget={"trials": 30}, sampler={"name": "tpe", "startup_trials": 5}, **TWO)
    outcomes = any_outcomes(5, 30, 9)
    played = Simulation(space, tmp_path, by_number(outcomes), workers, durable=False).run()
    assert [direction.name for direction in played.study.study.directions] == ["MAXIMIZE", "MINIMIZE"]
    states = {FINISHED: COMPLETE, STOPPED: PRUNED, DIVERGED: FAIL, FAILED: FAIL}
    for number, (state, values, heard) in told(played).items():
        record = played.records[number]
        cost = COSTS[record.values["pair"].split("/")[1]]["params"]
        assert (state, heard) == (states[record.status], {})
        assert values == ([record.accuracy, cost] if state is COMPLETE else None)
    # Only trials of the same student are compared, each by the book.
    for student in COSTS:
        own = {number for number, record in played.records.items() if record.values["pair"].endswith(f"/{student}")}
        events = [event for event in asked_once(played) if event[0] in own]
        assert [event[3] for event in events] == asha(played, space.budget.rungs(), 3, own)
        assert not all(event[3] for event in events)
    assert {record.status for record in played.records.values()} >= {FINISHED, STOPPED}


def test_baselines_and_confirmations_run_to_their_end_and_optuna_hears_nothing_of_them(tmp_path):
    space = a_space(
        budget={"trials": 6}, sampler="random", baselines=["student-alone", "kd"], confirm={"best": 2, "seeds": 2}
    )
    good, poor = Outcome([0.9] * 9), Outcome([0.1] * 9)
    first = Simulation(space, tmp_path, lambda record: poor if record.baseline else good, 3).run()
    baselines = [record for record in first.records.values() if record.baseline]
    assert [(record.number, record.baseline) for record in baselines] == [
        (1, "student-alone"), (2, "kd"), (3, "student-alone"), (4, "kd"),
    ]  # fmt: skip
    assert {(record.status, len(record.epochs)) for record in baselines} == {(FINISHED, 9)}
    confirmations = missing_confirmations(space, first.records, {})
    assert {record.repeats for record in confirmations if not record.baseline} == {5, 6}
    for record in confirmations:
        first.folder.write_trial(record)
    again = Simulation(space, tmp_path, lambda record: poor, 3).run()
    repeated = [record for record in again.records.values() if record.repeats]
    assert len(repeated) == len(confirmations) >= 6
    assert {(record.status, len(record.epochs), record.accuracy) for record in repeated} == {(FINISHED, 9, 0.1)}
    assert set(told(again)) == set(range(5, 11))
    assert {value for _, (value,), _ in told(again).values()} == {0.9}
    assert {epoch for _, _, heard in told(again).values() for epoch in heard} == set(range(1, 10))
    # They do not count in the brackets of the other trials either.
    assert {number for number, *_ in again.decisions} <= {record.number for record in repeated}


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
def test_the_sampler_is_told_of_paused_trials_as_of_stopped_ones(sampler):
    space = a_space(sampler=SAMPLERS[sampler])

    def next_after(status):
        """Returns the suggestion after six trials, of which two reached no more than the first epoch."""
        study, records = opened(None, space), []
        for number in range(1, 7):
            asked, stored, _ = study.ask(number, [record.optuna for record in records])
            record = a_trial(number, 0.1 * number, stored=stored, optuna=asked, status=RUNNING)
            records.append(record)
            study.trial_reported(record)
            record.status = status if number in (2, 5) else FINISHED
            study.trial_ended(record)
        suggested = study.ask(7, [record.optuna for record in records]).stored
        stored_as = study.study.trials[1].state
        told_as = study._told(study.study.trials)[1].state
        study.trial_started(records[1])
        return suggested, stored_as, told_as, study._told(study.study.trials)[1].state

    paused, stopped = next_after(PAUSED), next_after(STOPPED)
    assert paused[0] == stopped[0]
    assert paused[1:] == (TrialState.RUNNING, PRUNED, TrialState.RUNNING)
    assert stopped[1:] == (PRUNED, PRUNED, PRUNED)


def test_paused_trials_are_told_to_the_sampler_after_an_interruption_too(tmp_path):
    space, path = a_space(sampler=SAMPLERS["tpe"]), tmp_path / "study.log"
    study, records = opened(path, space), []
    for number in range(1, 7):
        asked, stored, _ = study.ask(number, [record.optuna for record in records])
        records.append(a_trial(number, 0.1 * number, stored=stored, optuna=asked, status=RUNNING))
        study.trial_reported(records[-1])
        records[-1].status = PAUSED if number == 5 else FINISHED
        study.trial_ended(records[-1])
    undisturbed = study.ask(7, range(6)).stored
    again = opened(path, space, records)
    assert again._told(again.study.trials)[4].state is PRUNED
    assert again.study.trials[4].state is TrialState.RUNNING
    assert again.ask(7, range(6)).stored == undisturbed
