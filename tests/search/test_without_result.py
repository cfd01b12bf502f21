"""Tests of the message of a search without a result."""

from ctkd_search.search.run import _without_result


def test_the_end_of_the_time_budget_is_told_with_the_command_to_go_on():
    message = _without_result([], "the time budget ended", "ctkd-search run --resume a")
    assert message == "no trial came to a result: the time budget ended; go on with: ctkd-search run --resume a"


def test_trials_that_failed_are_told_with_their_reasons():
    assert _without_result(["diverged"], None, "again") == "no trial came to a result: diverged"
