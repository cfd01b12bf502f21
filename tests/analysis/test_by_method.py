"""The methods of a search side by side: the best of each, what it was confirmed with, and what each has spent."""

import math
import re
from dataclasses import replace

import pytest
from support.factories import a_search_record, a_space, a_trial

from ctkd_search.analysis.by_method import by_method
from ctkd_search.analysis.standing import winner
from ctkd_search.display.comparisons import METHOD_HEADS, method_cells
from ctkd_search.display.leaderboard_file import leaderboard_csv, leaderboard_text, summary
from ctkd_search.records.store import BASELINE, STOPPED
from ctkd_search.report import optuna_plots
from ctkd_search.search.comparisons import chosen_to_confirm

PAIR = "wrn-16-1/resnet8"
EACH = {"best": 1, "seeds": 2, "per_method": True}
SEARCH = {"pair": PAIR, "method": {"choice": ["ctkd", "kd", "none"]}, "kd": {"weight": {"float": [0.1, 1]}}}


def trial(number, method, *accuracies, **more):
    values = {"method": method, **({"kd.weight": 0.5} if method == "kd" else {})}
    return a_trial(number, *accuracies, pair=PAIR, values=values, measured={"seconds": 1.0}, **more)


@pytest.fixture
def trials():
    return [
        trial(1, "ctkd", 0.5, 0.8),
        trial(2, "kd", 0.6, 0.79),
        trial(3, "none", 0.3, 0.4),
        trial(4, "ctkd", 0.2, status=STOPPED),
        trial(5, "kd", 0.5, 0.7),
        trial(6, "none", 0.1, status=STOPPED),
        # A baseline of the same name is not of the search's trials of that method.
        trial(7, "kd", 0.1, 0.95, kind=BASELINE, baseline="kd"),
    ]


CONFIRMATIONS = [
    trial(8, "ctkd", 0.70, repeats=1, seed=1),
    trial(9, "ctkd", 0.72, repeats=1, seed=2),
    trial(10, "kd", 0.75, repeats=2, seed=1),
    trial(11, "kd", 0.77, repeats=2, seed=2),
]


def test_each_method_has_its_best_trial_and_the_trials_and_epochs_it_took(trials):
    found = by_method(trials)
    assert [(each.method, each.best.number, each.trials, each.epochs) for each in found] == [
        ("ctkd", 1, 2, 3),
        ("kd", 2, 2, 4),
        ("none", 3, 2, 3),
    ]
    assert [each.mean for each in found] == [None, None, None]
    assert found[0].gap is None
    assert found[1].gap.mean == pytest.approx(-0.01)
    assert math.isinf(found[1].gap.half_width)


def test_what_was_confirmed_counts_for_more_than_a_single_seed(trials):
    kd, ctkd, none = by_method([*trials, *CONFIRMATIONS])
    assert (kd.method, ctkd.method, none.method) == ("kd", "ctkd", "none")
    assert kd.mean.estimate.mean == pytest.approx(0.76)
    # Paired by seed: both differences are 0.05, so that nothing is left to vary.
    assert (ctkd.gap.mean, ctkd.gap.n) == (pytest.approx(-0.05), 2)
    assert ctkd.gap.half_width == math.inf  # no spread, no interval
    cells = dict(zip(METHOD_HEADS, method_cells(ctkd, ctkd.best.metric), strict=True))
    assert (cells["mean"], cells["n"], cells["trials"], cells["epochs"]) == ("71.00 %", "2", "2", "3")
    # From two values, Student's t with one degree of freedom: 12.706 times the deviation over the root of 2.
    assert cells["95 % interval"] == f"± {100 * 12.7062 * 0.0141421 / math.sqrt(2):.2f}"
    assert none.mean is None
    assert method_cells(none, none.best.metric)[3:7] == ["", "", "", ""]


