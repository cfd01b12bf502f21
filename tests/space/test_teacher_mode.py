"""Recorded or live teachers, where the space leaves it open: by the limit alone, before anything is trained."""

import dataclasses

import pytest
from support.factories import a_space, space_content

from ctkd_search.space.reader import kept_space
from ctkd_search.space.teacher_mode import trajectories, with_mode

SECTIONS = {
    "budget": {"trials": 2, "epochs": 7},
    "search": {"pair": {"choice": ["wrn-10-1/resnet8", "wrn-16-1/resnet8"]}, "lr": {"float": [0.01, 0.1]}},
}
CONFIRM = {"best": 5, "seeds": 3}


def space(teachers=None, **sections):
    return a_space(**{**SECTIONS, **sections}, teachers=teachers)


def chosen(images=100, before=None, teachers=None, **sections):
    """The mode that is chosen, and what is said of it."""
    settled, said = with_mode(space(teachers, **sections), images, 10, before)
    return settled.teachers.mode, said


@pytest.mark.parametrize(("storage", "width"), [("float16", 2), ("float32", 4)])
@pytest.mark.parametrize(("sections", "count"), [({}, 2), ({"confirm": CONFIRM}, 2 + 2 * 3)])
def test_teachers_are_recorded_up_to_the_limit_and_live_beyond_it(storage, width, sections, count):
    needed = count * 7 * 100 * 10 * width
    for limit, mode in ((needed, "recorded"), (needed - 1, "live")):
        assert chosen(teachers={"storage": storage, "trajectory_limit": limit}, **sections)[0] == mode


def test_nothing_but_the_mode_is_changed_and_what_is_said_explicitly_is_not():
    for mode in ("recorded", "live"):
        asked = space({"mode": mode})
        for images in (100, 10**12):
            assert with_mode(asked, images, 10)[0] == asked
    left_open = space()
    assert with_mode(left_open, 100, 10)[0] == dataclasses.replace(
        left_open, teachers=dataclasses.replace(left_open.teachers, mode="recorded")
    )


def test_the_mode_is_told_in_one_line_with_the_sizes():
    product = "7 epochs x {} images x 10 classes x 2 bytes x 2 trajectories"
    assert chosen()[1] == (
        f"teachers: recorded, once for all trials; their logits take 28 kB ({product.format(100)}), within "
        "teachers.trajectory_limit (20GB)"
    )
    much = f"28 GB ({product.format('100,000,000')}), beyond teachers.trajectory_limit (20GB)"
    assert chosen(10**8)[1] == f"teachers: live, in every trial; recorded, their logits would take {much}"
    assert chosen(10**8, teachers={"mode": "recorded"})[1] == (
        f"teachers: recorded, as teachers.mode is set, though their logits take {much}"
    )
    assert chosen(confirm=CONFIRM)[1].count("112 kB") == 1
    assert "8 trajectories, up to 6 of them for the confirmation" in chosen(confirm=CONFIRM)[1]
    # Where it is as the user said, there is nothing to say.
    assert chosen(teachers={"mode": "recorded"})[1] is None
    assert chosen(10**8, teachers={"mode": "live"})[1] is None


def test_a_resumed_search_keeps_its_mode_whatever_was_added_to_it():
    for before in ("recorded", "live"):
        for images in (1, 10**10):
            assert chosen(images, before) == (before, f"teachers: {before}, as when this began")
        assert kept_space(space_content(**SECTIONS), before).teachers.mode == before
    assert kept_space(space_content(**SECTIONS), None).teachers.mode == "recorded"
    assert kept_space(space_content(**SECTIONS, teachers={"mode": "live"}), "recorded").teachers.mode == "live"


def test_a_scratch_teacher_that_nobody_listens_to_takes_nothing():
    unheard = {"search": {**SECTIONS["search"], "alpha": 0, "beta": {"float": [1, 2]}}, "confirm": CONFIRM}
    assert trajectories(space(**unheard), 100, 10).most == 0
    assert chosen(10**10, **unheard) == ("recorded", None)
    assert chosen(10**10, **unheard, baselines=["scratch-only"])[0] == "live"


def test_the_running_average_of_a_teacher_takes_as_much_again():
    search = {**SECTIONS["search"], "step_teacher": {"choice": ["scratch", "average"]}}
    plain, averaged = (trajectories(space(search=one), 100, 10) for one in (SECTIONS["search"], search))
    assert averaged.most == 2 * plain.most
    assert "2 bytes x 2 for the running average x 2 trajectories" in str(averaged)
    # With the expert's logits alone there is nothing of a scratch teacher to record.
    of_expert = {**SECTIONS["search"], "step_teacher": "expert"}
    assert trajectories(space(search=of_expert), 100, 10).most == 0
