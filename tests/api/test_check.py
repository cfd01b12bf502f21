"""A check from Python has the text of the command, and its figures."""

import re

import pytest
from support.factories import DIGITS, space_content

import ctkd_search
from ctkd_search.errors import UserError

ONE = {"pair": "wrn-10-1/resnet8", "lr": {"float": [0.01, 0.1]}}


def test_the_text_is_that_of_the_command_and_nothing_is_printed(call, capsys, own_directory):
    code, shown, _ = call("check", DIGITS, "--no-measure", "--trials", "7")
    assert code == 0
    found = ctkd_search.check(DIGITS, trials=7, measure=False)
    free = re.compile(r"free disk space .*")  # other processes write too
    assert free.sub("", str(found)) == free.sub("", shown)
    assert capsys.readouterr().out == ""
    assert found.space.budget.trials == 7
    assert found.seconds is None
    assert "budget: 7 trials" in found._repr_html_()


def test_recordings_are_at_most_the_trajectories_and_the_experts_outputs(own_directory):
    """Two epochs of logits of each teacher, float16; nothing is recorded where teachers are live."""
    content = space_content(budget={"epochs": 2, "trials": 2}, scheduler="none", search=ONE)
    found = ctkd_search.check(content, measure=False, overrides={"teachers.cache_limit": "0GB"})
    images = int(re.search(r"images: about ([\d,]+) for training", found.text)[1].replace(",", ""))
    assert found.disk_bytes == 2 * images * 10 * 2
    assert ctkd_search.check(content, measure=False, overrides={"teachers.mode": "live"}).disk_bytes == 0
    assert ctkd_search.check(content, measure=False).disk_bytes > found.disk_bytes


def test_measured_seconds_are_those_that_the_text_names(own_directory):
    content = space_content(budget={"epochs": 2, "trials": 2}, scheduler="none", search=ONE)
    found = ctkd_search.check(content)
    low, high = found.seconds
    assert 0 < low <= high < 600
    assert "in all" in found.text


def test_every_fault_is_named_as_the_command_names_it(call):
    code, _, err = call("check", DIGITS, "--trials", "0", "--set", "train.lr=-1")
    assert code == 2
    with pytest.raises(UserError) as refused:
        ctkd_search.check(DIGITS, trials=0, overrides=["train.lr=-1"])
    assert err == f"ctkd-search: {refused.value}\n"
