"""The leaderboard as files."""

import csv
import io

import pytest
from support.factories import a_search_record, a_space, a_trial

from ctkd_search.analysis.standing import winner
from ctkd_search.display.leaderboard_file import leaderboard_csv, leaderboard_text, summary
from ctkd_search.records.store import BASELINE, DIVERGED, INTERRUPTED, STOPPED

PAIR = "wrn-16-1/resnet8"
SEARCH = {"pair": PAIR, "alpha": {"float": [0.1, 1]}, "attention_layers": {"subsets": [1, 2, 3]}}


def trial(number, *accuracies, **more):
    return a_trial(number, *accuracies, pair=PAIR, measured={"seconds": 1.5}, **more)


@pytest.fixture
def space():
    return a_space(search=SEARCH)


@pytest.fixture
def trials():
    chosen = {"alpha": 0.123456789, "attention_layers": [1, 3]}
    return [
        trial(1, 0.5, 0.6, kind=BASELINE, baseline="student-alone"),
        trial(2, 0.4, status=STOPPED, values={"alpha": 0.5, "attention_layers": [2]}, optuna=0),
        trial(3, 0.7, 0.8, values=chosen, optuna=1),
        trial(4, 0.1, 0.75, values=chosen, repeats=3, seed=1),
        trial(5, 0.1, 0.71, values=chosen, repeats=3, seed=2),
        trial(6, 0.1, 0.7, kind=BASELINE, baseline="student-alone", repeats=1, seed=1),
        trial(7, 0.1, 0.68, kind=BASELINE, baseline="student-alone", repeats=1, seed=2),
        trial(8, status="failed", values={"alpha": 0.2, "attention_layers": [2]}, optuna=2),
    ]


def test_no_cell_is_a_formula_and_every_text_is_read_again_as_it_is(space, trials):
    texts = ["=1+1", "+cmd", "-x", "@sum", "\tx", 'a,"b"\nc', "plain", "-1.5", "+2"]
    for text, each in zip(texts, trials, strict=False):
        each.values["=own"] = text
    trials[7].values["=own"] = -0.5
    rows = {row["trial"]: row for row in csv.DictReader(io.StringIO(leaderboard_csv(space, trials, None)))}
    cells = [rows[str(number)]["'=own"] for number in range(1, 9)]
    assert cells == ["'=1+1", "'+cmd", "'-x", "'@sum", "'\tx", 'a,"b"\nc', "plain", "-0.5"]


def test_the_table_has_every_trial_with_all_digits(space, trials):
    rows = list(csv.DictReader(io.StringIO(leaderboard_csv(space, trials, winner(trials)))))
    assert [row["trial"] for row in rows] == ["3", "4", "5", "6", "7", "1", "2", "8"]
    first, failed = rows[0], rows[-1]
    assert (first["kind"], first["winner"], first["status"], first["epochs"]) == ("trial", "True", "finished", "2")
    assert first["name"] == "resnet8 a=0.123 L1,3"
    assert float(first["alpha"]) == 0.123456789
    assert first["attention_layers"] == "1,3"
    assert float(first["validation_accuracy"]) == 0.8
    assert (float(first["seconds"]), float(first["own_seconds"])) == (3.0, 3.0)
    assert float(first["confirmed_mean"]) == pytest.approx(0.73)
    assert first["confirmed_seeds"] == "2"
    assert (failed["validation_accuracy"], failed["status"], failed["winner"]) == ("", "failed", "False")
    assert {row["kind"] for row in rows} == {"trial", "baseline", "confirmation"}
    assert sum(row["winner"] == "True" for row in rows) == 1


def test_the_text_is_what_show_prints(space, trials):
    search = a_search_record(space, name="s", started="today")
    text = leaderboard_text(space, search, trials)
    for words in ("search s, begun today", "80.00 %", "student-alone", "with fresh seeds", "73.00 %"):
        assert words in text


def test_the_summary_says_who_won_and_by_how_much(space, trials):
    lines = summary(space, trials, trials[2]).splitlines()
    assert lines[0].startswith(
        "**Winner: trial 3**, `resnet8 a=0.123 L1,3`: 80.00 % on the validation images; 73.00 % ±"
    )
    assert "| student-alone | 60.00 % | +4.00 points |" in lines
    assert lines[-1].startswith("- trial 3 and the baseline student-alone (trial 1) cannot be told apart")


def test_a_summary_without_baselines_and_confirmation_is_one_line(space, trials):
    alone = [trials[2]]
    assert summary(space, alone, trials[2]).strip() == (
        "**Winner: trial 3**, `resnet8 a=0.123 L1,3`: 80.00 % on the validation images."
    )


def test_the_summary_has_no_interval_where_one_repetition_has_finished(space, trials):
    first = summary(space, trials[:4], trials[2]).splitlines()[0]
    assert first.endswith("80.00 % on the validation images; 75.00 % in the mean of 1 fresh seed.")


def test_a_winner_is_ahead_of_no_baseline_that_has_not_finished(space, trials):
    known = {"kind": BASELINE, "baseline": "kd"}
    cut = trial(9, 0.3, status=INTERRUPTED, **known)
    lost = trial(10, 0.5, float("nan"), status=DIVERGED, kind=BASELINE, baseline="at")
    lines = summary(space, [*trials, cut, lost], trials[2]).splitlines()
    assert lines[4:8] == [
        "| student-alone | 60.00 % | +4.00 points |",
        "| kd | interrupted |  |",
        "| at | diverged |  |",
        "",
    ]
    # Of two pairs, the one whose baseline has finished counts.
    done = trial(11, 0.2, 0.25, **known)
    assert "| kd | 25.00 % | +55.00 points |" in summary(space, [*trials, cut, done], trials[2]).splitlines()
