"""Searches on a simulated clock: decisions about each trial, and reports to Optuna, also after interruptions."""

from __future__ import annotations

import dataclasses
import math
import random

import optuna
import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher
from support.simulation import COSTS, Fuse, Killed, Outcome, Simulation, a_space

from ctkd_search.analysis.pareto import objective_values
from ctkd_search.config import plain
from ctkd_search.records.store import (
    BASELINE,
    DIVERGED,
    FAILED,
    FINISHED,
    INTERRUPTED,
    RUNNING,
    SEARCHED,
    STOPPED,
    WAITING,
    SearchFolder,
    TrialRecord,
)
from ctkd_search.records.trial_configs import config_of
from ctkd_search.search.comparisons import missing_confirmations
from ctkd_search.search.searcher import OptunaSearcher
from ctkd_search.search.study import Study

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
    (Outcome([0.46, 0.9, 0.9]), STOPPED, 1),  # two thirds of the way from 0.4 to 0.5 is 0.467
    (Outcome([0.48, 0.9, 0.69]), STOPPED, 3),  # of 0.4, 0.46 and 0.5 it is 0.473, but 0.69 < 0.7
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


def percentile(values, share):
    """The value below which a share of some values lies, by linear interpolation."""
    values = sorted(values)
    position = share * (len(values) - 1)
    below = math.floor(position)
    above = min(below + 1, len(values) - 1)
    return values[below] + (position - below) * (values[above] - values[below])


def asked_once(simulation):
    """Return the decisions of the scheduler, each once: a trial that begins again reports its epochs once more."""
    first = {}
    for event in simulation.decisions:
        first.setdefault(event[:2], event)
    return list(first.values())


def asha(events, rungs, factor):
    """Asynchronous successive halving by the book: of (number, epoch, accuracy, ...) in their order, who goes on."""
    seen = {rung: [] for rung in rungs}
    goes_on = []
    for _, epoch, accuracy, _ in events:
        others = seen.get(epoch, [])
        top = math.isfinite(accuracy) and (not others or accuracy >= percentile(others, 1 - 1 / factor))
        goes_on.append(top if epoch in seen else math.isfinite(accuracy))
        if math.isfinite(accuracy):
            others.append(accuracy)
    return goes_on


def any_outcomes(seed, count, epochs):
    """Learning curves that rise, cross, tie, dip, end in NaN, diverge and fail."""
    draw = random.Random(seed)
    outcomes = []
    for _ in range(count):
        start, end = draw.uniform(0.1, 0.5), draw.uniform(0.3, 0.95)
        curve = [start + (end - start) * epoch / epochs + draw.gauss(0, 0.05) for epoch in range(epochs)]
        curve = [round(value, 1) if draw.random() < 0.3 else value for value in curve]
        if draw.random() < 0.1:
            curve[draw.randrange(epochs - 1)] = NAN
        diverges = draw.random() < 0.15
        length = draw.randint(1, epochs - 1) if diverges else epochs
        fails = draw.randrange(length) if draw.random() < 0.3 else None
        outcomes.append(Outcome(curve[:length], diverges, draw.randint(1, 4), fails, failures=draw.randint(1, 4)))
    return outcomes


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
    assert [event[3] for event in events] == asha(events, space.budget.rungs(), factor)
    stops = {(number, epoch) for number, epoch, _, goes_on in events if not goes_on}
    for number, (state, _, heard) in told(played).items():
        outcome, record = outcomes[number - 1], played.records[number]
        length = len(heard)
        assert same(heard, dict(enumerate(outcome.accuracies[:length], start=1)))
        if (number, length) in stops:
            assert (record.status, state) == (STOPPED, PRUNED)
        elif length == epochs:
            assert (record.status, state) == (FINISHED, COMPLETE)
        elif outcome.diverges and length == len(outcome.accuracies):
            assert (record.status, state) == (DIVERGED, FAIL)
        else:
            assert (record.status, state, length) == (FAILED, FAIL, outcome.fails)
        assert not any((number, epoch) in stops for epoch in range(1, length))
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


SAMPLERS = {
    "tpe": {"name": "tpe", "startup_trials": 3},
    "gp": {"name": "gp", "startup_trials": 3},
    "cmaes": {"name": "cmaes", "population": 4},
    "qmc": "qmc",
    "random": "random",
}


