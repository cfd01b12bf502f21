"""The configs of earlier searches that a search tries first."""

from __future__ import annotations

import pytest
from optuna.trial import TrialState
from support.factories import SEARCH, a_space, a_trial
from support.warm_starts import begun, earlier_search, enqueued

from ctkd_search.display.overview import exported_configs
from ctkd_search.errors import UserError
from ctkd_search.records.config_list import PUBLISHED, published_names, read_list

CIFAR = [10, 3, 32]


@pytest.mark.parametrize(
    ("changes", "fingerprint", "said"),
    [
        ({}, "g" * 64, "the training images differ; its best 3 configs are tried first; its results are left alone"),
        (
            {"budget": {"epochs": 12}},
            "f" * 64,
            "budget.epochs and teachers.recipe.warmup differ; its best 3 configs are tried first (3 with another value",
        ),
        (
            {"search": {**SEARCH, "pair": "wrn-10-1/resnet8"}},
            "f" * 64,
            "none of its 4 results is in this space; its best 3 configs are tried first (3 with another value of pair)",
        ),
    ],
    ids=["images", "epochs", "pair"],
)
def test_otherwise_the_best_configs_are_tried_before_the_default_settings_and_no_result_is_given(
    tmp_path, changes, fingerprint, said
):
    earlier_search(tmp_path)
    space = a_space(sampler="random", **changes)
    study, (start,), lines = begun(tmp_path, ["old"], space, fingerprint=fingerprint)
    assert lines[0].startswith(f"warm start from 'old': {said}")
    assert study.study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED)) == []
    *others, last = enqueued(study)
    assert last == space.paper_point()
    assert [each["lr"] for each in others] == [0.03, 0.04, 0.05]
    assert [(config.trial, config.reached) for config in start.configs] == [
        (2, "90.00 %"),
        (3, "80.00 %"),
        (4, "70.00 %"),
    ]
    assert [config.stored for config in start.configs] == others
    # They are the trials that a search gets, with just these values.
    asked = [study.ask(number, range(number)).stored for number in range(1, 5)]
    assert asked == [*others, last]


def test_the_best_of_each_search_comes_before_the_second_best_that_of_the_same_kind_of_images_first(tmp_path):
    space = a_space(sampler="random")
    for name, start, geometry in (("large", 0.05, CIFAR), ("small", 0.1, [10, 1, 8]), ("third", 0.15, CIFAR)):
        trials = [
            a_trial(number, accuracy, space=space, stored={**space.paper_point(), "lr": start + number / 100})
            for number, accuracy in enumerate([0.6, 0.9, 0.8], start=1)
        ]
        earlier_search(tmp_path, name, space, trials, geometry=geometry, fingerprint="g" * 64)
    study, starts, _ = begun(tmp_path, ["large", "small", "third"], space)
    found = [round(each["lr"], 2) for each in enqueued(study)[:-1]]
    assert found == [0.12, 0.07, 0.17, 0.13, 0.08, 0.18, 0.11, 0.06, 0.16]
    assert [[config.trial for config in start.configs] for start in starts] == [[2, 3, 1]] * 3


def test_a_config_of_two_names_is_tried_once(tmp_path):
    for name in ("old", "older"):
        earlier_search(tmp_path, name)
    study, (_, second), said = begun(tmp_path, ["old", "older"], a_space(sampler="random"), fingerprint="g" * 64)
    assert len(enqueued(study)) == 4
    assert [config.known for config in second.configs] == [True] * 3
    assert "(Optuna has 3 of them already)" in said[1]


def test_a_config_whose_result_optuna_has_is_not_tried_again(tmp_path):
    earlier_search(tmp_path, "same")
    earlier_search(tmp_path, "other", fingerprint="g" * 64)
    study, starts, _ = begun(tmp_path, ["other", "same"], a_space(sampler="random"))
    assert len(enqueued(study)) == 1
    assert [(start.name, start.taken, len(start.configs)) for start in starts] == [("other", 0, 3), ("same", 4, 0)]
    assert all(config.known for config in starts[0].configs)


