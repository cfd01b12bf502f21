"""All pairs of a final training are compared, with intervals that hold together."""

from __future__ import annotations

import pytest
from final_pairs import pairs

from ctkd_search.analysis.intervals import Family


def test_the_better_one_is_first_and_a_pair_has_the_interval_of_all_of_them():
    two = {"low": {0: 70.0, 1: 71.0, 2: 70.5}, "high": {0: 72.0, 1: 73.5, 2: 72.5}}
    three = {**two, "middle": {0: 71.0, 1: 72.1, 2: 71.6}}
    assert list(pairs(two)) == [("high", "low")]
    assert list(pairs(three)) == [("high", "middle"), ("high", "low"), ("middle", "low")]
    difference = pairs(three)["high", "low"]
    assert difference.mean == pytest.approx(6.5 / 3)
    # Any of the three could have been the one that is shown for being the best.
    assert difference == Family(three).difference("high", "low", picked=3, others=0)
