"""The final training in the report of its search."""

from __future__ import annotations

import re

import pytest
from support.factories import a_search
from support.final import a_config
from support.page import Page
from support.small_search import SmallSearch

from ctkd_search.final.plan import FinalPlan
from ctkd_search.records.store import FAILED, FINISHED
from ctkd_search.records.trial_configs import config_of
from ctkd_search.report.final import newest_final
from ctkd_search.report.page import write_report

pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    search = SmallSearch(tmp_path_factory.mktemp("report"), baselines=None, confirm=None)
    search.explore()
    return search


def final_training(search, number, accuracies, finished=True, baselines=("kd",), config=None, seeds=3):
    """A final training with these test accuracies by baseline; None for students that failed."""
    plan = FinalPlan("small", config or a_config(), seeds=seeds, baselines=baselines)
    trials = plan.trials()
    for trial in trials:
        accuracy = accuracies[trial.baseline][trial.student_seed - plan.config.seed]
        trial.status = FAILED if accuracy is None else FINISHED
        trial.test = accuracy and {"accuracy": accuracy, "loss": 1 - accuracy, "images": 359}
    record = {"name": f"final-{number}", "started": f"2026-01-{number:02}T03:04:05+00:00", "finished": finished}
    a_search(search.folder.path, trials, plan.content(), **record)


def test_a_search_without_one_has_no_section(small):
    assert newest_final(small.folder) == (None, [])
    found = Page(write_report(small.root, "small"))
    assert "Final training" not in found.said
    assert "the test images, which were not used for anything on this page" in found.said
    assert "Accuracies are those on validation images" in found.said


def test_the_newest_that_has_finished_is_shown(small):
    final_training(small, 1, {None: [0.1] * 3, "kd": [0.2] * 3})
    final_training(small, 2, {None: [0.95, 0.96, 0.97], "kd": [0.90, 0.91, 0.93]})
    final_training(small, 3, {None: [None] * 3, "kd": [0.5] * 3})  # it yielded no student
    final_training(small, 4, {None: [0.3] * 3, "kd": [0.4] * 3}, finished=False)
    found = Page(write_report(small.root, "small"))
    assert (
        "final-2, begun 2026-01-02: 3 students of resnet8, taught by wrn-10-1 with ctkd for 7 epochs, and as many of "
        "each baseline, on training and validation images. The 359 test images were read once" in found.said
    )
    assert "Test accuracy 96.00 % ± 2.48 (95 % interval, n = 3 seeds) on 359 images." in found.said
    assert "The config is better than kd (+4.67 points" in found.said
    assert "the test images, which decided nothing on this page" in found.said
    assert "Accuracies, but for those of the final training, are those on validation images" in found.said
    assert "final" in found.files()
    assert any(image["alt"] == "Test means: the config 96.00 %; kd 91.33 %." for image in found.images)


def test_the_head_of_the_page_has_its_result_beside_the_best_baseline(small):
    accuracies = {None: [0.95, 0.96, 0.97], "kd": [0.90, 0.91, 0.93], "at": [0.80, 0.81, 0.82]}
    final_training(small, 5, accuracies, baselines=("at", "kd"), config=config_of(small.space, small.trials[0]))
    head = Page(write_report(small.root, "small")).said.split("Results")[0]
    assert (
        "reaches 96.00 % test accuracy in the mean of 3 seeds (95 % interval ± 2.48 points)."
        in head.split("Its config, trained to the end on training and validation images, ")[1]
    )
    assert "test accuracy 96.00 % ± 2.48 (95 % interval), n = 3 seeds on 359 images, read once" in head
    assert re.search(
        r"against the best baseline \+4\.67 ± [\d.]+ points on test images; told apart from the baseline kd", head
    )


def test_one_seed_has_a_result_without_an_interval(small):
    final_training(small, 6, {None: [0.95], "kd": [0.90]}, seeds=1)
    head = Page(write_report(small.root, "small")).said.split("Results")[0]
    assert "A config of no trial of this search, trained to the end" in head
    assert "reaches 95.00 % test accuracy with one seed." in head
    assert "test accuracy 95.00 % one seed on 359 images, read once" in head
    assert "+5.00 points on test images; one seed each cannot tell it from the baseline kd" in head


def test_without_baselines_there_is_a_number_but_no_picture(small):
    final_training(small, 7, {None: [0.95, 0.96, 0.97]}, baselines=())
    found = Page(write_report(small.root, "small"))
    assert "final-7" in found.said
    assert "and as many of each baseline" not in found.said
    assert "final" not in found.files()


def test_one_that_is_damaged_is_named_and_an_older_one_shown(small, capsys):
    final_training(small, 8, {None: [0.9] * 3, "kd": [0.8] * 3})
    final_training(small, 9, {None: [0.9] * 3, "kd": [0.8] * 3})
    (small.folder.path / "final-9" / "search.json").write_text("{")
    found = Page(write_report(small.root, "small"))
    assert "final-9 is left out: cannot read the record" in found.said
    assert "final-8, begun 2026-01-08" in found.said
    assert "in the report, final-9 is left out: cannot read the record" in capsys.readouterr().err


def test_the_trial_whose_config_it_is_is_named(small):
    winner = small.trials[0]
    final_training(small, 10, {None: [0.9] * 3, "kd": [0.8] * 3}, config=config_of(small.space, winner))
    assert "The config is that of the winner, trial 1." in Page(write_report(small.root, "small")).said
    final_training(small, 11, {None: [0.9] * 3, "kd": [0.8] * 3})
    assert "The config is that of no trial of this search." in Page(write_report(small.root, "small")).said
    other = small.explore(1, lr=0.1)
    final_training(small, 12, {None: [0.9] * 3, "kd": [0.8] * 3}, config=config_of(small.space, other))
    said = Page(write_report(small.root, "small")).said
    assert f"The config is that of trial {other.number}, not of the winner, trial 1." in said
