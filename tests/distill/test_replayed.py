"""Methods whose teachers do not depend on the student: replayed they teach what they teach live."""

import dataclasses

import pytest
from support.methods import with_values
from support.tiny import TINY, assert_same_bits, copied, prepared_trainer

from ctkd_search.config import MethodConfig
from ctkd_search.distill.methods.base import make_method, methods

pytestmark = pytest.mark.usefixtures("single_thread")

REPLAYED = [
    name for name in methods() if not methods()[name].auxiliary and make_method(MethodConfig(name)).needs.any_expert
]
# Those whose loss without weights is cross-entropy, and that leave the student as it is.
WEIGHED = ["dml"] + [
    name for name, method in methods().items() if not method.auxiliary and any(item.term for item in method.parameters)
]


def ended(method, splits, cache, mode="recorded"):
    teachers = dataclasses.replace(TINY.teachers, mode=mode, storage="float32")
    trainer = prepared_trainer(dataclasses.replace(TINY, method=method, teachers=teachers), splits, cache)
    losses = [trainer.run_epoch()["loss"] for _ in range(TINY.epochs)]
    return losses, copied(trainer.student)


def defaults(name):
    values = {item.name: item.default for item in methods()[name].parameters}
    # Each of rco's anchors teaches in an epoch of its own.
    return MethodConfig(name, values | ({"anchors": TINY.epochs} if "anchors" in values else {}))


@pytest.mark.parametrize("name", REPLAYED)
def test_replayed_teachers_teach_what_live_ones_do(name, splits, cache):
    assert_same_bits(ended(defaults(name), splits, cache), ended(defaults(name), splits, cache, "live"))


@pytest.mark.parametrize("name", WEIGHED)
def test_without_weights_a_student_is_the_student_alone(name, splits, cache):
    weights = {item.name: 0.0 for item in methods()[name].parameters if item.term}
    method = with_values(defaults(name), **weights)
    assert not make_method(method).needs.any_expert
    assert_same_bits(ended(method, splits, cache), ended(MethodConfig("none", {"label_smoothing": 0.0}), splits, cache))
