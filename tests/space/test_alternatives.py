"""A searched augmentation: named alternatives, each an augmentation of its own with teachers of its own."""

from __future__ import annotations

import dataclasses

import pytest
from support.factories import SEARCH, WRN, a_space, a_trial

from ctkd_search.config import Augment, RandAugment
from ctkd_search.display.comparisons import baselines_table
from ctkd_search.metrics import ACCURACY
from ctkd_search.records.trial_configs import config_of
from ctkd_search.report.facts import about, summary_of
from ctkd_search.search.comparisons import missing_baselines
from ctkd_search.space.comparisons import baseline_config, each_needs_with_baselines
from ctkd_search.space.reader import kept_space, space_of
from ctkd_search.space.teacher_mode import trajectories

CHOICE = {"weak": {}, "strong": {"crop": 2, "mixup": 0.2, "randaugment": {"operations": 1}}}


def searching(choice=CHOICE, when=None, search=None, **sections):
    entry = {"choice": choice, **({"when": when} if when else {})}
    return a_space(search={**SEARCH, **(search or {}), "augment": entry}, **sections)


def test_an_alternative_has_the_settings_of_the_section_and_of_the_rest_the_data_sets_own():
    space = searching(augment={"erasing": 0.2})
    own = a_space(augment={"erasing": 0.2}).augment
    assert space.augments == {
        "weak": own,
        "strong": dataclasses.replace(own, crop=2, mixup=0.2, randaugment=RandAugment(operations=1)),
    }
    # What replaces another operation does so here too, and null switches off.
    space = searching(
        {"a": {"trivialaugment": True}, "b": {"randaugment": None}, "c": {}}, augment={"randaugment": {"magnitude": 3}}
    )
    assert [(each.randaugment, each.trivialaugment) for each in space.augments.values()] == [
        (None, True),
        (None, None),
        (RandAugment(magnitude=3), None),
    ]


def test_a_trial_has_the_augmentation_that_its_value_names_and_the_first_trial_the_first_one():
    space = searching()
    first = space.decode(space.paper_point())
    assert first["augment"] == "weak"
    assert space.config(first).augment == space.augments["weak"] == space.augment
    other = {**first, "augment": "strong"}
    assert space.config(other).augment == space.augments["strong"]
    assert "strong" in space.label(space.effective(other)).split()
    stored = space.encode(space.effective(other))
    assert stored["augment"] == "strong"
    assert space.decode(stored) == other


def test_other_parameters_may_depend_on_it_and_it_on_them():
    space = searching(search={"label_smoothing": {"float": [0.1, 0.2], "when": {"augment": "weak"}}})
    assert "label_smoothing" in space.paper_point()
    assert space.decode({"augment": "strong", "label_smoothing": 0.15})["label_smoothing"] == 0
    space = searching(when={"pair": WRN})
    assert space.decode({"pair": WRN, "augment": "strong"})["augment"] == "strong"
    assert space.decode({"augment": "strong"})["augment"] == "weak"


def test_each_alternative_is_seen_by_teachers_of_its_own():
    pairs = {"choice": ["wrn-16-2/resnet8", "wrn-10-1/resnet8"]}
    space = searching(search={"pair": pairs}, confirm={"best": 1, "seeds": 2}, baselines=["kd"])
    names = [space.named_teacher(config) for config in space.trained_teachers()]
    assert names == [f"{name} with {augment}" for name in ("wrn-16-2", "wrn-10-1") for augment in CHOICE]
    assert {space.named_teacher(config) for config, _ in each_needs_with_baselines(space)} == set(names)
    # The winner's and, of its pair, that of the baseline, which has the first alternative.
    found = trajectories(space, images=10, classes=10)
    assert (found.teachers, found.confirmed) == (4, (2, 4))
    assert trajectories(searching(search={"pair": pairs}), 10, 10).teachers == 4
    space = searching(search={"pair": pairs}, when={"pair": "wrn-10-1/resnet8"})
    assert [space.named_teacher(config) for config in space.trained_teachers()] == [
        "wrn-16-2 with weak",
        "wrn-10-1 with weak",
        "wrn-10-1 with strong",
    ]


def test_baselines_have_the_first_alternative_and_say_so():
    space = searching(baselines=["kd", "student-alone"])
    assert baseline_config(space, "kd", WRN).augment == space.augment
    trials = missing_baselines(space, {})
    assert [trial.values["augment"] for trial in trials] == ["weak"] * 4
    caption = "Baselines, with the same data and budget, augment weak, and never stopped early."
    assert baselines_table(trials, None, ACCURACY).caption.startswith(caption)


@pytest.mark.parametrize("read", [lambda raw: space_of(raw), lambda raw: kept_space(raw, "recorded")])
def test_a_stored_space_has_the_alternatives_again_and_records_lead_to_them(read):
    space = searching(augment={"flip": True})
    again = read(space.raw)
    assert again.augments == space.augments
    values = space.effective({**space.decode(space.paper_point()), "augment": "strong"})
    trial = a_trial(1, 0.5, values=values, space=space)
    assert config_of(again, trial).augment == space.augments["strong"]


def test_a_report_says_what_each_alternative_is(tmp_path):
    from support.factories import a_search

    space = searching({**CHOICE, "strong": {**CHOICE["strong"], "sampling": "balanced", "erasing": 0.5}})
    folder = a_search(tmp_path, [a_trial(1, 0.5, space=space, stored=space.paper_point())], space)
    told = about(summary_of(space, folder.search(), folder.trials()), None)
    assert told["augment"] == (
        "weak: crop 1; strong: crop 2, randaugment (operations 1, magnitude 9), "
        "erasing (probability 0.5, area 0.02 to 0.33), mixup 0.2, sampling balanced"
    )
    assert "augment" not in about(summary_of(a_space(), folder.search(), folder.trials()), None)


def test_images_are_loaded_for_every_alternative(tmp_path):
    assert searching().augmentations == [Augment(1, False), *list(searching().augments.values())[1:]]
    assert a_space().augmentations == [a_space().augment]
