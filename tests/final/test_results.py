"""The results of a final training: means, paired differences, and lost students."""

from __future__ import annotations

import ast
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

import ctkd_search
from ctkd_search import data
from ctkd_search.analysis import final_lines
from ctkd_search.config import DatasetConfig, MethodConfig, TrialConfig
from ctkd_search.errors import UserError
from ctkd_search.final import results as final
from ctkd_search.final.plan import FinalPlan
from ctkd_search.metrics import ACCURACY, ON_REQUEST
from ctkd_search.models import build
from ctkd_search.records.store import DIVERGED, FAILED, FINISHED
from ctkd_search.report.final import means_picture
from ctkd_search.students.model import ServedStudent
from ctkd_search.students.served import load_student

PACKAGE = Path(ctkd_search.__file__).parent
METHOD = MethodConfig(
    "ctkd", {"step_loss": "kl", "temperature": 6.0, "alpha": 0.5, "beta": 30.0, "attention_layers": (2, 3)}
)
CONFIG = TrialConfig(DatasetConfig("digits"), 2, "wrn-10-1", "resnet8", METHOD)
OURS, THEIRS = [0.91, 0.94, 0.92, 0.95], [0.90, 0.92, 0.93, 0.91]


def trained(plan, accuracies):
    """The plan's trainings with these test accuracies by baseline; None for one that failed."""
    trials = plan.trials()
    for baseline, values in accuracies.items():
        own = [trial for trial in trials if trial.baseline == baseline]
        for trial, accuracy in zip(own, values, strict=True):
            trial.status = FAILED if accuracy is None else FINISHED
            trial.reason = "out of luck" if accuracy is None else "all 2 epochs"
            if accuracy is not None:
                trial.test = {"accuracy": accuracy, "loss": 1 - accuracy, "images": 100}
    return trials


def a_plan(seeds=4, *baselines, **more):
    return FinalPlan("x", CONFIG, seeds, baselines=baselines, **more)


def test_means_and_paired_differences_are_those_of_numpy_and_scipy():
    plan = a_plan(4, "kd")
    config, kd = final_lines.lines(trained(plan, {None: OURS, "kd": THEIRS}))
    assert (config.name, kd.name) == ("the config", "kd")
    content = final.result(plan, CONFIG, [config, kd], 1438)
    assert content["test_accuracy"] == pytest.approx(np.mean(OURS))
    assert content["test_accuracy_deviation"] == pytest.approx(np.std(OURS, ddof=1))
    low, high = stats.t.interval(0.95, 3, np.mean(OURS), stats.sem(OURS))
    assert content["test_accuracy_half_width"] == pytest.approx((high - low) / 2)
    assert content["test_loss"] == pytest.approx(1 - np.mean(OURS))
    assert [seed["test_accuracy"] for seed in content["seeds"]] == OURS
    gaps = np.subtract(OURS, THEIRS)
    low, high = stats.t.interval(0.95, 3, gaps.mean(), stats.sem(gaps))
    told = content["baselines"]["kd"]["config_minus_baseline"]["accuracy"]
    assert told == {
        "mean": pytest.approx(gaps.mean()),
        "deviation": pytest.approx(gaps.std(ddof=1)),
        "n": 4,
        "half_width": pytest.approx((high - low) / 2),
    }
    metrics = final.parent_metrics([config, kd])
    assert metrics["test_accuracy"] == content["test_accuracy"]
    assert metrics["test_accuracy.kd"] == pytest.approx(np.mean(THEIRS))
    assert metrics["test_accuracy_minus_kd"] == told["mean"]
    assert metrics["test_accuracy_minus_kd_half_width"] == told["half_width"]


def test_a_lost_student_is_shown_and_counts_neither_as_good_nor_as_bad():
    plan = a_plan(4, "kd")
    trials = trained(plan, {None: [0.9, None, 0.92, 0.94], "kd": [None, 0.99, 0.90, 0.90]})
    trials[2].status, trials[2].reason = DIVERGED, "the loss was no longer a finite number in epoch 1"
    config, kd = final_lines.lines(trials)
    assert config.values(ACCURACY) == {0: 0.9, 2: 0.92, 3: 0.94}
    # Only the seeds that both have are compared.
    content = final.result(plan, CONFIG, [config, kd], 1438)
    assert content["test_accuracy_n"] == 3
    assert content["baselines"]["kd"]["config_minus_baseline"]["accuracy"]["n"] == 2
    assert content["baselines"]["kd"]["config_minus_baseline"]["accuracy"]["mean"] == pytest.approx(0.03)
    assert [seed["status"] for seed in content["seeds"]] == [FINISHED, DIVERGED, FINISHED, FINISHED]
    text = final.as_text(plan, [config, kd])
    rows = {line.split()[0]: line for line in text.splitlines() if line.startswith((" the", " kd"))}
    assert "3   " in rows["the"]
    assert rows["the"].endswith("1 diverged")
    assert rows["kd"].endswith("1 failed")
    assert "the config, seed 1: diverged (the loss was no longer a finite number in epoch 1)" in text
    assert "kd, seed 0: failed (out of luck); it is not part of the mean" in text


