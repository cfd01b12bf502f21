"""What a search makes of a valid space: values, how they are kept, configs and the paper's point."""

from __future__ import annotations

import dataclasses
import json
import warnings

import pytest
from support.factories import SHIPPED
from support.space_texts import ANY_SPACE, EVERY_FORM, SEARCH, any_space, draws, space

from ctkd_search.config import MethodConfig, TrialConfig, plain
from ctkd_search.distill.methods.base import methods
from ctkd_search.distill.requests import LOGITS, Needs, TeacherOutput
from ctkd_search.errors import UserError
from ctkd_search.names import check_name
from ctkd_search.pairs import Pair
from ctkd_search.space.parameters import TRAINING, key_of
from ctkd_search.space.reader import read_space, space_of
from ctkd_search.space.sections import Budget

pytestmark = pytest.mark.usefixtures("shipped")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_space_is_valid_and_named_after_its_file(path):
    chosen = read_space(path)
    assert chosen.name == path.stem
    for _, values in draws(chosen, 50):
        assert isinstance(chosen.config(values), TrialConfig)


@ANY_SPACE
def test_what_is_kept_of_a_trial_gives_its_values_again(source):
    chosen = any_space(source)
    again = space_of(plain(dict(chosen.raw)))
    for trial, values in draws(chosen, 200):
        assert chosen.decode(trial.params) == values
        assert again.config(again.decode(trial.params)) == chosen.config(values)


@ANY_SPACE
def test_what_has_an_effect_gives_what_was_stored_again(source):
    chosen = any_space(source)
    for trial, values in draws(chosen, 200):
        effective = chosen.effective(values)
        assert chosen.encode(effective) == trial.params
        # As a record keeps it.
        assert chosen.encode(json.loads(json.dumps(plain(effective)))) == trial.params


