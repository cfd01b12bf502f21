"""`check` says when classes are imbalanced, what to judge by and what to train with."""

import pytest
from support.factories import a_space, write_space
from support.layouts import write_folder

from ctkd_search.checks.imbalance import imbalance_lines
from ctkd_search.space.reader import read_space

pytestmark = pytest.mark.usefixtures("own_directory")
SIZES = "the classes are imbalanced: the smallest has 6 images, the largest 12"
JUDGE = "to count all classes alike, set objectives: [validation_balanced_accuracy]"
TRAIN = "set search.class_weights: {choice: [none, balanced]}, or augment.sampling: balanced"


def lines(tmp_path, kept, **sections):
    """The lines about a folder of 12 images of each class, of whose first class so many are kept."""
    write_folder(tmp_path / "images", splits=("train",), images=12)
    for path in sorted((tmp_path / "images" / "train" / "ant").iterdir())[kept:]:
        path.unlink()
    return imbalance_lines(
        read_space(write_space(tmp_path / "x.yaml", dataset={"name": "folder", "root": "images"}, **sections))
    )


def test_imbalanced_classes_are_told_with_what_a_space_has_for_them(tmp_path):
    (line,) = lines(tmp_path, 6)
    assert line.startswith(SIZES)
    assert JUDGE in line
    assert TRAIN in line


@pytest.mark.parametrize(
    ("sections", "judge", "train"),
    [
        ({"objectives": ["validation_balanced_accuracy"]}, False, True),
        ({"train": {"class_weights": "balanced"}}, True, False),
        ({"train": {"class_weights": [1, 2, 3]}}, True, False),
        ({"search": {"class_weights": {"choice": ["none", "effective"]}}}, True, False),
        ({"search": {"augment": {"choice": {"a": {}, "b": {"sampling": "balanced"}}}}}, True, False),
        ({"augment": {"sampling": "balanced"}, "objectives": ["validation_balanced_accuracy"]}, False, False),
    ],
)
def test_what_a_space_uses_already_is_not_offered(tmp_path, sections, judge, train):
    (line,) = lines(tmp_path, 6, **sections)
    assert (JUDGE in line, TRAIN in line) == (judge, train)


def test_classes_of_less_than_twice_the_size_are_not_imbalanced(tmp_path):
    assert lines(tmp_path, 7) == []


def test_settings_for_imbalanced_classes_are_noted_where_classes_are_balanced():
    search = {"lr": {"float": [0.1, 0.2]}, "class_weights": {"choice": ["none", "balanced"]}}
    recipe = {"class_weights": [1] * 10}
    assert imbalance_lines(a_space(search=search, teachers={"recipe": recipe})) == [
        "warning: search.class_weights changes little, because the classes have 139 to 146 images"
    ]
    assert imbalance_lines(a_space(dataset={"name": "cifar100"}, augment={"sampling": "balanced"})) == [
        "warning: sampling changes little, because the classes have 500 images each"
    ]
    assert imbalance_lines(a_space()) == []


def test_check_prints_it(call, tmp_path):
    lines(tmp_path, 6)
    code, out, _ = call("check", "x.yaml", "--no-measure")
    assert code == 0
    assert SIZES in out
