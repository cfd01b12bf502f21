"""The number that trials are compared by is told, and refused where it cannot be."""

import re

import pytest
from support.factories import a_space

from ctkd_search.checks.overview import _stopping_lines
from ctkd_search.checks.ranking import horizon_faults, ranking_warnings


@pytest.mark.parametrize(("horizon", "batch", "refused"), [(0.1, 100, False), (0.09, 100, True), (0, 1000, False)])
def test_a_horizon_of_less_than_a_step_is_refused(horizon, batch, refused):
    space = a_space(scheduler={"horizon": horizon}, train={"batch_size": batch})
    faults = horizon_faults(space, 1000)
    assert bool(faults) == refused
    for place, message in faults:
        assert place == ("scheduler", "horizon")
        assert re.search(r"one step, 0\.1 of an epoch of 1,000 images in batches of 100, but got 0\.09", message)


def test_the_largest_batch_of_a_searched_one_counts():
    search = {"pair": "wrn-16-2/wrn-16-1", "batch_size": {"choice": [10, 500]}}
    assert horizon_faults(a_space(scheduler={"horizon": 0.4}, search=search), 1000)
    assert not horizon_faults(a_space(scheduler={"horizon": 0.5}, search=search), 1000)


def test_nothing_is_averaged_where_no_trial_is_stopped():
    assert horizon_faults(a_space(scheduler="none"), 1) == []
    assert _stopping_lines(a_space(scheduler="none")) == []


def test_the_rungs_and_what_is_compared_there_are_told():
    def line(**scheduler):
        return _stopping_lines(a_space(scheduler=scheduler, budget={"grace_period": 1, "reduction_factor": 3}))[0]

    assert line(name="asha") == (
        "asha: after epochs 1, 3 about one trial in 3 goes on; others wait to be promoted; compared by the validation "
        "loss of weights averaged over 1 epoch"
    )
    stopping = line(name="asha", promote=False, signal="objective", horizon=0)
    assert stopping.endswith("others are stopped for good; compared by the validation accuracy")
    constant = _stopping_lines(a_space(scheduler={"name": "constant", "best": 2}, budget={"grace_period": 4}))[0]
    assert constant.startswith("constant: after epoch 4 every trial waits; then the best 2 go on; compared by")


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"budget": {"epochs": 20, "grace_period": 3}}, "after epoch 3, within a warm-up of up to 3 epochs"),
        ({"budget": {"epochs": 20, "grace_period": 3}}, "leave budget.grace_period out for 4"),
        (
            {"budget": {"epochs": 18, "grace_period": 3}},
            "look back on a warm-up of up to 2.7 epochs",
        ),
        ({"budget": {"epochs": 18, "grace_period": 3}, "scheduler": {"horizon": 0.3}}, None),
        ({"budget": {"epochs": 18, "grace_period": 3}, "scheduler": {"horizon": 0}}, "the learning rate is still high"),
        ({"budget": {"epochs": 18, "grace_period": 15}, "scheduler": {"horizon": 0}}, None),
        (
            {"budget": {"epochs": 18, "grace_period": 18}},
            "no trial is stopped early, because",
        ),
        ({"budget": {"epochs": 18}, "scheduler": "none"}, None),
        ({"budget": {"epochs": 18, "grace_period": 4}}, None),
    ],
)
def test_a_ranking_that_cannot_be_trusted_is_warned_of(sections, words):
    found = ranking_warnings(a_space(**sections))
    assert (words is None and found == []) or words in found[0]


def test_a_searched_warm_up_counts_with_its_longest():
    search = {"pair": "wrn-16-2/wrn-16-1", "warmup": {"float": [0, 4]}}
    found = ranking_warnings(a_space(budget={"epochs": 18, "grace_period": 3}, search=search))
    assert "within a warm-up of up to 4 epochs" in found[0]
