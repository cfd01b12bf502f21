"""Tables in the forms in which they are shown."""

import re

from support.factories import a_trial, repetitions

from ctkd_search.display.consoles import text_console
from ctkd_search.display.tables import Row, Table, as_html, as_markdown, for_terminal
from ctkd_search.records.store import BASELINE
from ctkd_search.students.card import search_evidence

PAIR = "torchvision/resnet34+taps=layer2|layer4 -> torchvision/resnet18+taps=layer2|layer4"


def cells(line):
    """The cells of a row of Markdown, as a reader of it has them."""
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_a_bar_within_a_cell_ends_no_cell_of_markdown():
    table = Table("made up", ["a|b", "n"], [Row([PAIR, "1"]), Row(["plain", "2"])], {1})
    heads, rules, *rows = as_markdown(table).splitlines()
    assert [cells(line) for line in (heads, *rows)] == [["a|b", "n"], [PAIR, "1"], ["plain", "2"]]
    assert rules == "| --- | ---: |"
    assert "\\" not in as_html(table)
    console, text = text_console(160)
    console.print(for_terminal(table))
    assert PAIR in text.getvalue()


def test_the_baselines_of_a_model_card_stay_in_their_columns_whatever_the_pair_is_called():
    trials = [a_trial(1, 0.9, pair=PAIR), *repetitions(1, [0.5, 0.6], pair=PAIR)]
    trials.append(a_trial(2, 0.8, pair=PAIR, kind=BASELINE, baseline="kd"))
    table = search_evidence(trials, trials[0], 100)[-1].splitlines()
    heads, _, row = (cells(line) for line in table[:3])
    assert len(row) == len(heads)
    assert row[:3] == ["kd", PAIR, "80.00 %"]
