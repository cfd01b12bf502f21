"""The estimate of a search's time: measured steps, and the times computed from them."""

import dataclasses
from pathlib import Path

import pytest
import torch
from support.factories import a_space

from ctkd_search.analysis.stopping import Span, early_stopping, finalists, going_on
from ctkd_search.checks.estimate import Load, estimate, measured_configs, total
from ctkd_search.checks.measure import Speed, Speeds, learner, measure
from ctkd_search.checks.networks import all_facts
from ctkd_search.geometry import Geometry

CPU = torch.device("cpu")
GEOMETRY = Geometry(10, 1, 8)
SECTIONS = {
    "budget": {"trials": 9, "epochs": 4, "grace_period": 2, "reduction_factor": 3},
    "search": {"pair": "wrn-10-1/resnet8", "lr": {"float": [0.01, 0.1]}},
}
# A second for each image that a student learns from, and for others times that cannot be mistaken for each other.
METHODS = ("ctkd", "none", "kd", "at")
SPEEDS = Speeds(
    {"wrn-10-1": Speed(100.0, 1000.0, 10_000.0)},
    {**{("resnet8", method): Speed(1.0, 0.5) for method in METHODS}, ("resnet8", "fitnets"): Speed(5.0, 0.5)},
)


def parts(concurrent=1, beyond=0.0, teachers_at_once=None, **changes):
    load = Load(1000, 200, concurrent, teachers_at_once or concurrent, beyond)
    return estimate(a_space(**{**SECTIONS, **changes}), SPEEDS, load)


def close(span, low, high):
    return span.low == pytest.approx(low, rel=1e-2) and span.high == pytest.approx(high, rel=1e-2)


def test_early_stopping_saves_between_nothing_and_what_the_rungs_promise():
    budget = {"trials": 9, "epochs": 4, "grace_period": 2, "reduction_factor": 3}
    assert early_stopping(a_space(budget=budget)) == Span(9 * 2 + 3 * 2, 36)
    assert early_stopping(a_space(budget={"trials": 9, "epochs": 4}, scheduler="none")) == Span(36, 36)

    def of_methods(*methods):
        search = {"pair": "wrn-16-2/wrn-10-2", "method": {"choice": list(methods)}}
        return early_stopping(a_space(budget=budget, search=search))

    # Three methods of three trials each: of each, all for two epochs and one for two more.
    assert of_methods("kd", "at", "dkd") == Span(3 * (3 * 2 + 1 * 2), 36)
    # Of fewer than can be stopped, one still goes on.
    nine = ("kd", "at", "dkd", "ctkd", "fitnets", "fs", "dml", "expert-only", "scratch-only")
    assert of_methods(*nine) == Span(9 * (2 + 2), 36)


def test_a_constant_number_of_epochs_has_known_costs():
    budget = {"trials": 9, "epochs": 4, "grace_period": 1}
    assert early_stopping(a_space(budget=budget, scheduler="constant")) == Span(9 + 3 * 3, 9 + 3 * 3)
    best = {"name": "constant", "best": 1}
    assert early_stopping(a_space(budget=budget, scheduler=best)) == Span(9 + 3, 9 + 3)


def test_students_are_groups_of_their_own_where_a_cost_is_an_objective():
    pairs = {"choice": ["wrn-10-1/resnet8", "wrn-16-1/resnet8", "wrn-10-1/wrn-10-1", "wrn-10-1/resnet20"]}
    sections = {"budget": {"trials": 9, "epochs": 4, "grace_period": 1}, "search": {"pair": pairs}}
    best = {"name": "constant", "best": 1}
    assert early_stopping(a_space(**sections, scheduler=best)) == Span(9 + 3, 9 + 3)
    costly = a_space(**sections, scheduler=best, objectives=["validation_accuracy", "params"])
    assert early_stopping(costly) == Span(9 + 3 * 3, 9 + 3 * 3)
    assert (finalists(costly), going_on(costly)) == (3, 3.0)


