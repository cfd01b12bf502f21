"""What a search is compared with: which trainings there are, for whom, and exactly which configs."""

from __future__ import annotations

import dataclasses

import pytest
from support.factories import a_space, a_trial

from ctkd_search.config import MethodConfig
from ctkd_search.distill.methods.base import make_method
from ctkd_search.errors import UserError
from ctkd_search.records.store import BASELINE, SEARCHED
from ctkd_search.records.trial_configs import config_of, label_of, with_seed
from ctkd_search.search.prepare import need_of
from ctkd_search.space.baselines import BASELINES, baseline_pairs
from ctkd_search.space.comparisons import baseline_config
from ctkd_search.space.definition import shown_values
from ctkd_search.space.parameters import TRAINING

A, B, C = "wrn-16-2/resnet8", "wrn-16-1/resnet8", "wrn-16-2/wrn-16-1"
SEARCH = {
    "pair": {"choice": [A, C]},
    "step_loss": {"choice": ["kl", "mse"]},
    "temperature": {"float": [1, 20], "when": {"step_loss": "kl"}},
    "alpha": {"float": [0.01, 5]},
    "beta": {"float": [0.3, 60]},
    "attention_layers": {"subsets": [1, 2, 3]},
    "lr": {"float": [0.01, 0.3]},
}


def space(search=SEARCH, **sections):
    return a_space(search=search, **sections)


@pytest.mark.parametrize(
    ("names", "pairs", "expected"),
    [
        ([], [A], []),
        (["kd"], [A, B], [("kd", A), ("kd", B)]),
        # Without a teacher, once for each student, with the first pair that has it.
        (["student-alone"], [A, B, C], [("student-alone", A), ("student-alone", C)]),
        (["student-alone", "at"], [A, B], [("student-alone", A), ("at", A), ("at", B)]),
        (["at", "kd"], [C], [("at", C), ("kd", C)]),
    ],
)
def test_a_baseline_is_run_for_each_pair_or_student(names, pairs, expected):
    assert baseline_pairs(names, pairs) == expected
    assert baseline_pairs(iter(names), iter(pairs)) == expected


# Of each, what is not its method's default: the search's own where it has no such value, but for the paper's settings,
# which have the default for the pair whatever the search has.
METHODS = {
    "student-alone": MethodConfig("none"),
    "kd": MethodConfig("kd", {"temperature": 4.0, "weight": 0.9}),
    "at": MethodConfig("at", {"beta": 60.0, "attention_layers": (1, 2, 3)}),
    "scratch-only": MethodConfig("scratch-only", {"step_loss": "kl", "temperature": 4.0, "alpha": 1.0}),
    "ctkd-paper": MethodConfig("ctkd", {"step_loss": "kl", "temperature": 4.0, "alpha": 1.0, "beta": 62.5}),
}


@pytest.mark.parametrize("pair", [A, C])
@pytest.mark.parametrize("name", METHODS)
def test_a_baseline_differs_in_its_method_and_shares_everything_else(name, pair):
    chosen = space(seed=3, budget={"epochs": 7}, augment={"crop": 0}, train={"gamma": 0.5}, teachers={"seed": 9})
    config = baseline_config(chosen, name, pair)
    assert f"{config.teacher}/{config.student}" == pair
    assert make_method(config.method).values == make_method(METHODS[name]).values
    assert config.method.name == METHODS[name].name
    searched = chosen.config(chosen.decode(chosen.paper_point()))
    same = {"method": searched.method, "teacher": searched.teacher, "student": searched.student}
    assert dataclasses.replace(config, **same) == searched
    assert (config.seed, config.epochs, config.train.gamma, config.teachers.seed) == (3, 7, 0.5, 9)


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("student-alone", (False, False, False)),
        ("kd", (False, True, False)),
        ("at", (False, True, True)),
        ("scratch-only", (True, False, False)),
        ("ctkd-paper", (True, True, True)),
    ],
)
def test_a_baseline_needs_the_teachers_it_is_named_for_and_no_others(name, needs):
    config = baseline_config(space(), name, A)
    need = need_of(config)
    assert (need.needs.scratch, need.needs.any_expert, bool(need.needs.attention)) == needs


def test_a_weight_that_the_search_does_without_is_the_papers_where_a_baseline_is_about_it():
    without = {key: entry for key, entry in SEARCH.items() if key not in ("step_loss", "temperature", "alpha", "beta")}
    chosen = space({**without, "alpha": 0, "beta": {"float": [0, 60]}})
    weights = {name: baseline_config(chosen, name, A).method.values for name in ("at", "scratch-only", "ctkd-paper")}
    assert {name: (values.get("alpha"), values.get("beta")) for name, values in weights.items()} == {
        "at": (None, 60.0),
        "scratch-only": (1.0, None),
        "ctkd-paper": (1.0, 62.5),
    }


