"""Several methods in one space: what stands under their names, what is drawn, and that all get as much."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from support.factories import a_trial
from support.space_texts import draws, space

from ctkd_search.config import MethodConfig
from ctkd_search.distill.methods.base import make_method, methods
from ctkd_search.distill.requests import LOGITS, Needs, TeacherOutput
from ctkd_search.errors import UserError
from ctkd_search.records.store import RUNNING, TrialRecord
from ctkd_search.search.scheduler import GroupedAsha
from ctkd_search.search.study import Study
from ctkd_search.space.definition import Space
from ctkd_search.space.parameters import TRAINING

pytestmark = pytest.mark.usefixtures("own_directory")

SEVERAL = """\
budget: {trials: 9, epochs: 9}
search:
  pair: {choice: [wrn-16-2/resnet8, wrn-16-2/wrn-16-1]}
  method: {choice: [ctkd, kd, at, none]}
  step_loss: {choice: [kl, mse]}
  temperature: {float: [1, 20], log: true, when: {step_loss: kl}}
  alpha: {float: [0.1, 10], log: true}
  kd:
    temperature: {float: [1, 9]}
    weight: {float: [0.1, 1], when: {pair: wrn-16-2/resnet8}}
  at:
    beta: {choice: [0, 50]}
    attention_layers: {subsets: [1, 3], when: {beta: 50}}
  lr: {float: [0.01, 0.3], log: true}
  momentum: {float: [0.5, 0.9]}
"""
OWN = {
    "ctkd": {"step_loss", "temperature", "alpha"},
    "kd": {"kd.temperature", "kd.weight"},
    "at": {"at.beta", "at.attention_layers"},
    "none": set(),
}


def test_a_trial_draws_what_its_method_varies_and_nothing_else():
    chosen = space(SEVERAL)
    seen = Counter()
    for trial, values in draws(chosen, 150):
        method = trial.params["method"]
        seen[method] += 1
        own = {key for key in trial.params if key not in {"pair", "method", "lr", "momentum"}}
        assert own <= OWN[method]
        assert ("kd.weight" in own) is (method == "kd" and values["pair"] == "wrn-16-2/resnet8")
        assert ("at.attention_layers" in own) is (method == "at" and values["at.beta"] == 50)
        effective = chosen.effective(values)
        foreign = {f"{name}.{item.name}" for name in OWN if name != method for item in methods()[name].parameters}
        assert not effective.keys() & foreign
        assert ("alpha" in effective) is (method == "ctkd")
        assert chosen.decode(trial.params) == values
        assert chosen.encode(effective) == trial.params
    assert len(seen) == 4


def test_a_config_has_the_values_of_its_own_method():
    chosen = space(SEVERAL)
    stored = {"pair": "wrn-16-2/resnet8", "method": "kd", "kd.temperature": 3.0, "kd.weight": 0.25, "lr": 0.1}
    config = chosen.config(chosen.decode({**stored, "momentum": 0.5}))
    assert config.method == MethodConfig(
        "kd", {"temperature": 3.0, "weight": 0.25, "standardised": False, "standardised_factor": 10.0}
    )
    assert chosen.label(chosen.effective(chosen.decode(stored))) == "resnet8 kd T=3 w=0.25 lr=0.1 m=0.9"


def test_one_method_alone_is_a_constant():
    chosen = space("search: {method: kd, kd: {temperature: {float: [1, 20]}}}")
    assert chosen.methods() == ("kd",)
    ((trial, values),) = draws(chosen, 1)
    assert set(trial.params) == {"kd.temperature"}
    assert set(values) == {
        "pair",
        "method",
        "kd.temperature",
        "kd.weight",
        "kd.standardised",
        "kd.standardised_factor",
        *(item.name for item in TRAINING),
    }
    assert chosen.needs("wrn-16-2/resnet8") == Needs(expert=(LOGITS,))
    assert chosen.entries["kd.temperature"].when == {}
    assert {config.method.name for config in chosen.pair_configs()} == {"kd"}


def test_without_a_word_on_methods_the_same_is_drawn_as_with_ctkd_alone():
    text = "search: {alpha: {float: [0.1, 1]}, step_loss: {choice: [kl, mse]}, lr: {float: [0.01, 0.1], log: true}%s}"
    silent, told = space(text % ""), space(text % ", method: ctkd")
    assert [trial.params for trial, _ in draws(silent, 9)] == [trial.params for trial, _ in draws(told, 9)]
    assert [values for _, values in draws(silent, 9)] == [values for _, values in draws(told, 9)]
    assert set(silent.paper_point()) == {"alpha", "step_loss", "lr"}


def test_the_teachers_are_prepared_for_what_any_of_the_methods_needs():
    chosen = space(SEVERAL)
    every = tuple(TeacherOutput("attention", layer) for layer in (1, 2, 3))
    needs = chosen.needs("wrn-16-2/resnet8")
    assert needs.scratch
    assert set(needs.expert) == {*every, LOGITS}
    assert space("search: {method: {choice: [none, kd]}}").needs("wrn-40-1/wrn-16-1") == Needs(expert=(LOGITS,))


def test_every_method_begins_with_the_settings_of_its_paper():
    chosen = space(
        "search: {method: {choice: [kd, at, ctkd]}, kd: {temperature: {float: [1, 3]}}, alpha: {float: [0, 9]}}"
    )
    points = {name: chosen.decode(chosen.paper_point(name)) for name in chosen.methods()}
    assert {name: values["method"] for name, values in points.items()} == {name: name for name in points}
    assert points["kd"]["kd.temperature"] == 3.0
    assert points["ctkd"]["alpha"] == 1.0
    assert chosen.paper_point("at") == {"method": "at"}


def asked(chosen: Space, count: int, path=None):
    """The stored values of that many trials, as a search asks for them; each finishes before the next is asked."""
    study = Study(chosen, path, "x", lambda record: [record.value])
    study.begin()
    records: list[TrialRecord] = []
    for number in range(1, count + 1):
        optuna_number, stored, _ = study.ask(number, [record.optuna for record in records])
        record = a_trial(number, 0.1 * (number % 7), space=chosen, stored=stored, optuna=optuna_number)
        study.trial_ended(record)
        records.append(record)
    return records


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes", "qmc", "random"])
def test_with_every_sampler_conditions_hold_and_each_method_gets_as_many_trials(sampler):
    options = {"tpe": "{name: tpe, startup_trials: 4}", "gp": "{name: gp, startup_trials: 4}"}
    chosen = space(SEVERAL, f"sampler={options.get(sampler, sampler)}")
    records = asked(chosen, 18)
    order = [record.method for record in records]
    assert order[:4] == ["ctkd", "kd", "at", "none"]
    for count in range(4, 19):
        had = Counter(order[:count])
        assert max(had.values()) - min(had.values()) <= 1
    for record in records:
        assert record.stored.keys() - {"pair", "method", "lr", "momentum"} <= OWN[record.method]
        assert make_method(chosen.config(chosen.decode(record.stored)).method).name == record.method


def test_what_is_asked_after_an_interruption_is_what_would_have_been():
    chosen = space(SEVERAL)
    whole = asked(chosen, 10)
    study = Study(chosen, Path("study.log"), "x", lambda record: [record.value])
    study.begin()
    records: list[TrialRecord] = []
    for number in range(1, 11):
        if number in {3, 6}:
            # Cut short, once between the two steps of a suggestion.
            if number == 6:
                study._balance_methods({record.optuna for record in records})
            study = Study(chosen, Path("study.log"), "x", lambda record: [record.value])
            study.begin()
        optuna_number, stored, _ = study.ask(number, [record.optuna for record in records])
        record = a_trial(number, 0.1 * (number % 7), space=chosen, stored=stored, optuna=optuna_number)
        study.trial_ended(record)
        records.append(record)
    assert [record.stored for record in records] == [record.stored for record in whole]


def test_methods_are_not_stopped_for_what_others_learn():
    chosen = space(SEVERAL.replace("epochs: 9", "epochs: 9, grace_period: 1, reduction_factor: 2"))
    trials = {}
    for number, (method, value) in enumerate([("kd", 0.9), ("kd", 0.8), ("none", 0.3), ("none", 0.2)], start=1):
        stored = {**chosen.paper_point(method), "method": method}
        trials[number] = a_trial(number, value, status=RUNNING, space=chosen, stored=stored)
    scheduler = GroupedAsha(chosen, trials)
    decisions = {}
    for number, record in trials.items():
        bracket = scheduler._bracket(record)
        bracket.add(number, 1, record.epochs[0]["validation_accuracy"], str(number))
        decisions[number] = bracket.goes_on(number, 1)
    # Among all four, neither of those without a teacher would go on.
    assert decisions == {1: True, 2: False, 3: True, 4: False}


OWN_METHOD = """\
search:
  method: {choice: [kd, "support.own_methods:Right"]}
  support.own_methods:Right:
    weight: {choice: [0, 2.5]}
    norm: {choice: [l1, l2], when: {weight: 2.5}}
  kd: {temperature: {float: [1, 9]}}
