"""The recipe that a space gets where it says nothing of one."""

import pytest
from support.space_texts import space

from ctkd_search.recipe import Recipe
from ctkd_search.space.default_recipe import COURSE

pytestmark = pytest.mark.usefixtures("own_directory")
SILENT = "budget: {epochs: 20}\nsearch: {alpha: {float: [0.1, 1]}}"
DEFAULT = Recipe(lr=0.2, nesterov=True, schedule="linear", warmup=3.0)


def train_of(text):
    return space(text).train


def test_a_space_that_says_nothing_has_the_default_recipe_for_students_and_teachers():
    read = space(SILENT)
    assert read.train == DEFAULT
    assert read.teachers.recipe == DEFAULT


def test_the_warm_up_follows_the_epochs():
    assert train_of("budget: {epochs: 1}\nsearch: {alpha: {float: [0.1, 1]}}").warmup == 0.15
    assert train_of(f"{SILENT}\nscheduler: none").warmup == 3.0


def test_what_is_no_part_of_the_course_leaves_it_alone():
    read = train_of(f"train: {{batch_size: 64, weight_decay: 0.001, clip: 1.0, lr: 0.05}}\n{SILENT}")
    assert read == Recipe(64, lr=0.05, weight_decay=0.001, clip=1.0, nesterov=True, schedule="linear", warmup=3.0)


def test_a_learning_rate_that_is_searched_begins_at_the_default_one():
    read = space("budget: {epochs: 20}\nsearch: {lr: {float: [0.01, 0.5], log: true}}")
    assert read.train == DEFAULT
    assert read.decode(read.paper_point())["lr"] == 0.2


@pytest.mark.parametrize(
    "given",
    [
        {"optimizer": "adamw"},
        {"momentum": 0.8},
        {"nesterov": False},
        {"schedule": "cosine"},
        {"warmup": 1.0},
        {"milestones": (0.5,)},
        {"gamma": 0.5},
        {"schedule": "constant", "cooldown": 0.5},
        {"optimizer_options": {"dampening": 0.1}},
    ],
    ids=" ".join,
)
def test_beside_a_part_of_the_course_the_rest_is_the_papers(given):
    text = ", ".join(f"{name}: {list(value) if name == 'milestones' else value}" for name, value in given.items())
    text = text.replace("False", "false").replace("'", "")
    assert train_of(f"train: {{{text}}}\n{SILENT}") == Recipe(**given)
    read = space(f"teachers: {{recipe: {{{text}}}}}\n{SILENT}")
    assert read.teachers.recipe == Recipe(**given)
    assert read.train == DEFAULT
    assert given.keys() & set(COURSE)


def test_a_part_of_the_course_that_is_searched_makes_the_rest_the_papers():
    read = space("budget: {epochs: 20}\nsearch: {schedule: {choice: [milestones, cosine]}}")
    assert read.train == Recipe()
    assert read.teachers.recipe == DEFAULT
    assert read.config(read.decode(read.paper_point())).train == Recipe()


def test_a_space_that_was_kept_is_read_as_it_was():
    from ctkd_search.space.reader import space_of

    read = space(SILENT)
    assert space_of(read.raw).train == read.train
    assert space_of(read.raw).teachers == read.teachers