def test_configs_of_methods_that_are_not_searched_here_are_left_out_and_named(tmp_path):
    methods = {"method": {"choice": ["ctkd", "kd"]}, "pair": "wrn-16-2/resnet8", "lr": {"float": [0.01, 0.3]}}
    there = a_space(sampler="random", search=methods)
    trials = [
        a_trial(number, 0.5, space=there, stored=there.paper_point(method) | {"lr": 0.02})
        for number, method in enumerate(["kd", "ctkd"], start=1)
    ]
    earlier_search(tmp_path, space=there, trials=trials, fingerprint="g" * 64)
    _, (start,), said = begun(tmp_path, ["old"], a_space(sampler="random"))
    assert [config.trial for config in start.configs] == [2]
    assert start.left_out == ["trial 1 (method kd is not searched here)"]
    assert "left out: trial 1 (method kd is not searched here)" in said[0]
    kd = a_space(sampler="random", search={"method": "dkd", "pair": "wrn-16-2/resnet8", "lr": {"float": [0.01, 0.3]}})
    with pytest.raises(UserError) as caught:
        begun(tmp_path, ["old"], kd)
    assert str(caught.value) == (
        "--warm-start old brings nothing to this search, because the methods of its configs (kd, ctkd) are not "
        "searched here; leave it out"
    )


def test_where_trials_are_few_no_method_has_them_all_from_an_earlier_search(tmp_path):
    earlier_search(tmp_path)
    space = a_space(sampler="random", search={**SEARCH, "method": {"choice": ["ctkd", "kd"]}}, budget={"trials": 4})
    study, (start,), said = begun(tmp_path, ["old"], space, fingerprint="g" * 64)
    assert [config.trial for config in start.configs] == [2]
    assert start.left_out == [f"trial {number} (of ctkd, 1 is enough for 4 trials)" for number in (3, 4)]
    assert "left out: trial 3 (of ctkd, 1 is enough for 4 trials)" in said[0]
    drawn = [study.ask(number, range(number - 1)).values["method"] for number in range(1, 5)]
    assert sorted(drawn) == ["ctkd", "ctkd", "kd", "kd"]


def test_published_configs_are_tried_first_all_or_those_of_one_search(tmp_path):
    space = a_space(sampler="random")
    study, starts, said = begun(tmp_path, ["published"], space)
    assert {start.name for start in starts} == {f"published/{name}" for name in published_names()}
    assert {start.asked for start in starts} == {"published"}
    assert any(start.name == "published/digits" for start in starts)
    assert len(said) == len(starts)
    firsts = [start.configs[0] for start in starts]
    first, *others = enqueued(study)
    # Those of the digits first, then the best one of each other search.
    assert first == next(start.configs[0].stored for start in starts if start.name == "published/digits")
    assert others[: len(starts) - 1] == [one.stored for one in firsts if one.stored != first]
    # Each once, and the default settings, unless they are those of a published config.
    offered = [config.stored for start in starts for config in start.configs if not config.known]
    assert len(others) + 1 == len(offered) + (space.paper_point() not in offered)
    assert all(point in [first, *others] for point in offered)
    _, (digits,), _ = begun(tmp_path, ["published/digits"], space)
    assert [config.trial for config in digits.configs] == [
        config.trial for config in read_list(PUBLISHED / "digits.yaml").configs
    ]


def test_a_file_of_best_configs_is_tried_first(tmp_path):
    folder = earlier_search(tmp_path)
    path = tmp_path / "mine.yaml"
    path.write_text(exported_configs(tmp_path, folder.name))
    study, (start,), said = begun(tmp_path / "elsewhere", [str(path)], a_space(sampler="random"))
    assert said == [f"warm start from {str(path)!r}: its best 3 configs are tried first"]
    assert [each["lr"] for each in enqueued(study)[:-1]] == [0.03, 0.04, 0.05]
    assert [config.reached for config in start.configs] == ["90.00 %", "80.00 %", "70.00 %"]