def test_the_papers_settings_are_the_same_in_a_search_that_does_not_have_them():
    chosen = space({**SEARCH, "expert_kd": {"float": [0.1, 5], "log": True}, "temperature": 2})
    values = baseline_config(chosen, "ctkd-paper", A).method.values
    assert (values["expert_kd"], values["temperature"]) == (0.0, 4.0)


def test_a_parameter_that_is_not_searched_beside_the_papers_settings_has_its_default():
    lr = {"float": [0.2, 0.3], "when": {"step_loss": "mse"}}
    assert baseline_config(space({**SEARCH, "lr": lr}), "ctkd-paper", A).train.lr == 0.2
    lr = {"float": [0.2, 0.3], "when": {"step_loss": "kl"}}
    assert baseline_config(space({**SEARCH, "lr": lr}), "ctkd-paper", A).train.lr == 0.2


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("student-alone", {"none.label_smoothing"}),
        ("kd", {"kd.temperature", "kd.weight", "kd.standardised"}),
        ("at", {"at.beta", "at.attention_layers"}),
        (
            "scratch-only",
            {
                f"scratch-only.{key}"
                for key in ("alpha", "alpha_schedule", "step_loss", "temperature", "standardised", "step_teacher")
            },
        ),
        (
            "ctkd-paper",
            {"alpha", "alpha_schedule", "beta", "beta_schedule", "expert_kd"}
            | {"step_loss", "temperature", "standardised", "attention_layers", "step_teacher"}
            | {"attention_loss", "first_weight", "last_weight"},
        ),
    ],
)
def test_what_is_shown_of_a_baseline_is_what_has_an_effect(name, shown):
    config = baseline_config(space(), name, C)
    values = shown_values(config)
    recipe = {item.name for item in TRAINING} - {"cooldown", "effective_beta"}
    assert values.keys() == shown | recipe | {"pair", "method"}
    assert (values["pair"], values["method"]) == (C, config.method.name)
    assert {key: config.method.values[key.rpartition(".")[2]] for key in shown} == {key: values[key] for key in shown}
    assert {key: getattr(config.train, key) for key in recipe} == {key: values[key] for key in recipe}


@pytest.mark.parametrize("name", [*BASELINES, None])
def test_a_record_gives_its_config_again_with_its_own_seed(name):
    chosen = space(seed=3, teachers={"seed": 10, "expert": {"seed": 4}})
    stored = {} if name else chosen.paper_point() | {"pair": C, "lr": 0.02}
    config = baseline_config(chosen, name, C) if name else chosen.config(chosen.decode(stored))
    values = shown_values(config)
    kind = BASELINE if name else SEARCHED
    first = a_trial(1, values=values, stored=stored, seed=3, baseline=name, kind=kind)
    again = a_trial(2, values=values, stored=stored, seed=5, baseline=name, repeats=1)
    horizon = 0.0 if name else chosen.strategy.ranking.horizon
    assert config_of(chosen, first) == dataclasses.replace(config, ranking_horizon=horizon)
    fresh = config_of(chosen, again)
    assert (fresh.seed, fresh.teachers.seed, fresh.teachers.expert.seed) == (5, 12, 6)
    assert with_seed(fresh, 3, 5) == config
    student = C.split("/")[1]
    label = f"{name} {student}" if name else f"{student} kl T=4 a=1 b=60 L1,2,3 lr=0.02"
    assert label_of(chosen, first) == label
    assert label_of(chosen, again) == f"{label} seed=5"


def test_a_baseline_that_a_pair_cannot_be_taught_by_is_refused_with_the_reason():
    search = {"pair": "resnet8x4/resnet8", "alpha": {"float": [0.01, 5]}}
    with pytest.raises(
        UserError, match=r"baselines.1 ctkd-as-released cannot be used with resnet8x4/resnet8: .* the same"
    ):
        space(search, baselines=["kd", "ctkd-as-released"])
    assert space({**search, "pair": A}, baselines=["ctkd-as-released"]).strategy.baselines == ("ctkd-as-released",)


@pytest.mark.parametrize(
    ("baselines", "sections", "said"),
    [
        (
            ["kd", "fs"],
            {},
            "baselines.1 fs cannot be used with wrn-16-2/resnet8: the statistics of layer 1 ",
        ),
        (["kd", "fs-bridged"], {}, None),
        (
            ["rco"],
            {"teachers": {"expert": {"checkpoint": "mine.pt"}}},
            "baselines.0 rco cannot be used with teachers.expert: it needs",
        ),
    ],
)
def test_a_baseline_that_cannot_teach_a_pair_is_refused_when_the_space_is_read(baselines, sections, said, tmp_path):
    (tmp_path / "mine.pt").touch()
    if "teachers" in sections:
        sections["teachers"]["expert"]["checkpoint"] = str(tmp_path / "mine.pt")
    if said is None:
        assert space(baselines=baselines).strategy.baselines == tuple(baselines)
        return
    with pytest.raises(UserError) as caught:
        space(baselines=baselines, **sections)
    assert said in str(caught.value)
