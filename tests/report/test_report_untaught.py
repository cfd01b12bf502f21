"""The report of a student that learned without a teacher, or whose teacher left no accuracies."""

from __future__ import annotations

import dataclasses

import pytest
from support.factories import a_search_record, a_space, a_trial, repetitions
from support.final import a_config

from ctkd_search.analysis.final_lines import Line
from ctkd_search.config import MethodConfig
from ctkd_search.records.trial_configs import config_of
from ctkd_search.report import curves, facts, sections
from ctkd_search.report.final import FinalSummary
from ctkd_search.report.teachers import KeptTeachers

PAIR, LR = "wrn-10-1/resnet8", {"float": [0.01, 0.1]}
TAUGHT = ["ctkd", "kd", "dml", "ctkd-as-released", "iakd"]
ALONE = ["none", "teskd"]


def summary_of(method, confirmed=False, teachers=None, **values):
    """A search over two methods with one trial, which has one of them."""
    search = {"pair": PAIR, "method": {"choice": [method, "ctkd" if method == "kd" else "kd"]}, "lr": LR}
    space = a_space(search=search, teachers=teachers)
    trial = a_trial(1, 0.5, 0.6, space=space, stored={"method": method, "lr": 0.05}, values=values)
    again = repetitions(1, [0.6, 0.7], values=trial.values) if confirmed else []
    return facts.summary_of(space, a_search_record(space), [trial, *again])


def teaching(summary, tmp_path, monkeypatch):
    """The sentences of the section of teacher and student, and the labels of its curves."""
    drawn = []
    monkeypatch.setattr(curves, "teaching", lambda groups: drawn.extend(groups))
    return sections.teaching(summary, KeptTeachers(tmp_path / "teachers", "f" * 64)).text, drawn


@pytest.mark.parametrize("confirmed", [False, True])
def test_a_student_without_a_teacher_is_not_said_to_be_taught(confirmed):
    for method in ALONE:
        summary = summary_of(method, confirmed)
        assert facts.headline(summary).startswith("resnet8, trained without a teacher, reaches 6")
        first, *rest = facts.describe(config_of(summary.space, summary.winner))
        assert first == "resnet8 is trained for 9 epochs without a teacher."
        assert rest[0].startswith(f"It learns by {method}: ")
    for method in TAUGHT:
        summary = summary_of(method, confirmed)
        assert facts.headline(summary).startswith("resnet8, taught by wrn-10-1, reaches 6")
        first, *_ = facts.describe(config_of(summary.space, summary.winner))
        assert first == "wrn-10-1 teaches resnet8 for 9 epochs."


def test_nor_is_one_whose_teacher_has_no_weight():
    for method, values in (("kd", {"weight": 0.0}), ("dml", {"weight": 0.0}), ("dml", {"peer": "student"})):
        own = {f"{method}.{name}": value for name, value in values.items()}
        assert "trained without a teacher" in facts.headline(summary_of(method, **own))


def test_an_ensemble_is_told_of_where_the_expert_teaches():
    experts = {"expert": {"ensemble": ["wrn-10-1", "resnet8"]}}
    for method, told in (("kd", True), ("scratch-only", False)):
        summary = summary_of(method)
        space = a_space(teachers=experts)
        config = dataclasses.replace(config_of(summary.space, summary.winner), teachers=space.teachers)
        assert ("Its expert is an ensemble of 2." in facts.describe(config)) == told


@pytest.mark.parametrize("method", ALONE)
@pytest.mark.parametrize("mode", ["recorded", "live"])
def test_no_teacher_of_it_is_missed(method, mode, tmp_path, monkeypatch):
    text, labels = teaching(summary_of(method, teachers={"mode": mode}), tmp_path, monkeypatch)
    assert text[0] == "No scratch teacher is shown: the winner learned without a teacher."
    assert labels == ["resnet8 (winner)"]


@pytest.mark.parametrize(
    ("method", "teachers", "why"),
    [
        (
            "ctkd",
            None,
            "The scratch teacher's accuracies are missing: its recording is no longer in the teacher cache.",
        ),
        # The expert is a scratch teacher at its end, and is kept whatever the mode.
        (
            "ctkd",
            {"mode": "live"},
            "The scratch teacher's accuracies are missing: its recording is no longer in the teacher cache.",
        ),
        (
            "ctkd",
            {"mode": "live", "expert": {"seed": 5}},
            "The scratch teacher's accuracies are missing: live teachers are not recorded.",
        ),
        ("kd", {"expert": {"seed": 5}}, "No scratch teacher is shown: none was recorded for the winner."),
        ("dml", None, "No scratch teacher is shown: none was recorded for the winner."),
    ],
)
def test_accuracies_of_the_teacher_are_missing_for_the_reason_that_holds(method, teachers, why, tmp_path, monkeypatch):
    text, labels = teaching(summary_of(method, teachers=teachers), tmp_path, monkeypatch)
    assert text[0] == why
    assert labels == ["resnet8, taught (winner)"]


def test_a_picture_says_how_many_curves_it_has():
    for count in (1, 2):
        groups = {f"curve {number}": ("#000000", [[0.5, 0.6]]) for number in range(count)}
        assert curves.teaching(groups).alt.startswith(("1 learning curve;", "2 learning curves;")[count - 1])


@pytest.mark.parametrize(
    ("method", "how"),
    [
        (None, "resnet8, taught by wrn-10-1 with ctkd for 7 epochs, on"),
        (MethodConfig("none", {"label_smoothing": 0.1}), "resnet8, trained by none without a teacher for 7 epochs, on"),
    ],
)
def test_a_final_training_says_who_taught(method, how):
    config = a_config(method).as_dict()
    tested = a_trial(1, 0.5, student_seed=0, test={"accuracy": 0.5, "loss": 1.0, "images": 359})
    content = {"config": config, "seeds": 1, "new_streams": False}
    final = FinalSummary("x/final-1", "2026-01-02", content, [Line("the config", (tested,))])
    assert how in final.sentence()