"""


def test_a_method_of_ones_own_is_named_by_its_reference():
    chosen = space(OWN_METHOD)
    name = "support.own_methods:Right"
    assert chosen.methods() == ("kd", name)
    seen = set()
    for trial, values in draws(chosen, 60):
        config = chosen.config(values)
        assert config.method.name == values["method"]
        assert chosen.decode(trial.params) == values
        own = {key: value for key, value in chosen.effective(values).items() if key.startswith(name)}
        if values["method"] == name:
            assert config.method.values == {"weight": values[f"{name}.weight"], "norm": values[f"{name}.norm"]}
            assert set(own) == {f"{name}.weight", *([f"{name}.norm"] if own[f"{name}.weight"] else [])}
        else:
            assert own == {}
        seen.add((values["method"], *own.values()))
    assert len(seen) == 4
    label = chosen.label({"pair": "wrn-40-1/wrn-16-1", "method": name, f"{name}.weight": 2.5, f"{name}.norm": "l1"})
    assert label == f"wrn-16-1 {name} w=2.5 l1"


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("search.method=nowhere:Right", "search.method cannot be used: there is no module 'nowhere'"),
        ("search.method=support.own_methods:Absent", "has no 'Absent'"),
        ("search.method=kd", "search.support.own_methods:Right is not among the methods (kd); add it to method"),
        ("search.support.own_methods:Right={size: 1}", "search.support is not a known key"),
    ],
)
def test_a_method_of_ones_own_that_cannot_be_is_refused(override, fault):
    with pytest.raises(UserError) as refused:
        space(OWN_METHOD, override)
    assert fault in str(refused.value)