def test_recorded_teachers_are_paid_for_once():
    epoch = 1000 * 1.0 + 200 * 0.5
    found = parts()
    maps = 4 * 1000 * 10_000.0
    assert close(found["trials"], 24 * epoch + maps, 36 * epoch + maps)
    assert close(found["teachers"], 4 * (1000 * 100 + 200 * 1000), 4 * (1000 * 100 + 200 * 1000))
    assert "baselines" not in found
    assert "confirmation" not in found
    # Where half of the maps has no room, every epoch of a trial computes that half.
    half = parts(beyond=0.5)["trials"]
    assert close(half, 24 * (epoch + 500 * 10_000.0) + maps / 2, 36 * (epoch + 500 * 10_000.0) + maps / 2)


def test_live_teachers_are_paid_for_in_every_trial():
    epoch = 1000 * (1.0 + 100.0 + 10_000.0) + 200 * 0.5
    assert close(parts(teachers={"mode": "live"})["trials"], 24 * epoch, 36 * epoch)
    alone = parts(teachers={"mode": "live"}, baselines=["student-alone"])["baselines"]
    assert close(alone, 4 * 1100, 4 * 1100)


def test_trials_side_by_side_take_their_share_but_none_is_cut_in_two():
    one, three = parts(1), parts(3)
    maps = 4 * 1000 * 10_000.0
    assert close(three["trials"], 24 * 1100 / 3 + maps / 3, 36 * 1100 / 3 + maps / 3)
    assert one["trials"].high == pytest.approx(3 * three["trials"].high)
    beside = parts(64, baselines=["kd", "at"], scheduler="none", budget={"trials": 9, "epochs": 4})
    assert close(beside["baselines"], 4 * 1100, 4 * 1100)


def test_the_confirmation_has_teachers_of_its_own():
    epoch, teacher = 1100.0, 4 * (1000 * 100 + 200 * 1000)
    maps = 3 * 4 * 1000 * 10_000.0
    # Two configs and a baseline, of one pair in any case.
    expected = 3 * (2 + 1) * 4 * epoch + 3 * teacher + maps
    assert close(
        parts(confirm={"best": 2, "seeds": 3}, baselines=["student-alone"])["confirmation"], expected, expected
    )


def test_fewer_teachers_than_trials_are_trained_at_once_where_trials_share_a_gpu():
    teacher = 4 * (1000 * 100 + 200 * 1000)
    confirmed = {"confirm": {"best": 1, "seeds": 4}}
    one, two, all_of_them = (parts(8, teachers_at_once=count, **confirmed)["confirmation"] for count in (1, 2, 8))
    assert two.low - all_of_them.low == pytest.approx(teacher, rel=1e-2)
    assert one.low - all_of_them.low == pytest.approx(3 * teacher, rel=1e-2)


def test_each_alternative_of_the_augmentation_has_teachers_of_its_own():
    search = {**SECTIONS["search"], "augment": {"choice": {"weak": {}, "mixed": {"mixup": 0.2}}}}
    teacher, maps = 4 * (1000 * 100 + 200 * 1000), 4 * 1000 * 10_000.0
    confirmed = {"confirm": {"best": 1, "seeds": 3}, "baselines": ["student-alone"]}
    found = parts(search=search, **confirmed)
    assert close(found["teachers"], 2 * teacher, 2 * teacher)
    assert close(found["trials"], 24 * 1100 + 2 * maps, 36 * 1100 + 2 * maps)
    # The winner's augmentation is that of the baseline, or another one.
    trials = 3 * 2 * 4 * 1100
    assert close(found["confirmation"], trials + 3 * (teacher + maps), trials + 2 * 3 * (teacher + maps))