def test_a_method_of_which_nothing_was_finished_is_there_too(trials):
    found = by_method([*trials[:2], trial(3, "none", status="failed")])
    assert [each.method for each in found] == ["ctkd", "kd", "none"]
    assert (found[2].best, found[2].gap, found[2].trials, found[2].epochs) == (None, None, 1, 0)
    assert method_cells(found[2], found[0].best.metric) == ["none", *[""] * 7, "1", "0"]


def test_one_method_alone_is_no_comparison(trials):
    assert by_method([trials[0], trials[3], trials[6]]) == []
    before = a_trial(9, pair=PAIR, values={"alpha": 1.0})
    assert before.method == "ctkd"
    assert by_method([trials[0], before]) == []


def test_the_best_of_each_method_is_confirmed(trials):
    trials[4].values["lr"] = 0.1
    trials.append(trial(12, "kd", 0.6, 0.79))  # the config of trial 2 once more
    for confirm, numbers in (
        (EACH, [1, 2, 3]),
        ({**EACH, "best": 2}, [1, 2, 5, 3]),
        ({"best": 2, "seeds": 2}, [1, 2]),
    ):
        space = a_space(search=SEARCH, confirm=confirm)
        assert [found.number for found in chosen_to_confirm(space, trials, {})] == numbers


def test_what_too_few_trials_have_is_no_more_important_than_it_can_be_known(recwarn):
    space = a_space(search={**SEARCH, "lr": {"float": [0.01, 1.0], "log": True}})
    trials = []
    for number in range(2 * optuna_plots.ENOUGH - 2):
        method = ("ctkd", "kd")[number % 2]
        stored = {"method": method, "lr": 0.01 * 1.2**number} | (
            {"kd.weight": 0.1 + 0.02 * number} if number % 2 else {}
        )
        trials.append(replace(trial(number, method, *[number / 100] * 30), stored=stored))
    found = optuna_plots.comparable(space, trials)
    picture = optuna_plots.importances(found, space)
    assert "kd.weight" not in picture.alt
    assert "lr" in picture.alt
    assert picture.caption.endswith("Left out, because fewer than 10 trials have it: kd.weight.")
    # All of them can be looked at; how methods compare has a section of its own.
    assert [picture.alt.partition(" over ")[2].partition(",")[0] for picture in optuna_plots.slices(found, space)] == [
        "kd.weight and lr"
    ]
    assert not [warning for warning in recwarn if "Some regimes" in str(warning.message)]


def test_the_leaderboard_and_its_files_are_grouped_by_method(trials):
    space, every = a_space(search=SEARCH, confirm=EACH), [*trials, *CONFIRMATIONS]
    record = a_search_record()
    text = leaderboard_text(space, record, every)
    block = text.partition("The best trial of each method")[2].partition("Baselines, with")[0]
    rows = [
        line.split() for line in block.splitlines() if line.split()[:1] and line.split()[0] in ("ctkd", "kd", "none")
    ]
    assert [(row[0], row[1], row[-2], row[-1]) for row in rows] == [
        ("kd", "2", "2", "4"),
        ("ctkd", "1", "2", "3"),
        ("none", "3", "2", "3"),
    ]
    assert "| kd | 2 | 79.00 % | 76.00 % |" in summary(space, every, winner(every))
    heading, *lines = leaderboard_csv(space, every, winner(every)).splitlines()
    assert {"method", "kd.weight"} <= set(heading.split(","))
    assert len(lines) == len(every)
    # What only one of the methods has stands in short beside its own trials.
    table = text.partition("The best trial of each method")[0]
    assert re.search(r"epochs +pair +method +its own +ended", table)
    assert re.search(r"^ *2 +79.00 % +2 +\S+ +kd +w=0.5 +finished", table, flags=re.MULTILINE)
    assert re.search(r"^ *1 +80.00 % +2 +\S+ +ctkd +finished", table, flags=re.MULTILINE)
    # Of one method alone nothing is grouped.
    assert "of each method" not in leaderboard_text(space, record, [trials[0], trials[3]])
