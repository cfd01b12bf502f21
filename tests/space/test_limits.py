"""The exclusion of pairs beyond the limits."""

from __future__ import annotations

import dataclasses

import pytest
from support.factories import RESNET, SEARCH, WRN, a_space

from ctkd_search.errors import UserError
from ctkd_search.space.limits import within_limits

KNOWN = {
    "resnet8": {"params": 78_042.0, "multiply_adds": 12_000_000.0, "latency_ms": 0.5, "onnx_bytes": 30_000},
    "wrn-16-1": {"params": 175_066.0, "multiply_adds": 27_000_000.0, "latency_ms": 1.5, "onnx_bytes": 60_000},
}


def limited(**limits):
    said = []
    return within_limits(a_space(limits=limits), KNOWN, said.append).pairs(), said


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_params": 100_000}, "wrn-16-1 has 175,066 parameters, more than 100,000"),
        ({"max_multiply_adds": 26_999_999}, "wrn-16-1 has 27,000,000 multiply-adds, more than 26,999,999"),
        ({"max_latency_ms": 1.25}, "wrn-16-1 has 1.5 ms for an image, more than 1.25"),
        ({"max_onnx_bytes": 59_999}, "wrn-16-1 has 60,000 bytes in int8, more than 59,999"),
        (
            {"max_params": 100_000, "max_latency_ms": 1.25},
            "wrn-16-1 has 175,066 parameters, more than 100,000, 1.5 ms for an image, more than 1.25",
        ),
    ],
)
def test_a_pair_whose_student_costs_more_than_a_limit_is_left_out_and_reported(limits, message):
    assert limited(**limits) == ([RESNET], [f"pair {WRN} is left out: {message}"])


@pytest.mark.parametrize("limits", [{}, {"max_params": 175_066}, {"max_latency_ms": 1.5}, {"max_multiply_adds": 10**9}])
def test_what_costs_no_more_than_the_limit_stays(limits):
    assert limited(**limits) == ([RESNET, WRN], [])


def test_only_what_is_limited_needs_to_be_known():
    known = {student: {"params": costs["params"]} for student, costs in KNOWN.items()}
    assert within_limits(a_space(limits={"max_params": 100_000}), known, print).pairs() == [RESNET]


@pytest.mark.parametrize("pair", [{"choice": [RESNET, WRN]}, RESNET], ids=str)
def test_where_no_pair_is_left_every_one_is_reported(pair):
    space = a_space(limits={"max_params": 10}, search={**SEARCH, "pair": pair})
    with pytest.raises(UserError) as caught:
        within_limits(space, KNOWN, pytest.fail)
    first, *others = str(caught.value).splitlines()
    assert first == "no pair is within the limits; raise the limits or add a smaller student"
    assert [line.split()[1] for line in others] == space.pairs()


def test_nothing_but_the_pairs_is_changed():
    space = a_space(limits={"max_params": 100_000})
    narrowed = within_limits(space, KNOWN, lambda line: None)
    assert dataclasses.replace(narrowed, entries=space.entries) == space
    assert {**narrowed.entries, "pair": None} == {**space.entries, "pair": None}