@pytest.mark.parametrize(
    ("method", "expert", "trained"),
    [
        ("kd", {}, 1),
        ("kd", {"seed": 1}, 1),
        ("kd", {"checkpoint": "expert.pt"}, 0),
        ("ctkd", {"seed": 1}, 2),
        ("ctkd", {"checkpoint": "expert.pt"}, 1),
    ],
)
def test_only_teachers_that_are_needed_are_trained(method, expert, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("expert.pt").touch()
    search = {**SECTIONS["search"], "method": method}
    teacher = 4 * (1000 * 100 + 200 * 1000)
    found = parts(search=search, teachers={"expert": expert})["teachers"]
    assert close(found, trained * teacher, trained * teacher)


def test_the_time_budget_ends_it():
    assert total([Span(10, 20), Span(1, 2)], None) == Span(11, 22)
    assert total([Span(100, 200)], 50).low < 100
    assert total([Span(10, 200)], 50).low == 10


def test_each_method_takes_its_own_time():
    methods = {**SECTIONS["search"], "method": {"choice": ["none", "fitnets"]}}
    found = parts(search=methods, scheduler="none", budget={"trials": 8, "epochs": 4})["trials"]
    # FitNets' expert computes in every epoch of its trials, and nothing that is asked of it is recorded.
    alone, hints = 1000 * 1.0 + 200 * 0.5, 1000 * (5.0 + 10_000.0) + 200 * 0.5
    assert close(found, 16 * alone + 16 * hints, 16 * alone + 16 * hints)
    kept = measured_configs(a_space(search=methods, baselines=["at", "student-alone"]))
    assert {learner(config) for config in kept} == {("resnet8", method) for method in ("none", "fitnets", "at")}


def configs_of(**changes):
    space = a_space(**{**SECTIONS, **changes})
    pairs = space.pairs()
    known, _ = all_facts({name for pair in pairs for name in pair.split("/")}, GEOMETRY)
    return measured_configs(space), known


def test_what_is_measured_is_real_work():
    configs, known = configs_of(search={**SECTIONS["search"], "pair": "wrn-16-2/resnet8"})
    threads = torch.get_num_threads()
    found = measure(configs, known, GEOMETRY, CPU, (1, 1), 3.0)
    teacher, student = found.teachers["wrn-16-2"], found.students["resnet8", "ctkd"]
    assert found.estimated == []
    assert min(teacher.training, teacher.forward, teacher.expert, student.training, student.forward) > 0
    # A step of the one computes 25 times what a forward pass of the other does.
    assert student.forward < teacher.training < 1
    assert torch.get_num_threads() == threads


def test_networks_that_there_was_no_time_for_are_reckoned_by_their_multiply_adds():
    pairs = {"choice": ["wrn-10-1/resnet8", "wrn-16-2/resnet8", "wrn-10-1/resnet20"]}
    configs, known = configs_of(search={**SECTIONS["search"], "pair": pairs})
    found = measure(configs, known, GEOMETRY, CPU, (1, 1), 0.0)
    assert found.estimated == ["wrn-16-2", "resnet20 by ctkd"]
    students = {name: speed for (name, _), speed in found.students.items()}
    for speeds, first, second in ((found.teachers, "wrn-10-1", "wrn-16-2"), (students, "resnet8", "resnet20")):
        ratio = known[second].multiply_adds / known[first].multiply_adds
        expected = dataclasses.replace(speeds[first], measured=False)
        assert speeds[second] == Speed(
            expected.training * ratio, expected.forward * ratio, expected.expert * ratio, measured=False
        )


def test_a_running_average_costs_the_teacher_a_forward_pass_an_image():
    search = {**SECTIONS["search"], "step_teacher": "average"}
    plain, averaged = parts(), parts(search=search)
    # Of 1,000 images in each of 4 epochs.
    assert averaged["teachers"].low - plain["teachers"].low == pytest.approx(4 * 1000 * 1000.0)
    plain, averaged = (parts(search=one, teachers={"mode": "live"}) for one in (SECTIONS["search"], search))
    assert averaged["teachers"].low == plain["teachers"].low
    epochs = early_stopping(a_space(**SECTIONS)).low
    assert averaged["trials"].low - plain["trials"].low == pytest.approx(epochs * 1000 * 1000.0)
