"""How a space says that it is to be searched: what is refused and where, and what each option changes."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
import yaml
from support.factories import a_trial
from support.faulty_strategies import ACCURACY, FAULTY_STRATEGIES, NUMBERS, OUT_OF_PLACE, SAMPLERS
from support.space_texts import space as space_of_text

from ctkd_search.config import plain
from ctkd_search.errors import UserError
from ctkd_search.records.store import BASELINE, FINISHED, RUNNING
from ctkd_search.records.trial_configs import config_of
from ctkd_search.search.scheduler import GroupedAsha
from ctkd_search.search.study import Study
from ctkd_search.space.baselines import BASELINES
from ctkd_search.space.reader import read_space, space_of
from ctkd_search.space.sections import COSTS, Confirm, Limits, Sampler, Scheduler
from ctkd_search.space.strategy import Strategy

pytestmark = pytest.mark.usefixtures("own_directory")


def space(*overrides, search=NUMBERS):
    """A space of the digits with these keys."""
    return space_of_text(f"search: {search}\n", *overrides)


@pytest.mark.parametrize(
    ("override", "place", "message"), FAULTY_STRATEGIES, ids=[fault[0] for fault in FAULTY_STRATEGIES]
)
def test_every_faulty_form_is_refused_at_its_place(override, place, message):
    with pytest.raises(UserError, match=r"space\.yaml has 1 error:") as caught:
        space(override)
    (line,) = str(caught.value).splitlines()[1:]
    assert f": {place} " in line
    assert message in line


OPTIONS = {
    "startup_trials": (3, {"tpe", "gp"}),
    "candidates": (5, {"tpe"}),
    "multivariate": (True, {"tpe"}),
    "sigma": (0.5, {"cmaes"}),
    "population": (6, {"cmaes"}),
    "sequence": ("halton", {"qmc"}),
    "scramble": (False, {"qmc"}),
}


@pytest.mark.parametrize("name", SAMPLERS.split(", "))
@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_is_taken_by_its_owners_alone(name, option):
    value, owners = OPTIONS[option]
    override = f"sampler={yaml.safe_dump({'name': name, option: value}, default_flow_style=True)}"
    if name in owners:
        assert space(override).strategy.sampler == Sampler(name, **{option: value})
    else:
        with pytest.raises(UserError, match=f"sampler.{option} has no effect with {name}; it belongs to "):
            space(override)


def test_options_that_are_set_belong_to_the_name_that_the_file_has():
    text = f"search: {NUMBERS}\nscheduler: hyperband\nsampler: gp\nbudget: {{epochs: 9, grace_period: 1}}\n"
    strategy = space_of_text(text, "scheduler.horizon=0.5", "sampler.startup_trials=3").strategy
    assert strategy.scheduler == Scheduler("hyperband", horizon=0.5)
    assert strategy.sampler == Sampler("gp", startup_trials=3)


@pytest.mark.parametrize(("overrides", "search", "place", "message"), OUT_OF_PLACE)
def test_what_does_not_go_with_the_rest_of_the_space_is_refused(overrides, search, place, message):
    with pytest.raises(UserError, match=r"space\.yaml has 1 error:") as caught:
        space(*overrides, search=search)
    (line,) = str(caught.value).splitlines()[1:]
    assert f": {place} " in line
    assert message in line


def test_all_that_is_wrong_is_said_at_once_and_at_its_line():
    Path("space.yaml").write_text(
        "name: x\ndataset: {name: digits}\nsampler:\n  name: gp\n  sigma: 1\nscheduler: nobody\nbaselines:\n"
        "  - kd\n  - nothing\nconfirm: {best: -1,\n  seeds: 1}\nobjectives: [params]\nlimits: {max_params: none}\n"
        f"search: {NUMBERS}\n"
    )
    with pytest.raises(UserError, match="has 7 errors:") as caught:
        read_space(Path("space.yaml"))
    said = [line.split()[:3] for line in str(caught.value).splitlines()[1:]]
    assert [(int(number[:-1]), place) for _, number, place in said] == [
        (5, "sampler.sigma"),
        (6, "scheduler"),
        (9, "baselines.1"),
        (10, "confirm.best"),
        (11, "confirm.seeds"),
        (12, "objectives"),
        (13, "limits.max_params"),
    ]


# All that go with any pair.
GOING = tuple(name for name in BASELINES if name not in {"fs", "iakd"})
VALID = [
    ([], Strategy()),
    (["sampler=", "scheduler=", "baselines=", "confirm=", "objectives=", "limits="], Strategy()),
    (["sampler=tpe", "scheduler=asha", "baselines=[]", f"objectives=[{ACCURACY}]", "limits={}"], Strategy()),
    (["sampler={}", "scheduler={}"], Strategy()),
    *[([f"sampler={name}"], Strategy(Sampler(name))) for name in SAMPLERS.split(", ")],
    *[([f"sampler.name={name}"], Strategy(Sampler(name))) for name in SAMPLERS.split(", ")],
    (["sampler={startup_trials: 1, candidates: 2}"], Strategy(Sampler("tpe", startup_trials=1, candidates=2))),
    (["sampler={name: gp, startup_trials: 7}"], Strategy(Sampler("gp", startup_trials=7))),
    (["sampler={name: cmaes, sigma: 1, population: 4}"], Strategy(Sampler("cmaes", sigma=1, population=4))),
    (
        ["sampler={name: qmc, sequence: halton, scramble: false}"],
        Strategy(Sampler("qmc", sequence="halton", scramble=False)),
    ),
    (["scheduler=none"], Strategy(scheduler=Scheduler("none"))),
    (["scheduler=none", "budget.epochs=5"], Strategy(scheduler=Scheduler("none"))),
    (["scheduler=hyperband"], Strategy(scheduler=Scheduler("hyperband"))),
    (["scheduler=hyperband", "budget.epochs=4"], Strategy(scheduler=Scheduler("hyperband"))),
    (["scheduler={name: hyperband, brackets: 2}"], Strategy(scheduler=Scheduler("hyperband", brackets=2))),
    (["scheduler={signal: objective, horizon: 0}"], Strategy(scheduler=Scheduler(signal="objective", horizon=0))),
    (["scheduler={promote: false}"], Strategy(scheduler=Scheduler(promote=False))),
    (["scheduler={name: constant, best: 1}"], Strategy(scheduler=Scheduler("constant", best=1))),
    # In the order in which they are run, whatever the order in the file.
    (["baselines=[at, kd, student-alone]"], Strategy(baselines=("student-alone", "kd", "at"))),
    ([f"baselines=[{', '.join(GOING)}]"], Strategy(baselines=GOING)),
    (["confirm={}"], Strategy(confirm=Confirm(best=3, seeds=3))),
    (["confirm={best: 1, seeds: 2}"], Strategy(confirm=Confirm(best=1, seeds=2))),
    # The accuracy first.
    ([f"objectives=[latency_ms, params, {ACCURACY}]"], Strategy(objectives=(ACCURACY, "params", "latency_ms"))),
    (
        [f"objectives=[onnx_bytes, int8_validation_accuracy, int8_latency_ms, {ACCURACY}]"],
        Strategy(objectives=(ACCURACY, "int8_validation_accuracy", "int8_latency_ms", "onnx_bytes")),
    ),
    (
        ["limits={max_int8_latency_ms: 0.5, max_onnx_bytes: 90000}"],
        Strategy(limits=Limits(max_int8_latency_ms=0.5, max_onnx_bytes=90_000)),
    ),
    (["limits={max_latency_ms: 0.5}"], Strategy(limits=Limits(max_latency_ms=0.5))),
    (["limits={max_params: 1, max_multiply_adds: 2}"], Strategy(limits=Limits(max_params=1, max_multiply_adds=2))),
]


@pytest.mark.parametrize(("overrides", "strategy"), VALID, ids=[" ".join(case[0]) or "nothing" for case in VALID])
def test_every_valid_form_is_read_and_kept(overrides, strategy):
    found = space(*overrides)
    assert found.strategy == strategy
    assert space_of(plain(dict(found.raw))).strategy == strategy
    assert space(search=NUMBERS).strategy == Strategy()


def test_what_must_be_known_of_the_students_is_what_is_an_objective_or_limited():
    for objectives, limits, costs in [
        ([], {}, []),
        (["latency_ms"], {}, ["latency_ms"]),
        ([], {"max_params": 9}, ["params"]),
        (["latency_ms"], {"max_multiply_adds": 9, "max_latency_ms": 9}, ["multiply_adds", "latency_ms"]),
    ]:
        words = [f"objectives={yaml.safe_dump([ACCURACY, *objectives], default_flow_style=True)}"]
        found = space(*words, f"limits={yaml.safe_dump(limits, default_flow_style=True)}").strategy
        assert found.costs == costs
        expected = {name: limits[cost.limit] for name, cost in COSTS.items() if cost.limit in limits}
        assert found.limits.given() == expected


@pytest.mark.parametrize(
    ("words", "directions", "quantises", "trials"),
    [
        ([], ["maximize"], False, False),
        ([f"objectives=[{ACCURACY}, params]"], ["maximize", "minimize"], False, False),
        ([f"objectives=[{ACCURACY}, int8_validation_accuracy]"], ["maximize", "maximize"], True, True),
        ([f"objectives=[{ACCURACY}, int8_latency_ms]"], ["maximize", "minimize"], True, False),
        (["limits={max_onnx_bytes: 9}"], ["maximize"], True, False),
    ],
)
def test_students_are_quantised_where_something_of_it_is_asked_for(words, directions, quantises, trials):
    chosen = space(*words)
    assert chosen.strategy.directions == directions
    assert (chosen.strategy.quantises, chosen.strategy.quantises_trials) == (quantises, trials)
    for config in chosen.pair_configs():
        assert config.int8 is trials
        assert "int8" not in config.as_dict()


def suggestions(*overrides, count=14):
    """What a study suggests where trials are the better the nearer they are to a point inside the ranges."""
    chosen = space("seed=1", *overrides)
    costs = {"resnet8": 1.0, "wrn-16-1": 2.0}
    names = chosen.strategy.objectives
    study = Study(chosen, None, "x", lambda trial: [trial.accuracy, costs[trial.values["pair"][9:]]][: len(names)])
    found = []
    for number in range(1, count + 1):
        asked, stored, _ = study.ask(number, range(number - 1))
        record = a_trial(number, space=chosen, stored=stored, optuna=asked)
        accuracy = 1 - abs(stored["alpha"] - 0.4) - abs(stored["lr"] - 0.1)
        record.epochs = [{"epoch": 1, ACCURACY: accuracy}]
        study.trial_reported(record)
        study.trial_ended(record)
        found.append(stored)
    return found


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("tpe", "startup_trials: 3"),
        ("tpe", "candidates: 2"),
        ("tpe", "multivariate: true"),
        ("gp", "startup_trials: 2"),
        ("cmaes", "sigma: 0.9"),
        ("cmaes", "population: 5"),
        ("qmc", "sequence: halton"),
        ("qmc", "scramble: false"),
    ],
)
def test_an_option_of_a_sampler_changes_what_is_suggested(name, option):
    count = 8 if name == "gp" else 14
    without = suggestions(f"sampler={name}", count=count)
    assert suggestions(f"sampler={{name: {name}, {option}}}", count=count) != without
    assert suggestions(f"sampler={name}", count=count) == without


def test_startup_trials_are_those_that_are_drawn_without_regard_to_results():
    plain_draws = suggestions("sampler=random")
    modelled = suggestions("sampler={name: tpe, startup_trials: 6}")
    assert modelled[:6] == plain_draws[:6]
    assert modelled[6:] != plain_draws[6:]


def test_each_sampler_suggests_something_else_and_says_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [suggestions(f"sampler={name}", count=7) for name in ("cmaes", "qmc", "random")]
    assert all(one != other for one in found for other in found if one is not other)


@pytest.mark.parametrize("name", ["tpe", "gp", "qmc", "random"])
def test_several_objectives_go_with_every_sampler_but_cmaes(name):
    count = 8 if name == "gp" else 14
    overrides = [f"sampler={name}", f"objectives=[{ACCURACY}, params]"]
    assert len(suggestions(*overrides, count=count)) == count


def test_a_sequence_covers_the_ranges_more_evenly_than_chance():
    def largest_gap(drawn):
        found = sorted((stored["alpha"] - 0.1) / 0.9 for stored in drawn)
        return max(b - a for a, b in zip([0.0, *found], [*found, 1.0], strict=True))

    assert largest_gap(suggestions("sampler=qmc", count=32)) < 2 / 32 + 1e-9
    assert largest_gap(suggestions("sampler=random", count=32)) > 2 / 32


def test_what_is_to_be_low_is_minimized_and_so_are_its_epochs():
    chosen = space("objectives=[validation_loss]")
    study = Study(chosen, None, "x", lambda trial: [trial.value])
    assert study.study.direction is optuna.study.StudyDirection.MINIMIZE
    for number, losses in enumerate(([0.5, 0.3], [0.9, 0.8], [0.4, 0.35]), start=1):
        asked, stored, _ = study.ask(number, range(number - 1))
        record = a_trial(number, status=RUNNING, space=chosen, stored=stored, optuna=asked, objective="validation_loss")
        record.epochs = [{"epoch": n, "validation_loss": loss, ACCURACY: 0.5} for n, loss in enumerate(losses, start=1)]
        study.trial_reported(record)
        record.status = FINISHED
        study.trial_ended(record)
    assert study.study.best_value == 0.3
    assert study.study.trials[1].intermediate_values == {1: 0.9, 2: 0.8}


# Trials are compared by the objective itself, of the weights as they are.
OBJECTIVE = "{name: asha, signal: objective, horizon: 0}"


@pytest.mark.parametrize(("objective", "sign"), [("validation_loss", 1), ("validation_ece", 1), (ACCURACY, -1)])
def test_the_scheduler_stops_what_is_worse_in_either_direction(objective, sign):
    budget = "budget={epochs: 9, grace_period: 1, reduction_factor: 3}"
    chosen = space(f"objectives=[{objective}]", budget, f"scheduler={OBJECTIVE}")

    def stopped():
        """Which of nine trials stop at the first rung, where each is better or worse than all before it."""
        found = {}
        for better in (True, False):
            known = {}
            scheduler = GroupedAsha(chosen, known)
            for number in range(1, 10):
                known[number] = a_trial(number, status=RUNNING, objective=objective)
                value = 0.5 + (-sign if better else sign) * number / 100
                result = {"training_iteration": 1, "metrics": (("other", 0.0), (objective, value))}
                decision = scheduler.on_trial_result(None, SimpleNamespace(config={"number": number}), result)
                found[better, number] = decision == "STOP"
        return found

    found = stopped()
    assert not any(found[True, number] for number in range(1, 10))
    assert [found[False, number] for number in range(1, 4)][1:] == [True, True]
    # The same from the records of a search that goes on.
    records = {
        number: a_trial(number, objective=objective, epochs=[{"epoch": 1, objective: 0.5 + sign * number / 100}])
        for number in range(1, 10)
    }
    scheduler = GroupedAsha(chosen, records)
    for number, value, decision in ((10, 0.5 + sign * 0.2, "STOP"), (11, 0.5 - sign * 0.2, "CONTINUE")):
        records[number] = a_trial(number, status=RUNNING, objective=objective)
        result = {"training_iteration": 1, "metrics": ((objective, value),)}
        assert scheduler.on_trial_result(None, SimpleNamespace(config={"number": number}), result) == decision


def first_stops(*overrides):
    """After which epochs trials are stopped, each of them worse than all before it."""
    chosen, known, found = space(*overrides), {}, set()
    scheduler = GroupedAsha(chosen, known)
    for number in range(1, 40):
        known[number] = a_trial(number, status=RUNNING)
        trial = SimpleNamespace(config={"number": number})
        for epoch in range(1, 9):
            result = {"training_iteration": epoch, "metrics": ((ACCURACY, 1 / number),)}
            if scheduler.on_trial_result(None, trial, result) == "STOP":
                found.add(epoch)
                break
    return found


def test_the_scheduler_and_the_budget_decide_when_trials_are_stopped():
    for grace in (1, 2, 5):
        assert first_stops(f"scheduler={OBJECTIVE}", f"budget={{epochs: 9, grace_period: {grace}}}") == {grace}
        constant = OBJECTIVE.replace("asha", "constant")
        assert first_stops(f"scheduler={constant}", f"budget={{epochs: 9, grace_period: {grace}}}") == {grace}
    budget = "budget={epochs: 9, grace_period: 2, reduction_factor: 2}"
    hyperband = OBJECTIVE.replace("asha", "hyperband")
    assert first_stops(f"scheduler={hyperband}", budget) == {2, 4, 8}
    assert first_stops(f"scheduler={hyperband}", "scheduler.brackets=2", budget) == {2, 4}
    assert first_stops("scheduler=none", "budget.epochs=9") == set()


@pytest.mark.parametrize(
    ("scheduler", "objective", "key", "horizon"),
    [
        ("asha", "validation_accuracy", "averaged_validation_loss", 1.0),
        ("hyperband", "validation_balanced_accuracy", "averaged_validation_loss", 1.0),
        ("asha", "validation_ece", "averaged_validation_ece", 1.0),
        ("{signal: objective}", "validation_balanced_accuracy", "averaged_validation_balanced_accuracy", 1.0),
        ("{signal: objective, horizon: 0}", "validation_accuracy", "validation_accuracy", 0.0),
        ("{horizon: 0.5}", "validation_accuracy", "averaged_validation_loss", 0.5),
        ("{name: constant, signal: loss, horizon: 0}", "validation_accuracy", "validation_loss", 0.0),
        ("none", "validation_accuracy", None, 0.0),
    ],
)
def test_searched_trials_measure_what_they_are_compared_by_and_no_others_do(scheduler, objective, key, horizon):
    chosen = space(f"scheduler={scheduler}", f"objectives=[{objective}]", "budget.epochs=9")
    ranking = chosen.strategy.ranking
    assert (ranking and ranking.key, ranking.horizon if ranking else 0.0) == (key, horizon)
    stored = chosen.paper_point()
    values = chosen.effective(chosen.decode(stored))
    assert config_of(chosen, a_trial(1, values=values, stored=stored)).ranking_horizon == horizon
    for others in ({"repeats": 1}, {"kind": BASELINE, "baseline": "kd"}):
        other = config_of(chosen, a_trial(2, values=values, stored=stored, **others))
        assert other.ranking_horizon == 0
        assert other.as_dict() == config_of(chosen, a_trial(1, values=values, stored=stored)).as_dict()


def test_the_sampler_is_told_the_directions_of_the_objectives():
    study = Study(space(f"objectives=[{ACCURACY}, multiply_adds, params]"), None, "x", lambda trial: [])
    maximize, minimize = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
    assert study.study.directions == [maximize, minimize, minimize]
