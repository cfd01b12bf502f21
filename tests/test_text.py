"""Texts of other programs in a line of ours."""

import pytest

from ctkd_search.text import amount, digits, first_line, one_line, size


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("\n \n  one \ntwo", "one"),
        ("\x1b[36mcolour\x1b[39m and\x1b[1;31m bold\x1b[0m", "colour and bold"),
        ("short enough", "short enough"),
        ("A sentence of some length. And one that is cut off", "A sentence of some length."),
        ("words and words and words and words without an end", "words and words and words and words …"),
        ("a. But what follows is all one thing, of many words", "a. But what follows is all one thing …"),
        ("x" * 50, "x" * 40 + "…"),
        ("Error: " + "x" * 50, "Error: " + "x" * 33 + "…"),
    ],
)
def test_a_text_is_cut_where_a_reader_would_cut_it(text, line):
    assert one_line(text, 40) == line


def test_an_error_without_a_message_is_named_by_its_type():
    assert first_line(ValueError("\n the reason \n more")) == "the reason"
    assert first_line(KeyError()) == "KeyError"


def test_one_thing_is_no_things():
    assert [amount(count, "trial") for count in (0, 1, 2, 1200)] == ["0 trials", "1 trial", "2 trials", "1,200 trials"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (2_345_678, "2.35 MB"), (7.2e9, "7.2 GB"), (3e12, "3 TB")],
)
def test_sizes_have_three_digits_and_a_unit(count, text):
    assert size(count) == text


def test_a_number_has_its_digits_on_either_side_of_zero():
    numbers = {77717.0: "77,717", 1.2e10: "12,000,000,000", -2e6: "-2,000,000", 0.227123: "0.227123", 0.1 + 0.2: "0.3"}
    assert {number: digits(number) for number in numbers} == numbers