SMALL = "search: {pair: {choice: [wrn-16-2/resnet8, wrn-16-1/resnet8]}, alpha: {float: [1, 2]}}"
OF_SMALL = {"pair": "wrn-16-2/resnet8", "alpha": 1.5, "step_loss": "kl", "temperature": 4.0, "beta": 62.5}
OF_SMALL |= {"attention_layers": [1, 2, 3], "lr": 0.2, "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 128}
OF_SMALL |= {"alpha_schedule": "constant", "beta_schedule": "constant", "expert_kd": 0.0}
OF_SMALL |= {"optimizer": "sgd", "clip": 0.0, "schedule": "linear", "warmup": 9.0, "average": 0.0}
OF_SMALL |= {"label_smoothing": 0.0, "class_weights": "none", "standardised": False}
OF_SMALL |= {"step_teacher": "scratch", "attention_loss": "square", "first_weight": 1.0, "last_weight": 1.0}


@pytest.mark.parametrize(
    ("changes", "stored"),
    [
        ({}, {"pair": "wrn-16-2/resnet8", "alpha": 1.5}),
        ({"pair": "wrn-16-1/resnet8", "alpha": 2.0}, {"pair": "wrn-16-1/resnet8", "alpha": 2.0}),
        ({"attention_layers": (1, 2, 3)}, {"pair": "wrn-16-2/resnet8", "alpha": 1.5}),
        ({"alpha": 0.5}, None),
        ({"pair": "wrn-40-1/wrn-16-1"}, None),
        ({"temperature": 5.0}, None),
        ({"step_loss": "mse"}, None),
        ({"batch_size": 64}, None),
        ({"attention_layers": [1, 2]}, None),
    ],
)
def test_only_values_that_a_trial_of_the_space_may_have_can_be_stored(changes, stored):
    assert space(SMALL).encode({**OF_SMALL, **changes}) == stored


@pytest.mark.parametrize(("missing", "stored"), [("temperature", None), ("beta", None), ("alpha", None)])
def test_values_that_lack_one_that_has_an_effect_are_no_trial(missing, stored):
    values = {name: value for name, value in OF_SMALL.items() if name != missing}
    assert space(SMALL).encode(values) == stored


def test_a_value_that_has_no_effect_is_stored_as_the_nearest_to_its_default():
    # The step loss is searched in every trial here, and without effect in those where alpha happens to be 0.
    chosen = space("search: {step_loss: {choice: [mse, kl]}, alpha: {float: [0, 1]}}")
    stored = {"step_loss": "mse", "alpha": 0.0}
    effective = chosen.effective(chosen.decode(stored))
    assert "step_loss" not in effective
    assert chosen.encode(effective) == {"step_loss": "kl", "alpha": 0.0}


def test_a_space_of_fewer_pairs_draws_only_those_and_has_no_others():
    pairs = ["wrn-16-2/resnet8", "wrn-16-1/resnet8", "wrn-16-2/wrn-16-1"]
    chosen = space(SEARCH, f"search.pair={{choice: [{', '.join(pairs)}]}}")
    for allowed in (pairs[:1], pairs[1:], [pairs[2], pairs[0]], pairs, [*pairs, "other/pair"]):
        narrowed = chosen.with_pairs(allowed)
        left = [pair for pair in pairs if pair in allowed]
        assert narrowed.pairs() == left
        assert {values["pair"] for _, values in draws(narrowed, 60)} == set(left)
        assert str(narrowed.entries["pair"]) == " | ".join(left)
        assert [f"{config.teacher}/{config.student}" for config in narrowed.pair_configs()] == left
        assert dataclasses.replace(narrowed, entries=chosen.entries) == chosen
        outside = chosen.effective(chosen.decode({"pair": pairs[0], "alpha": 1.5}))
        assert (narrowed.encode(outside) is None) is (pairs[0] not in left)
    assert chosen.pairs() == pairs
    constant = space(SEARCH, "search.pair=wrn-16-2/resnet8")
    assert constant.with_pairs(["wrn-16-2/resnet8"]) is constant


@ANY_SPACE
def test_every_value_is_resolved_into_the_config(source):
    chosen = any_space(source)
    for _, values in draws(chosen, 50):
        config = chosen.config(values)
        name = values["method"]
        method = {item.name: key_of(name, item.name) for item in methods()[name].parameters}
        assert str(Pair(config.teacher, config.student)) == values["pair"]
        assert config.method == MethodConfig(name, {own: values[key] for own, key in method.items()})
        recipe = {item.name: values[item.name] for item in TRAINING}
        assert config.train == dataclasses.replace(chosen.train, **recipe)
        keys = {key_of(own, item.name) for own in chosen.methods() for item in methods()[own].parameters}
        assert set(values) == {"pair", "method", *keys, *recipe, *(["augment"] if chosen.augments else [])}


def test_a_parameter_is_drawn_where_its_condition_holds_and_takes_its_default_elsewhere():
    chosen = space(f"train: {{lr: 0.07}}\n{EVERY_FORM}".replace("  lr:", "  # lr:"))
    seen = set()
    for trial, values in draws(chosen, 200):
        follows, softened = values["alpha"] > 0, values["alpha"] > 0 and values["step_loss"] == "kl"
        paired = values["step_loss"] == "kl" and values["pair"] == "wrn-16-2/resnet8"
        assert ("step_loss" in trial.params) is follows
        assert ("temperature" in trial.params) is softened
        assert ("pair" in trial.params) is (values["step_loss"] == "kl")
        assert ("attention_layers" in trial.params) is paired
        defaults = {"step_loss": "kl", "temperature": 4.0, "pair": "wrn-40-1/wrn-16-1", "attention_layers": (1, 2, 3)}
        for name in defaults.keys() - trial.params.keys():
            assert values[name] == defaults[name]
        assert values["lr"] == 0.07
        seen.add((follows, softened, paired))
    assert len(seen) >= 4


def test_conditions_decide_the_order_in_which_parameters_are_drawn():
    for trial, _ in draws(space(EVERY_FORM), 30):
        order = list(trial.params)
        for name, other in [("pair", "step_loss"), ("step_loss", "alpha"), ("lr", "attention_layers")]:
            assert {name, other} - set(order) or order.index(other) < order.index(name)


PAPER = {
    "cifar10": {"pair": "wrn-40-1/wrn-16-1", "temperature": 4.0, "alpha": 1.0, "beta": 1000.0, "lr": 0.1},
    "digits": {"pair": "wrn-16-2/resnet8", "temperature": 4.0, "alpha": 1.0, "beta": 60.0, "lr": 0.2},
    "search: {temperature: {float: [5, 9]}, alpha: {float: [0.01, 0.5]}, lr: {float: [0.3, 1], step: 0.1}, "
    "momentum: {float: [0.1, 0.95]}, batch_size: {int: [16, 100]}, step_loss: kl}": {
        "temperature": 5.0, "alpha": 0.5, "lr": 0.3, "momentum": 0.9, "batch_size": 100,
    },
}  # fmt: skip


@pytest.mark.parametrize("source", PAPER)
def test_the_first_trial_has_the_papers_settings_or_the_nearest(source):
    chosen = any_space(next((path for path in SHIPPED if path.stem == source), source))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna warns of a value that it must leave out
        ((trial, values),) = draws(chosen, 1, first=chosen.paper_point())
    assert {name: values[name] for name in PAPER[source]} == PAPER[source]
    assert (values["step_loss"], values["attention_layers"]) == ("kl", (1, 2, 3))
    assert trial.params == chosen.paper_point()


def test_the_papers_point_leaves_out_what_is_not_searched_beside_the_rest_of_it():
    chosen = space(
        "search: {step_loss: {choice: [kl, mse]}, lr: {float: [0.2, 0.3], when: {step_loss: mse}}, "
        "momentum: {float: [0.1, 0.2], when: {step_loss: kl}}}"
    )
    assert chosen.paper_point() == {"step_loss": "kl", "momentum": 0.2}
    assert chosen.decode(chosen.paper_point())["lr"] == 0.1
    ((trial, _),) = draws(chosen, 1, first=chosen.paper_point())
    assert trial.params == chosen.paper_point()


# Without effect unless a space says otherwise.
EXTENDED = {"attention_loss", "first_weight", "last_weight"}
OFF = {"alpha_share", "beta_share", "expert_temperature", "expert_standardised", "cooldown", "effective_beta"}


@pytest.mark.parametrize(
    ("changes", "hidden"),
    [
        ({}, OFF),
        ({"step_loss": "mse"}, {"temperature", "standardised", *OFF}),
        ({"alpha": 0.0}, {"step_loss", "temperature", "standardised", "step_teacher", "alpha_schedule", *OFF}),
        ({"beta": 0.0}, {"attention_layers", *EXTENDED, "beta_schedule", *OFF}),
        ({"alpha": 1e-9, "beta": 1e-9}, OFF),
        ({"optimizer": "adamw"}, {"momentum", *OFF}),
        ({"schedule": "constant"}, OFF - {"cooldown"}),
        ({"alpha_schedule": "first", "expert_kd": 0.1}, {"beta_share", "cooldown", "effective_beta"}),
        ({"class_weights": "effective"}, OFF - {"effective_beta"}),
        ({"class_weights": (1.0,) * 10}, OFF),
    ],
)
def test_a_value_is_hidden_exactly_where_it_has_no_effect(changes, hidden):
    chosen = space(EVERY_FORM)
    values = {**chosen.decode({}), "alpha": 1.0, **changes}
    assert chosen.effective(values) == {name: value for name, value in values.items() if name not in hidden}


def test_each_teacher_is_prepared_once_and_a_weight_of_0_switches_its_part_off():
    pairs = "search.pair={choice: [wrn-16-2/resnet8, wrn-16-1/resnet8, wrn-16-2/wrn-16-1]}"
    chosen = space(SEARCH, pairs)
    teachers = chosen.teachers_by_name()
    assert {name: config.teacher for name, config in teachers.items()} == {n: n for n in ("wrn-16-1", "wrn-16-2")}
    every = tuple(TeacherOutput("attention", layer) for layer in (1, 2, 3))
    assert chosen.needs("wrn-16-1/resnet8") == Needs(True, every)
    assert space(SEARCH, "search.beta=0").needs("wrn-16-1/resnet8") == Needs(True)
    some = space("search: {alpha: {choice: [0, 1]}, beta: 0, expert_kd: {float: [0, 1]}}")
    assert some.needs("wrn-16-1/resnet8") == Needs(True, (LOGITS,))
    layers = "search.attention_layers={choice: [[1], [3]], when: {pair: wrn-16-1/resnet8}}"
    assert chosen.needs("wrn-16-1/resnet8").attention == (1, 2, 3)
    assert space(SEARCH, pairs, layers).needs("wrn-16-1/resnet8").attention == (1, 3)
    assert space(SEARCH, pairs, layers).needs("wrn-16-2/resnet8").attention == (1, 2, 3)


@pytest.mark.parametrize(
    ("epochs", "grace", "factor", "rungs"),
    [
        (12, 2, 3, [2, 6]),
        (60, 3, 3, [3, 9, 27]),
        (9, 1, 3, [1, 3]),
        (10, 1, 3, [1, 3, 9]),
        (4, 4, 2, []),
        (1, 1, 2, []),
    ],
)
def test_trials_are_compared_at_rungs_below_the_last_epoch(epochs, grace, factor, rungs):
    assert Budget(epochs=epochs, grace_period=grace, reduction_factor=factor).rungs() == rungs


@pytest.mark.parametrize("name", ["a", "A-1_b.c", "9", "x" * 63])
def test_a_name_of_letters_digits_dots_and_dashes_is_taken(name):
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", ".a", "a/b", "..", "a b", "é", "x" * 64, "a\n", "-a"])
def test_any_other_name_is_refused_with_the_rule(name):
    with pytest.raises(UserError, match="--name must be letters, digits"):
        check_name(name)


def test_two_ways_to_type_a_pair_are_one_pair():
    text = "search: {pair: {choice: %s}, lr: {float: [0.01, 0.1], when: {pair: %s}}}"
    found = space(text % ("[wrn-16-2 -> resnet8, wrn-16-1/resnet8]", "wrn-16-2->resnet8"))
    assert found.pairs() == ["wrn-16-2/resnet8", "wrn-16-1/resnet8"]
    assert found.entries["lr"].when == {"pair": ("wrn-16-2/resnet8",)}
    with pytest.raises(UserError, match="is duplicated"):
        space(text % ("[wrn-16-2 -> resnet8, wrn-16-2/resnet8]", "wrn-16-2/resnet8"))