def test_sentences_say_what_can_be_told_apart():
    plan = a_plan(4, "kd", "at")
    found = final_lines.lines(trained(plan, {None: OURS, "kd": THEIRS, "at": [value - 0.1 for value in OURS]}))
    kd, at, seeds = final_lines.sentences(plan, found)
    assert kd.startswith("the config and kd cannot be told apart (+1.50 points, 95 % interval ±")
    assert at.startswith("the config is better than at (+10.00 points, 95 % interval ±2.43, n = 4 seeds)")
    assert "only in the students' initial weights" in seeds
    streams = final_lines.sentences(dataclasses.replace(plan, new_streams=True), found)[-1]
    assert streams == "each seed has its own stream, teachers and initial weights"


def test_one_seed_has_no_interval():
    plan = a_plan(1, "kd")
    found = final_lines.lines(trained(plan, {None: [0.9], "kd": [0.8]}))
    assert final_lines.headline(found[0]) == ["test accuracy 90.00 % on 100 images", "  loss 0.1000 nats"]
    assert final_lines.sentences(plan, found) == [
        "the config and kd cannot be told apart by one seed alone (+10.00 points)"
    ]
    content = final.result(plan, CONFIG, found, 1438)
    assert (content["test_accuracy"], content["test_accuracy_half_width"]) == (0.9, None)
    json.dumps(content, allow_nan=False)
    assert set(final.parent_metrics(found)) == {
        "test_accuracy",
        "test_accuracy_n",
        "test_accuracy.kd",
        "test_accuracy_n.kd",
        "test_accuracy_minus_kd",
        "test_loss",
        "test_loss_n",
        "test_loss.kd",
        "test_loss_n.kd",
        "test_loss_minus_kd",
    }


def test_without_any_student_nothing_is_claimed():
    plan = a_plan(2, "kd")
    found = final_lines.lines(trained(plan, {None: [None, None], "kd": [0.8, 0.7]}))
    content = final.result(plan, CONFIG, found, 1438)
    assert (content["test_accuracy"], content["test_accuracy_n"], content["test_loss"]) == (None, 0, None)
    assert content["baselines"]["kd"]["config_minus_baseline"]["accuracy"] is None
    json.dumps(content, allow_nan=False)
    assert not any("kd cannot" in sentence or "better" in sentence for sentence in final_lines.sentences(plan, found))
    assert "2 failed" in final.as_text(plan, found)
    assert final_lines.first_student(trained(plan, {None: [None, None], "kd": [0.8, 0.7]})) is None


def test_the_student_that_is_kept_is_the_first_seeds_whatever_the_test_says():
    plan = a_plan(3, "kd")
    trials = trained(plan, {None: [0.5, 0.9, 0.99], "kd": [0.999] * 3})
    assert final_lines.first_student(trials) is trials[0]
    trials = trained(plan, {None: [None, 0.5, 0.99], "kd": [0.999] * 3})
    assert final_lines.first_student(trials) is trials[2]


def test_each_student_is_tested_once_as_it_is_served():
    splits = data.load_train(CONFIG.dataset).with_validation()
    student = build("resnet8", splits.geometry, seed=0)
    served = ServedStudent(student, splits.mean, splits.std)
    plan = a_plan(2)
    trials = plan.trials()
    for trial in trials:
        trial.status = FINISHED
    tested_before = {"accuracy": 0.25, "loss": 0.5, "images": 1}
    trials[0].test = tested_before
    loaded, kept, said = [], [], []
    final.measure_on_test(CONFIG, trials, lambda trial: loaded.append(trial) or served, kept.append, said.append)
    assert loaded == kept == [trials[1]]
    assert trials[0].test is tested_before
    images = data.load_test(CONFIG.dataset)
    with torch.inference_mode():
        right = served(torch.tensor(images.pixels)).argmax(dim=1).numpy() == images.labels
    assert trials[1].test["accuracy"] == pytest.approx(right.mean())
    assert trials[1].test["images"] == len(images)
    final.measure_on_test(CONFIG, trials, loaded.append, kept.append, said.append)
    assert len(loaded) == len(said) == 1


