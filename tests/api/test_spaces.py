"""Spaces and overrides as users of the Python API write them."""

import math
from pathlib import Path

import numpy as np
import pytest
from support.factories import DIGITS, space_content

import ctkd_search
from ctkd_search.api.spaces import open_space, plain_values, words
from ctkd_search.errors import UserError
from ctkd_search.space.document import Document
from ctkd_search.space.reader import read_space

VALUES = [
    *(0, 7, -3, 0.1, 1e-5, 1e22, True, False, None),
    *("", "yes", "no", "null", "1e-3", "010", "1:30", "2024-01-01", "a: b", "# x", "{", "ü\n\t\"'", "~", "2h"),
    *([1, 2.5, "x"], {"float": [1e-3, 1], "log": True}, [], {}, [[1], [2, 3]]),
    *((1, 2), np.float32(0.25), np.int64(4), np.array([1, 2]), Path("a/b")),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_an_override_is_read_as_the_value_that_was_given(value):
    read = Document.of("the space", {}, words({"a.b": value})).data["a"]["b"]
    assert read == plain_values(value)
    assert type(read) is type(plain_values(value))


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_mapping_is_read_as_the_values_that_it_has(value):
    content = plain_values({"a": {"b": value}})
    assert Document.of("the space", content).data == content


def test_a_path_a_mapping_and_a_space_mean_the_same():
    changes = {"budget.trials": 5, "train.batch_size": 64}
    by_path, _ = open_space(DIGITS, changes)
    by_text, _ = open_space(str(DIGITS), ["budget.trials=5", "train.batch_size=64"])
    space = read_space(DIGITS)
    by_space, _ = open_space(space, changes)
    by_mapping = ctkd_search.read_space(space.raw, changes)
    assert by_path == by_text == by_space == by_mapping
    assert by_path.budget.trials == 5
    assert space.budget.trials != 5


def test_options_set_keys_and_overrides_take_precedence():
    space, _ = open_space(space_content(), {"budget.trials": 9}, budget__trials=8, budget__epochs=30)
    assert (space.budget.trials, space.budget.epochs) == (9, 30)


def test_a_mapping_is_not_changed():
    content = space_content()
    before = repr(content)
    open_space(content, {"search.lr": {"float": [0.01, 0.02]}, "train.batch_size": 32})
    assert repr(content) == before


def test_faults_of_a_mapping_have_no_lines_and_those_of_overrides_name_them():
    content = space_content(train={"batch_size": "64"}, sarch={})
    with pytest.raises(UserError) as refused:
        open_space(content, {"budget.trials": 0})
    assert str(refused.value).splitlines() == [
        "the space has 3 errors:",
        "  sarch is not a known key (did you mean search?); allowed: name, seed, dataset, augment, budget, sampler, "
        "scheduler, baselines, confirm, objectives, metrics, limits, teachers, train, search, resources, tracking",
        "  --set budget.trials: budget.trials must be at least 1, but got 0",
        "  train.batch_size must be a whole number, but got '64'",
    ]


def test_a_text_that_must_not_be_one_is_not_told_to_be_quoted_in_yaml():
    with pytest.raises(UserError) as refused:
        open_space(space_content(name=True))
    assert "name" in str(refused.value)
    assert "quotes" not in str(refused.value)


def test_no_overrides_are_none_of_them():
    assert open_space(space_content(), None)[0] == open_space(space_content())[0]


@pytest.mark.parametrize(
    ("space", "overrides", "reason"),
    [
        (3, (), "a space must be a path, a mapping or a Space, but got 3"),
        (None, (), "a space must be a path, a mapping or a Space, but got None"),
        (
            {"name": "x", "search": {"lr": object}},
            (),
            "the space: must contain numbers, texts, truth values, lists and",
        ),
        ({"pair": "a/b"}, (), "the space is the config of one training, not a space"),
        (DIGITS, "train.batch_size=64", "overrides must be a mapping of keys to values, but got 'train.batch_size=64'"),
        (DIGITS, 5, "overrides must be a mapping of keys to values, but got 5"),
        (DIGITS, [("train.lr", 1)], "overrides must be a mapping of keys to values, but got [('train.lr', 1)]"),
        (DIGITS, {"train.lr": object}, "the override of train.lr must contain numbers"),
        (DIGITS, {"train.lr": math.nan}, "--set train.lr: train.lr must be"),
        ("nowhere.yaml", (), "there is no file nowhere.yaml"),
    ],
)
def test_what_is_no_space_is_refused_in_one_line(space, overrides, reason):
    with pytest.raises(UserError) as refused:
        open_space(space, overrides)
    assert reason in str(refused.value)


def test_the_lines_of_a_file_are_named_as_the_command_names_them(tmp_path, call):
    path = tmp_path / "space.yaml"
    path.write_text("name: x\ndataset: {name: digits}\nbudget: {trials: 0}\nsearch: {lr: {float: [2, 1]}}\n")
    code, _, err = call("check", path)
    assert code == 2
    with pytest.raises(UserError) as refused:
        ctkd_search.check(path)
    assert f"ctkd-search: {refused.value}\n" == err


def test_an_empty_file_still_names_its_first_line(tmp_path):
    (tmp_path / "space.yaml").write_text("")
    with pytest.raises(UserError, match="line 1: name is missing"):
        open_space(tmp_path / "space.yaml")
