"""The plan of a final training: its seeds, streams, and baselines with the config's recipe."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from support.final import KD, METHOD, a_config
from support.methods import with_values

from ctkd_search.config import Augment, ExpertConfig, MethodConfig, TeachersConfig
from ctkd_search.distill.build import teacher_runs
from ctkd_search.distill.engine import resolve_precision
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.requests import Needs
from ctkd_search.errors import UserError
from ctkd_search.final.plan import FinalPlan, make_plan
from ctkd_search.recipe import Recipe
from ctkd_search.search.precision import with_precision
from ctkd_search.space.baselines import BASELINES
from ctkd_search.space.definition import shown_values
from ctkd_search.space.parameters import TRAINING
from ctkd_search.space.sections import Resources, Tracking

CPU = torch.device("cpu")


def configs(plan):
    """Every config of a plan by its baseline and the seed of its student."""
    space = with_precision(plan.space(Resources(), Tracking()), resolve_precision("auto", CPU))
    return {(trial.baseline, trial.student_seed): plan.config_of(space, trial) for trial in plan.trials()}


def settled(config):
    """A config in the precision of the CPU."""
    space = with_precision(FinalPlan("x", config).space(Resources(), Tracking()), resolve_precision("auto", CPU))
    return dataclasses.replace(config, train=space.train, teachers=space.teachers)


def runs(config):
    return teacher_runs(config, "data", CPU, Needs(scratch=True, network=True), 0)


def test_one_seed_trains_exactly_the_config():
    plan = FinalPlan("x", a_config())
    (trial,) = plan.trials()
    ((_, trained),) = configs(plan).items()
    assert trained == dataclasses.replace(settled(a_config()), student_seed=4)
    assert (trial.number, trial.kind, trial.seed, trial.student_seed) == (1, "final", 4, 4)
    assert not trial.explores


@pytest.mark.parametrize(("own", "seeds"), [(None, [4, 5, 6]), (9, [9, 10, 11])])
def test_seeds_are_counted_from_the_configs_own_and_share_one_stream_and_its_teachers(own, seeds):
    plan = FinalPlan("x", a_config(student_seed=own), seeds=3, baselines=("kd",))
    trials = plan.trials()
    assert [trial.student_seed for trial in trials] == [seed for seed in seeds for _ in range(2)]
    assert [trial.baseline for trial in trials] == [None, "kd"] * 3
    assert [trial.number for trial in trials] == [1, 2, 3, 4, 5, 6]
    found = configs(plan)
    assert {config.seed for config in found.values()} == {4}
    assert len({run for config in found.values() for run in runs(config)}) == 1


def test_new_streams_give_every_seed_teachers_of_its_own():
    teachers = TeachersConfig(seed=20, expert=ExpertConfig(seed=7))
    plan = FinalPlan("x", a_config(teachers=teachers), seeds=3, new_streams=True, baselines=("at",))
    found = configs(plan)
    assert [config.seed for config in found.values()] == [4, 4, 5, 5, 6, 6]
    assert [config.teachers.seed for config in found.values()] == [20, 20, 21, 21, 22, 22]
    assert len({run for config in found.values() for run in runs(config)}) == 6  # scratch teacher and expert
    assert set(runs(found[None, 5])) == set(runs(found["at", 5]))


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_differs_in_its_method_alone(name):
    plan = FinalPlan("x", a_config(), seeds=2, baselines=(name,))
    found = configs(plan)
    for seed in (4, 5):
        config, baseline = found[None, seed], found[name, seed]
        assert baseline.method != config.method
        assert dataclasses.replace(baseline, method=config.method) == config


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("student-alone", MethodConfig("none")),
        ("at", MethodConfig("at", {"beta": 30.0, "attention_layers": (2, 3)})),
        ("scratch-only", MethodConfig("scratch-only", {"step_loss": "kl", "temperature": 6.0, "alpha": 0.5})),
        ("kd", KD),
        # The attention loss is a mean over positions, of which 8x8 images have a 16th of those of 32x32.
        (
            "ctkd-paper",
            MethodConfig(
                "ctkd",
                {"step_loss": "kl", "temperature": 4.0, "alpha": 1.0, "beta": 62.5, "attention_layers": (1, 2, 3)},
            ),
        ),
    ],
)
def test_a_baseline_trains_the_method_and_the_values_it_is_named_for(name, method):
    found = configs(FinalPlan("x", a_config(), baselines=(name,)))
    assert found[name, 4].method.name == method.name
    assert make_method(found[name, 4].method).values == make_method(method).values


def test_a_weight_that_the_config_does_without_is_the_papers_in_a_baseline_that_is_about_it():
    found = configs(
        FinalPlan("x", a_config(with_values(METHOD, alpha=0.0, beta=0.0)), baselines=("at", "scratch-only"))
    )
    assert (found["at", 4].method.values["beta"], found["scratch-only", 4].method.values["alpha"]) == (62.5, 1.0)
    found = configs(FinalPlan("x", a_config(KD), baselines=("at",)))
    assert found[None, 4].method == KD
    assert found["at", 4].method.values["beta"] == 62.5


@pytest.mark.parametrize("name", [None, *BASELINES])
def test_what_is_shown_of_a_training_is_what_has_an_effect(name):
    plan = FinalPlan("x", a_config(), baselines=() if name is None else (name,))
    trial = next(trial for trial in plan.trials() if trial.baseline == name)
    config = configs(plan)[name, 4]
    recipe = {"lr": 0.03, "momentum": 0.8, "weight_decay": 1e-3, "batch_size": 32}
    assert {key: trial.values[key] for key in recipe} == recipe
    assert trial.values["pair"] == "wrn-10-1/resnet8"
    assert trial.values["method"] == config.method.name
    made = make_method(config.method)
    own = {
        key: value
        for key, value in shown_values(config).items()
        if key not in {*(item.name for item in TRAINING), "pair", "method"}
    }
    assert {key.rpartition(".")[2]: value for key, value in own.items()} == {
        item.name: made.values[item.name] for item in made.effective_parameters()
    }


def test_new_streams_need_several_seeds():
    with pytest.raises(UserError, match="--new-streams has no effect with one seed"):
        make_plan("x", a_config(), 1, True, None)
    assert make_plan("x", a_config(), 2, True, ["none"]) == (FinalPlan("x", a_config(), 2, True), ())


@pytest.mark.parametrize(
    ("method", "seeds", "new_streams", "baselines", "kept"),
    [
        (METHOD, 1, False, (), False),  # one training reads each epoch's maps once
        (METHOD, 2, False, (), True),
        (METHOD, 2, True, (), False),
        (METHOD, 1, False, ("at",), True),
        (METHOD, 2, True, ("at",), True),
        (METHOD, 1, False, ("kd", "student-alone"), True),  # maps and logits, in one pass
        (METHOD, 1, False, ("student-alone", "scratch-only"), False),
        (KD, 5, False, ("scratch-only",), True),  # the expert's logits
        (KD, 1, False, ("scratch-only",), False),
    ],
)
def test_maps_are_kept_where_several_trainings_look_at_them(method, seeds, new_streams, baselines, kept):
    assert FinalPlan("x", a_config(method), seeds, new_streams, baselines).keeps_maps() is kept


def test_all_that_determines_the_outcome_is_part_of_the_content():
    base = FinalPlan("x", a_config(), 2, False, ("kd",))
    others = [
        dataclasses.replace(base, config=a_config(epochs=8)),
        dataclasses.replace(base, config=a_config(student_seed=3)),
        dataclasses.replace(base, seeds=3),
        dataclasses.replace(base, new_streams=True),
        dataclasses.replace(base, baselines=()),
    ]
    contents = [str(plan.content()) for plan in (base, *others)]
    assert len(set(contents)) == len(contents)


def test_trajectories_are_counted_by_streams_where_anyone_listens():
    each = 2 * 7 * 100 * 10
    for plan, count in (
        (FinalPlan("x", a_config(), seeds=3), 1),
        (FinalPlan("x", a_config(), seeds=3, new_streams=True), 3),
        (FinalPlan("x", a_config(KD), seeds=3), 0),
        (FinalPlan("x", a_config(KD), seeds=3, baselines=("scratch-only",)), 1),
    ):
        assert plan.trajectories(100, 10).most == each * count


def test_what_older_final_trainings_kept_is_still_what_a_config_with_a_mode_of_its_own_says():
    explicit = a_config(teachers=TeachersConfig(mode="recorded"))
    assert "trajectory_limit" not in FinalPlan("x", explicit).content()["config"]["teachers"]
    assert FinalPlan("x", a_config()).content()["config"]["teachers"]["trajectory_limit"] == "20GB"


def test_a_baseline_of_a_file_is_trained_as_the_file_says():
    own = a_config(KD, student="wrn-16-1", train=Recipe(lr=0.2, batch_size=64))
    plan = FinalPlan("x", a_config(), seeds=2, new_streams=True, baselines=("at", "mine"), files={"mine": own})
    found = configs(plan)
    assert found["mine", 5] == dataclasses.replace(
        settled(own), seed=5, student_seed=5, teachers=dataclasses.replace(settled(own).teachers, seed=21)
    )
    assert set(runs(found["mine", 5])) == set(runs(found[None, 5])), "they have the same teachers"
    shown = next(trial.values for trial in plan.trials() if trial.baseline == "mine")
    assert (shown["pair"], shown["method"], shown["lr"], shown["batch_size"]) == ("wrn-10-1/wrn-16-1", "kd", 0.2, 64)
    assert plan.content()["files"]["mine"]["train"]["lr"] == 0.2
    assert plan.space(Resources(), Tracking()).strategy.baselines == ("at",)


def test_every_teacher_and_augmentation_of_the_files_counts():
    files = {
        "same": a_config(with_values(METHOD, alpha=2.0)),
        "teacher": a_config(with_values(METHOD, alpha=2.0), teacher="wrn-16-1"),
        "augmented": a_config(augment=Augment(crop=1)),
    }
    each = 2 * 7 * 100 * 10
    for names, trajectories, kept in (((), 1, False), (("same",), 1, True), (("teacher", "augmented"), 3, False)):
        plan = FinalPlan("x", a_config(), baselines=names, files={name: files[name] for name in names})
        assert plan.trajectories(100, 10).most == each * trajectories
        assert plan.keeps_maps() is kept