@pytest.mark.parametrize(("sampler", "moments"), [("tpe", 43), ("cmaes", 59), ("qmc", 67)])
def test_a_search_whose_process_is_killed_again_and_again_comes_to_the_same(tmp_path, sampler, moments):
    outcomes = [outcome for outcome, _, _ in STORY] + any_outcomes(1, 4, 9)
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
    assert the_same_search(undisturbed, resumed)


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
    records.append(TrialRecord(number, {}, stored, 0, optuna=asked, status=RUNNING))
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


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_is_suggested_depends_on_the_seed_and_the_results_and_not_on_interruptions(tmp_path, sampler):
    count = 6 if sampler == "gp" else 10
    space = a_space(sampler=SAMPLERS[sampler], seed=3)
    undisturbed = drawn(space, None, towards, count)
    assert drawn(space, tmp_path / "study.db", towards, count, reopen={2, 3, 5, 9}) == undisturbed
    assert drawn(a_space(sampler=SAMPLERS[sampler], seed=4), None, towards, count)[1:] != undisturbed[1:]
    away = drawn(space, None, lambda stored: -towards(stored), count)
    assert (away != undisturbed) is (sampler in ("tpe", "gp", "cmaes"))


class Crashing(optuna.Trial):
    """A trial of a process that ends after two values."""

    left = 2

    def _suggest(self, name, distribution):
        self.left -= 1
        if self.left < 0:
            raise Killed
        return super()._suggest(name, distribution)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("moment", ["before its values", "among its values", "after its values"])
def test_a_trial_that_was_drawn_just_before_a_crash_is_taken_first(tmp_path, sampler, moment):
    space, path = a_space(sampler=SAMPLERS[sampler]), tmp_path / "study.db"
    count = 5 if sampler == "gp" else 8
    undisturbed = drawn(space, None, towards, count)
    study, records = opened(path, space), []
    for _ in range(count - 1):
        next_trial(study, records, towards)
    lost = study.study.ask()
    if moment == "among its values":
        with pytest.raises(Killed):
            space.suggest(Crashing(study.study, lost._trial_id))
    elif moment == "after its values":
        space.suggest(lost)
    again = opened(path, space, records)
    asked, stored, _ = again.ask(count, [record.optuna for record in records])
    assert asked == lost.number
    assert again.study.trials[-1].user_attrs["trial"] == len(again.study.trials) == count
    assert space.encode(space.effective(space.decode(stored))) == stored
    # In the middle of a suggestion, these two have noted in the study that it was begun.
    if moment != "among its values" or sampler not in ("gp", "qmc"):
        assert stored == undisturbed[-1]


def test_cmaes_draws_the_numbers_of_every_trial_together_and_the_others_alone(tmp_path):
    space = a_space(sampler=SAMPLERS["cmaes"], budget={"trials": 30})
    outcomes = [Outcome([value] * 9) for value in (0.5, 0.9, 0.4, 0.95, 0.3) * 6]
    played = Simulation(space, tmp_path, by_number(outcomes), durable=False).run()
    trials = played.study.study.trials
    # Some of the stopped ones lack the temperature, though every one that finished may have it.
    assert {("temperature" in trial.params, trial.state) for trial in trials} >= {(False, PRUNED), (True, COMPLETE)}
    assert all("cma:generation" in trial.system_attrs for trial in trials[2:])
    assert trials[-1].system_attrs["cma:generation"] >= 3


def study_in(path, space, costs=COSTS):
    return Study(space, path, "x", lambda trial: objective_values(trial, space.strategy.objectives, costs))


def record_of(space, number, stored, accuracies=(0.5,), status=FINISHED, **more):
    """A trial with these values, as the search keeps it."""
    epochs = [{"epoch": epoch, "validation_accuracy": value} for epoch, value in enumerate(accuracies, start=1)]
    values = space.effective(space.decode(stored))
    return TrialRecord(number, values, dict(stored), space.seed, status=status, epochs=epochs, **more)


