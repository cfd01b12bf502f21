"""Recorded or live teachers, where the space leaves it open: by the limit alone, before anything is trained."""

import dataclasses

import pytest
from support.factories import a_space, space_content

from ctkd_search.config import plain
from ctkd_search.space.reader import kept_space
from ctkd_search.space.teacher_mode import top_fault, trajectories, with_mode
from ctkd_search.storage import TopLogits

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


def of_many_classes(classes=1000, images=10**6, before=None, teachers=None, search=None, **sections):
    """What is chosen for many classes, whose teachers take 14 GB in float16 for one architecture."""
    search = {"pair": "wrn-10-1/resnet8", "step_loss": "kl", "lr": {"float": [0.01, 0.1]}, **(search or {})}
    return with_mode(space(teachers, search=search, **sections), images, classes, before)


@pytest.mark.parametrize(
    ("limit", "top", "size"),
    [
        ("13GB", 128, "3.63 GB"),
        ("3GB", 64, "1.83 GB"),
        ("1GB", 32, "938 MB"),
        ("500MB", 16, "490 MB"),
        ("400MB", None, ""),
    ],
)
def test_as_many_of_the_largest_logits_as_fit_are_proposed_where_all_of_them_do_not(limit, top, size):
    found, told = of_many_classes(teachers={"trajectory_limit": limit})
    assert (found.teachers.storage, found.teachers.mode) == ("float16", "live")
    assert "recorded, their logits would take 14 GB" in told
    advice = f"; with teachers.storage: {{top: {top}}} the largest logits alone would take {size}"
    assert told.endswith(advice) if top else "top" not in told
    if top:
        asked = of_many_classes(teachers={"trajectory_limit": limit, "storage": {"top": top}})
        assert (asked[0].teachers.storage, asked[0].teachers.mode) == (TopLogits(top), "recorded")
        assert f"{4 * top + 6} bytes for {top} logits x 1 trajectory), within" in asked[1]


@pytest.mark.parametrize(
    "sections",
    [
        {"search": {"step_loss": "mse"}},
        {"search": {"standardised": {"choice": [False, True]}}},
        {"search": {"step_loss": {"choice": ["kl", "mse"]}}},
        {"baselines": ["dkd"]},
        {"classes": 30, "images": 10**8},
    ],
)
def test_they_are_not_proposed_where_all_logits_are_needed_or_nothing_is_saved(sections):
    found, told = of_many_classes(teachers={"trajectory_limit": "3GB"}, **sections)
    assert found.teachers.mode == "live"
    assert "top" not in told


def test_a_search_with_the_largest_logits_keeps_them_when_it_goes_on():
    asked = {"storage": {"top": 32}}
    found, told = of_many_classes(images=10, before="recorded", teachers=asked)
    assert (found.teachers.mode, found.teachers.storage) == ("recorded", TopLogits(32))
    assert told == "teachers: recorded, as when this began"
    kept = kept_space(plain(dict(space(asked).raw)), "recorded")
    assert (kept.teachers.mode, kept.teachers.storage) == ("recorded", TopLogits(32))


def test_the_largest_logits_of_few_classes_save_nothing():
    assert top_fault(16, 35) == "keeps 16 logits in 70 bytes, and all 35 take 70 as float16; use float16"
    assert top_fault(16, 36) is None
    assert top_fault(16, 65_537) == "is for at most 65,536 classes, but there are 65,537"