def test_classes_without_test_images_are_counted_and_left_out_of_means_over_classes(monkeypatch):
    splits = data.load_train(CONFIG.dataset)
    served = ServedStudent(build("resnet8", splits.geometry, seed=0), splits.mean, splits.std)
    whole = data.load_test(CONFIG.dataset)
    some = whole[np.flatnonzero(whole.labels < 3)]
    monkeypatch.setattr(data, "load_test", lambda config: some)
    plan, said = a_plan(1), []
    plan = dataclasses.replace(plan, config=dataclasses.replace(CONFIG, metrics=ON_REQUEST))
    trials = plan.trials()
    trials[0].status = FINISHED
    final.measure_on_test(plan.config, trials, lambda trial: served, lambda trial: None, said.append)
    assert said == [f"testing 1 student on {len(some)} test images, which lack 7 of the 10 classes"]
    found = served(torch.tensor(some.pixels)).argmax(dim=1).numpy()
    recalls = [(found[some.labels == label] == label).mean() for label in range(3)]
    assert trials[0].test["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert all(np.isfinite(value) for value in trials[0].test.values())
    lines = final_lines.lines(trials)
    assert f"{100 * np.mean(recalls):.2f} %" in final.as_text(plan, lines)
    json.dumps(final.result(plan, plan.config, lines, 1438), allow_nan=False)


def test_outputs_that_are_no_numbers_on_the_test_images_are_a_divergence():
    splits = data.load_train(CONFIG.dataset).with_validation()
    student = build("resnet8", splits.geometry, seed=0)
    with torch.no_grad():
        next(iter(student.parameters())).fill_(torch.nan)
    trials, kept = a_plan(1).trials(), []
    trials[0].status = FINISHED
    served = ServedStudent(student, splits.mean, splits.std)
    final.measure_on_test(CONFIG, trials, lambda trial: served, kept.append, lambda text: None)
    assert (trials[0].status, trials[0].test) == (DIVERGED, None)
    assert trials[0].reason == "the student's outputs on the test images are not finite numbers"
    assert kept == trials
    assert final_lines.first_student(trials) is None
    with pytest.raises(UserError, match="the weights of this resnet8 must be finite numbers, but some are not"):
        load_student("resnet8", splits.geometry, student.state_dict())


def test_the_test_images_are_read_in_one_place():
    """Whatever could hand out the test split is called by name nowhere else in the package."""
    readers = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] != "data"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if getattr(node, "attr", getattr(node, "id", None)) == "load_test"
        or (isinstance(node, ast.ImportFrom) and any(alias.name == "load_test" for alias in node.names))
    }
    assert readers == {"final/results.py"}


def test_the_card_says_what_was_measured_of_the_student_and_of_its_config():
    plan = a_plan(4, "kd")
    trials = trained(plan, {None: OURS, "kd": THEIRS})
    found = final_lines.lines(trials)
    shown = "\n\n".join(final.final_evidence(plan, found, trials[0]))
    assert "Test accuracy **91.00 %** of this student on 100 images" in shown
    assert "| the config | 93.00 % |" in shown
    assert "| kd | 91.50 % |" in shown
    assert "the seeds differ only in" in shown
    (alone,) = final.final_evidence(a_plan(1), final_lines.lines(trained(a_plan(1), {None: [0.9]})), trials[0])
    assert "|" not in alone


@pytest.mark.parametrize(
    ("seeds", "baselines", "drawn"),
    [(4, {None: OURS, "kd": THEIRS}, True), (1, {None: [0.9], "kd": [0.8]}, True), (4, {None: OURS}, False)],
)
def test_means_are_drawn_where_there_is_something_to_compare(seeds, baselines, drawn):
    plan = a_plan(seeds, *(name for name in baselines if name))
    picture = means_picture(final_lines.lines(trained(plan, baselines)))
    assert picture.png.startswith(b"\x89PNG") if drawn else picture is None


def test_what_was_not_trained_to_the_end_is_not_drawn():
    plan = a_plan(4, "kd", "at")
    lost = {None: OURS, "kd": [None] * 4, "at": [*THEIRS[:3], None]}
    assert means_picture(final_lines.lines(trained(plan, lost))).png.startswith(b"\x89PNG")
    assert means_picture(final_lines.lines(trained(plan, {**lost, "at": [None] * 4}))) is None
