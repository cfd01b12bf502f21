"""Names of teachers in the cache: all that determines a teacher is part of its name, and nothing else is."""

import dataclasses

import pytest
from support.recorded import (
    BASE,
    CPU,
    TEACHER_RECIPE,
    varied,
)

from ctkd_search.config import Augment
from ctkd_search.distill.build import teacher_runs
from ctkd_search.distill.recording import expert_runs, scratch_run
from ctkd_search.distill.requests import Needs

CHANGES = {
    "epochs": {"epochs": 3},
    "teacher": {"teacher": "wrn-16-1"},
    "stream": {"seed": 1},
    "augment": {"augment": Augment(crop=2, flip=False)},
    "seed": {"teachers": dataclasses.replace(BASE.teachers, seed=1)},
    "recipe": {"teachers": dataclasses.replace(BASE.teachers, recipe=dataclasses.replace(TEACHER_RECIPE, lr=0.1))},
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_determines_a_teacher_is_part_of_its_name(what, splits):
    other = dataclasses.replace(BASE, **CHANGES[what])
    assert (
        scratch_run(other, splits.fingerprint, CPU, len(splits.train)).entry
        != scratch_run(BASE, splits.fingerprint, CPU, len(splits.train)).entry
    )
    assert (
        scratch_run(BASE, "other images", CPU, 0).entry
        != scratch_run(BASE, splits.fingerprint, CPU, len(splits.train)).entry
    )


@pytest.mark.parametrize(("images", "joined"), [(0, False), (128, False), (129, True), (130, False), (257, True)])
def test_a_single_last_image_that_joins_a_batch_is_part_of_a_teachers_name(images, joined):
    recipe = dataclasses.replace(TEACHER_RECIPE, batch_size=128)
    config = dataclasses.replace(BASE, teachers=dataclasses.replace(BASE.teachers, recipe=recipe))
    before, needs = scratch_run(config, "data", CPU, 0).entry, Needs(scratch=True, network=True)
    assert (scratch_run(config, "data", CPU, images).entry != before) is joined
    (expert,) = expert_runs(config, "data", CPU, images)
    assert (expert.entry != before) is joined
    assert all((run.entry != before) is joined for run in teacher_runs(config, "data", CPU, needs, images))


def test_nothing_of_the_student_is_part_of_a_teachers_name(splits):
    other = dataclasses.replace(varied(64, step_loss="mse", alpha=3.0, attention_layers=(2,)), student="wrn-10-1")
    assert scratch_run(other, splits.fingerprint, CPU, len(splits.train)) == scratch_run(
        BASE, splits.fingerprint, CPU, len(splits.train)
    )
