"""The numbers of a report, against cases whose answer is plain."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from support.factories import a_search, a_search_record, a_space, a_trial
from support.page import Page

from ctkd_search.analysis.intervals import Family
from ctkd_search.display.comparisons import pareto_table
from ctkd_search.metrics import ACCURACY
from ctkd_search.records.store import FAILED, RUNNING, STOPPED
from ctkd_search.report import style
from ctkd_search.report.attention import one_of_each_class
from ctkd_search.report.facts import against, describe
from ctkd_search.report.page import write_report
from ctkd_search.report.pareto import pareto_fronts
from ctkd_search.report.series import (
    elapsed,
    end_of,
    finishes,
    is_dated,
    mean_curve,
    rungs_of,
    union,
)
from ctkd_search.report.spending import FORWARD_SHARE, Spending, Use, live_teachers, per_epoch, summed


def trial(number, *accuracies, begun=0.0, **more):
    """A trial that trained one epoch of ten seconds after the other from a moment on."""

    def measured(epoch):
        return {"seconds": 10.0, "at": round(1000 * (begun + 10.0 * epoch))}

    return a_trial(number, *accuracies, measured=measured, **more)


@pytest.mark.parametrize(
    ("intervals", "merged"),
    [
        ([], []),
        ([(0, 1)], [(0, 1)]),
        ([(2, 3), (0, 1)], [(0, 1), (2, 3)]),
        ([(0, 2), (1, 3), (3, 4), (6, 7), (6.2, 6.5)], [(0, 4), (6, 7)]),
    ],
)
def test_intervals_are_joined_where_they_overlap(intervals, merged):
    assert union(intervals) == merged


def test_time_passes_only_while_something_runs():
    running = union([(10, 20), (15, 30), (100, 110)])
    moments = {0: 0, 10: 0, 12: 2, 30: 20, 60: 20, 100: 20, 105: 25, 110: 30, 999: 30}
    assert {moment: elapsed(running, moment) for moment in moments} == moments


def test_elapsed_time_is_what_counting_seconds_gives():
    draw = random.Random(0)
    intervals = [(start, start + draw.randint(1, 30)) for start in (draw.randint(0, 300) for _ in range(40))]
    for moment in (0, 17, 100, 250, 400):
        counted = sum(any(a <= second < b for a, b in intervals) for second in range(moment))
        assert elapsed(union(intervals), moment) == counted


def test_the_best_so_far_is_that_of_finished_trials_in_the_order_in_which_they_finished():
    trials = [
        trial(1, 0.1, 0.5, begun=0),  # ends at 20
        trial(2, 0.2, 0.3, 0.9, status=STOPPED, begun=0),  # ends at 30, and shows nothing
        trial(3, 0.2, 0.8, begun=100),  # ends at 120, after a pause
        trial(4, 0.6, status=FAILED, begun=110),
        trial(5, 0.6, 0.7, begun=112),  # ends at 132
    ]
    found = [(step.trial, step.value, step.best, step.seconds, step.epochs) for step in finishes(trials)]
    assert found == [(1, 0.5, 0.5, 20.0, 4), (3, 0.8, 0.8, 50.0, 8), (5, 0.7, 0.8, 62.0, 10)]
    assert end_of(trials) == (62.0, 10)
    assert [step.trial for step in finishes(trials[::-1])] == [1, 3, 5]


def test_the_best_so_far_never_falls_and_ends_at_the_maximum():
    draw = random.Random(1)
    trials = [trial(n, draw.random(), begun=draw.uniform(0, 500)) for n in range(1, 40)]
    steps = finishes(trials)
    bests = [step.best for step in steps]
    assert bests == sorted(bests)
    assert bests[-1] == max(t.accuracy for t in trials)
    assert [step.epochs for step in steps] == list(range(1, 40))


def test_epochs_of_records_without_dates_are_found_out():
    dated = trial(1, 0.5)
    bare = a_trial(2, 0.5, measured={"seconds": 1.0})
    assert is_dated([dated])
    assert not is_dated([dated, bare])


def test_a_rung_counts_who_came_there_and_who_was_stopped_there():
    trials = [
        trial(1, *[0.1] * 9),
        trial(2, 0.1, status=STOPPED),
        trial(3, 0.1, status=STOPPED),
        trial(4, *[0.1] * 3, status=STOPPED),
        trial(5, *[0.1] * 3, status=RUNNING),
        trial(6, *[0.1] * 2, status=FAILED),
        trial(7),
    ]
    found = [(rung.epoch, rung.reached, rung.stopped) for rung in rungs_of(trials, [1, 3])]
    assert found == [(1, 6, 2), (3, 3, 1)]


def test_a_mean_curve_ends_where_the_shortest_does():
    assert mean_curve([[0.0, 0.5, 1.0], [1.0, 0.5]]) == [0.5, 0.5]


def test_a_sum_of_something_unknown_is_unknown():
    assert summed([1.0, 2.0]) == 3.0
    assert summed([1.0, None]) is None
    assert summed([]) == 0
    assert per_epoch([]) is None
    assert per_epoch([1.0, 2.0, 90.0]) == 2.0


def test_live_teachers_are_estimated_from_the_epochs_of_the_trials_that_needed_them():
    uses = [Use(10, 3.0, 6.0), Use(2, 3.0, 0.0), Use(7, 0.0, 6.0), Use(5, 0.0, 0.0)]
    scratch, expert = live_teachers(uses)
    assert scratch == 10 * 3.0 + 2 * 3.0
    assert expert == pytest.approx((10 + 7) * 6.0 / 3)
    assert pytest.approx(1 / 3) == FORWARD_SHARE
    assert live_teachers([*uses, Use(1, None, 0.0)]) == (None, expert)
    assert live_teachers([*uses, Use(1, 0.0, None)]) == (scratch, None)


def test_what_was_spent_and_what_live_teachers_would_have_cost():
    found = Spending(
        trials=100.0, epochs=50, recording=5.0, teachers=30.0, experts=20.0, live_scratch=200.0, live_expert=40.0
    )
    assert found.spent == 135.0
    assert found.live == 360.0
    assert Spending(100.0, 50, 0.0, None, None, 200.0, 40.0).spent is None
    assert Spending(100.0, 50, 0.0, 30.0, 20.0, None, 40.0).live is None


def test_images_are_of_different_classes():
    labels = np.array([3, 0, 3, 1, 2, 0, 9])
    assert labels[one_of_each_class(labels, 3)].tolist() == [0, 2, 9]
    assert one_of_each_class(labels, 10).tolist() == [1, 3, 4, 0, 6]


@pytest.mark.parametrize(
    ("gaps", "told"),
    [
        ([0.01], "one seed each cannot tell it from the baseline kd"),
        ([0.01] * 3, "cannot be told apart from the baseline kd: no spread was seen in 3 seeds"),
        ([0.01, 0.2, -0.1], "cannot be told apart from the baseline kd"),
        ([0.01, 0.011, 0.012], "told apart from the baseline kd"),
    ],
)
def test_the_number_of_seeds_and_their_spread_decide_what_a_difference_tells(gaps, told):
    family = Family({"ours": dict(enumerate(gaps)), "kd": dict.fromkeys(range(len(gaps)), 0.0)})
    number = against(family.difference("ours", "kd", 1, 1), ACCURACY, "validation", "kd")
    assert number.note == f"points on validation images; {told}"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ({"train": {"class_weights": "balanced"}}, "Its images are weighted so that every class weighs as much."),
        (
            {"train": {"class_weights": "effective"}},
            "Its images are weighted by the inverse of their class's effective number of images.",
        ),
        ({"train": {"class_weights": [1] * 10}}, "Its images are weighted by given class weights."),
        ({"augment": {"sampling": "balanced"}}, "Every class is shown equally often."),
        ({"augment": {"mixup": 0.2}}, "Its training images go through mixup."),
        ({"train": {"label_smoothing": 0.1}}, "A share of 0.1 of each label is spread over all classes."),
    ],
)
def test_a_recipe_is_described_by_what_it_has(override, sentence):
    plain, given = (describe(space.pair_configs()[0]) for space in (a_space(), a_space(**override)))
    assert sentence in given
    assert sentence not in plain


def test_a_front_has_the_digits_of_its_table_in_its_words_and_on_its_axis(monkeypatch):
    labels = {}

    def png(figure):
        figure.canvas.draw()
        (axis,) = figure.axes
        labels[axis.get_xlabel()] = [label.get_text() for label in axis.get_xticklabels()]
        return b""

    monkeypatch.setattr(style, "png", png)
    pairs = ("wrn-16-2/resnet8", "wrn-16-2/wrn-16-1")
    objectives = ["validation_accuracy", "params", "latency_ms", "onnx_bytes"]
    space = a_space(objectives=objectives, search={"pair": {"choice": list(pairs)}, "lr": {"float": [0.01, 0.3]}})
    trials = [
        a_trial(number, 0.5 + number / 10, space=space, stored={"pair": pair, "lr": 0.1})
        for number, pair in enumerate(pairs, start=1)
    ]
    costs = {
        "resnet8": {"params": 77717.0, "latency_ms": 0.227123, "onnx_bytes": 12345678.0},
        "wrn-16-1": {"params": 174741.0, "latency_ms": 1234.6, "onnx_bytes": 22345678.0},
    }
    alts = [picture.alt for picture in pareto_fronts(space, trials, costs)]
    table = pareto_table(space, a_search_record(space, costs=costs), trials, trials[0])
    for place, alt in enumerate(alts, start=3):
        for row in table.rows:
            assert f" at {row.cells[place]}" in alt
    assert "60.00 % at 77,717" in alts[0]
    assert len(labels) == 3
    ticks = [text for texts in labels.values() for text in texts]
    assert "100,000" in ticks
    assert not any("e" in text for text in ticks)


@pytest.mark.parametrize(
    ("expert", "own"),
    [
        ({}, False),
        ({"ensemble": 2}, False),
        ({"ensemble": ["wrn-16-2", "resnet8"]}, False),
        ({"checkpoint": "mine.pt"}, True),
        ({"ensemble": ["mine.pt", "resnet8"]}, True),
    ],
    ids=["none", "a number", "architectures", "a checkpoint", "a file among others"],
)
def test_an_expert_of_the_users_own_may_have_seen_the_validation_images(tmp_path, monkeypatch, expert, own):
    monkeypatch.chdir(tmp_path)
    Path("mine.pt").touch()
    space = a_space(search={"pair": "wrn-16-2/resnet8", "lr": {"float": [0.01, 0.1]}}, teachers={"expert": expert})
    a_search(tmp_path, [a_trial(1, 0.5, space=space, stored=space.paper_point())], space)
    page = Page(write_report(tmp_path, "x", say=lambda line: None))
    assert ("The expert is the user's own, and may have been trained on them." in page.said) is own