def test_catching_up_reports_what_was_missing_and_nothing_twice(tmp_path):
    space, path = a_space(sampler="random"), tmp_path / "study.db"
    study = study_in(path, space)
    records = []
    for number in range(1, 7):
        asked, stored, _ = study.ask(number, [record.optuna for record in records])
        records.append(record_of(space, number, stored, (), RUNNING, optuna=asked))
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
    baseline = record_of(space, 7, records[0].stored, kind=BASELINE, baseline="kd")
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


def test_the_papers_settings_are_tried_first_and_once(tmp_path):
    space, path = a_space(sampler="random"), tmp_path / "study.db"
    study_in(path, space).begin()
    study = study_in(path, space)
    study.begin()
    _, first, _ = study.ask(1, [])
    study = study_in(path, space)
    study.begin()
    _, second, _ = study.ask(2, [0])
    assert first == space.paper_point()
    assert second != first
    assert len(study.study.trials) == 2


def earlier_trials(space):
    """Trials of an earlier search: of every kind of end, and with values at the edges of other spaces."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    records = []
    for number, status in enumerate([FINISHED, STOPPED, DIVERGED, FAILED] * 5, start=1):
        trial = study.ask()
        space.suggest(trial)
        accuracies = [] if status == FAILED and number % 8 else [0.1, 0.2 + number / 100]
        records.append(record_of(space, number, trial.params, accuracies, status))
    stored = records[0].stored
    return [
        *records,
        record_of(space, 21, stored, (0.5,), INTERRUPTED),
        record_of(space, 22, stored, (), WAITING),
        record_of(space, 23, stored, (0.5,), kind=BASELINE, baseline="kd"),
        record_of(space, 24, stored, (0.5,), repeats=1),
    ]


def test_a_warm_start_takes_every_explored_trial_that_ended_and_each_once(tmp_path):
    space, path = a_space(sampler="random"), tmp_path / "study.db"
    records = earlier_trials(space)
    for _ in range(2):
        study = study_in(path, space)
        assert study.take("old", space, records) == (20, 20)
        found = [(trial.params, trial.state, trial.values, trial.intermediate_values) for trial in study.study.trials]
        states = {FINISHED: COMPLETE, STOPPED: PRUNED, DIVERGED: FAIL, FAILED: FAIL}
        assert found == [
            (
                record.stored,
                states[record.status],
                [record.accuracy] if record.status == FINISHED else None,
                {epoch["epoch"]: epoch["validation_accuracy"] for epoch in record.epochs},
            )
            for record in records[:20]
        ]
    # Another search of the same numbers is another one.
    assert study.take("older", space, records[:2]) == (2, 2)
    assert len(study.study.trials) == 22


@pytest.mark.parametrize(
    ("search", "taken"),
    [
        ({}, lambda values: True),
        ({"lr": {"float": [0.01, 0.1], "log": True}}, lambda values: values["lr"] <= 0.1),
        ({"lr": {"float": [0.001, 1]}}, lambda values: True),
        ({"lr": {"float": [0.5, 1]}}, lambda values: False),
        ({"pair": "wrn-16-2/resnet8"}, lambda values: values["pair"] == "wrn-16-2/resnet8"),
        ({"pair": "wrn-16-1/resnet8"}, lambda values: False),
        ({"step_loss": "kl", "temperature": {"float": [1, 20]}}, lambda values: values["step_loss"] == "kl"),
        ({"step_loss": "mse", "temperature": None}, lambda values: values["step_loss"] == "mse"),
        # Searched here and at its default there, which is in the range or not.
        ({"momentum": {"float": [0.5, 0.95]}}, lambda values: True),
        ({"momentum": {"float": [0.5, 0.8]}}, lambda values: False),
        # Searched there and at its default here.
        ({"lr": None}, lambda values: False),
    ],
    ids=lambda value: "" if callable(value) else str(value),
)
def test_a_warm_start_takes_what_could_be_a_trial_of_this_space_too(search, taken):
    earlier = a_space(sampler="random")
    searched = {**earlier.raw["search"], **search}
    space = a_space(sampler="random", search={key: entry for key, entry in searched.items() if entry is not None})
    records = earlier_trials(earlier)[:20]
    expected = [record for record in records if taken(record.values)]
    study = study_in(None, space)
    assert study.take("old", earlier, records) == (len(expected), 20)
    assert len(study.study.trials) == len(expected)
    for trial, record in zip(study.study.trials, expected, strict=True):
        again = space.effective(space.decode(trial.params))
        assert {key: again[key] for key in record.values} == record.values
        assert trial.distributions == {key: space.entries[key].distribution() for key in trial.params}


@pytest.mark.parametrize("searched", [{}, {"momentum": {"float": [0.5, 0.95], "when": {"step_loss": "mse"}}}], ids=str)
def test_after_a_warm_start_the_papers_settings_come_first_unless_they_were_tried(tmp_path, searched):
    space = a_space(sampler="random", search={**a_space().raw["search"], **searched})
    study = study_in(None, space)
    study.take("old", space, earlier_trials(space))
    study.begin()
    _, first, _ = study.ask(1, [])
    paper = space.decode(space.paper_point())
    assert space.effective(space.decode(first)) == space.effective(paper)
    tried = study_in(None, space)
    tried.take("old", space, [*earlier_trials(space), record_of(space, 30, first)])
    tried.begin()
    _, other, _ = tried.ask(1, [])
    assert space.decode(other) != space.decode(first)


def test_a_warm_start_teaches_the_sampler(tmp_path):
    space = a_space(sampler={"name": "tpe", "startup_trials": 5})

    def best_lr(warm):
        study = study_in(None, space)
        records = [
            record_of(space, number, {**space.paper_point(), "lr": lr}, [1 - abs(lr - 0.02)])
            for number, lr in enumerate([0.02, 0.021, 0.019, 0.3, 0.29, 0.28, 0.2, 0.1, 0.25, 0.15] * 3, start=1)
        ]
        if warm:
            study.take("old", space, records)
        asked = [study.ask(number, range(number)).stored["lr"] for number in range(1, 9)]
        return sum(lr < 0.05 for lr in asked)

    assert best_lr(warm=True) > best_lr(warm=False)


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
        assert [event[3] for event in events] == asha(events, space.budget.rungs(), 3)
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


def test_a_searcher_hands_out_what_waits_first_and_asks_for_no_more_than_it_should(tmp_path):
    space = a_space(budget={"trials": 3}, sampler="random", baselines=["kd"])
    simulation = Simulation(space, tmp_path, lambda record: None, 2, durable=False)
    searcher, records, handed = simulation.searcher, simulation.records, {}

    def asked(name):
        answer = searcher.suggest(name)
        if not isinstance(answer, dict):
            return answer
        handed[name] = records[answer["number"]]
        assert answer["config"] == config_of(space, handed[name])
        handed[name].status = RUNNING
        return answer["number"]

    def ended(name, status):
        handed[name].status = status
        searcher.on_trial_complete(name, error=status == WAITING)

    assert [asked("a"), asked("b"), asked("c")] == [1, 2, None]  # two at once
    ended("a", FINISHED)
    assert asked("d") == 3
    ended("d", WAITING)  # it failed, and is to be tried again
    ended("b", FINISHED)
    assert [asked("e"), asked("f")] == [3, 4]
    ended("e", FINISHED)
    assert asked("g") == 5
    ended("f", STOPPED)
    assert asked("h") is None  # there are enough, but this one may fail
    ended("g", WAITING)
    assert asked("i") == 5
    ended("i", FAILED)
    assert asked("j") == Searcher.FINISHED
    assert [record.kind for record in records.values()] == [BASELINE, BASELINE, SEARCHED, SEARCHED, SEARCHED]


def test_a_searcher_that_can_note_nothing_any_more_stops_the_search(tmp_path):
    (tmp_path / "file").touch()
    space, told_why, records = a_space(sampler="random"), [], {}
    study = study_in(None, space)
    searcher = OptunaSearcher(space, SearchFolder(tmp_path / "file", "x"), study, records, 1, 5, told_why.append)
    assert searcher.suggest("a") is None
    assert "cannot write to the directory" in str(told_why[0])
    assert records == {}
    # Once it can be noted, the trial that was drawn for it is taken.
    searcher = OptunaSearcher(space, SearchFolder(tmp_path, "x"), study, records, 1, 5, told_why.append)
    assert searcher.suggest("b")["number"] == 1
    assert (records[1].optuna, len(study.study.trials), len(told_why)) == (0, 1, 1)
