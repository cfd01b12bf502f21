"""Relational knowledge distillation: distances and angles and their gradients against NumPy, and degenerate cases."""

import numpy as np
import pytest
from support.embeddings import embedding_terms, value_and_gradient
from support.logit_methods import ends
from support.oracles import draw, numpy_gradient
from support.tiny import assert_same_bits

from ctkd_search.config import MethodConfig
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.relation_losses import angles, distances
from ctkd_search.distill.requests import EMBEDDING

pytestmark = pytest.mark.usefixtures("single_thread")

SIZES = pytest.mark.parametrize(("count", "widths"), [(3, (2, 2)), (5, (4, 9)), (6, (7, 3))])


def huber(difference):
    return difference**2 / 2 if abs(difference) < 1 else abs(difference) - 0.5


def numpy_distances(student, expert):
    def scaled(rows):
        count = len(rows)
        found = np.array([[np.linalg.norm(rows[i] - rows[j]) for j in range(count)] for i in range(count)])
        return found / (found.sum() / (count * (count - 1)))

    return np.mean([huber(each) for each in (scaled(student) - scaled(expert)).ravel()])


def numpy_angles(student, expert):
    def cosine(rows, i, j, k):
        if i in (j, k):
            return 0.0
        one, other = rows[j] - rows[i], rows[k] - rows[i]
        return np.dot(one, other) / np.linalg.norm(one) / np.linalg.norm(other)

    places = list(np.ndindex(*[len(student)] * 3))
    return np.mean([huber(cosine(student, *place) - cosine(expert, *place)) for place in places])


@SIZES
@pytest.mark.parametrize(("loss", "oracle"), [(distances, numpy_distances), (angles, numpy_angles)])
def test_loss_and_gradient_are_those_of_the_formula(count, widths, loss, oracle):
    # Far enough from each other for both parts of Huber's loss.
    student, expert = draw(count, widths[0]), draw(count, widths[1], seed=1) ** 3
    found, gradient = value_and_gradient(loss, student, expert)
    assert found == pytest.approx(oracle(student, expert), rel=1e-9)
    assert gradient == pytest.approx(numpy_gradient(lambda own: oracle(own, expert), student), abs=1e-6)


@pytest.mark.parametrize("loss", [distances, angles])
def test_turned_moved_and_stretched_embeddings_have_the_same_relations(loss):
    expert = draw(6, 5)
    turn, _ = np.linalg.qr(draw(5, 5, seed=2))
    assert value_and_gradient(loss, 7 * expert @ turn + 3, expert)[0] == pytest.approx(0, abs=1e-12)
    assert value_and_gradient(loss, draw(6, 5, seed=3), expert)[0] > 1e-3


@pytest.mark.parametrize("loss", [distances, angles])
def test_equal_embeddings_give_finite_gradients_of_usual_size(loss):
    student, expert = draw(5, 3), draw(5, 3, seed=1)
    student[1] = student[0]
    for own, given in ((student, expert), (expert, student), (np.zeros((5, 3)), expert), (student[:1], expert[:1])):
        found, gradient = value_and_gradient(loss, own, given)
        assert np.isfinite(found)
        assert np.abs(gradient).max() < 10


def test_terms_have_their_weights_and_defaults_are_those_of_the_comparisons():
    student, expert = draw(8, 5), draw(8, 9, seed=1)
    expected = {
        "loss_distance": 3 * numpy_distances(student, expert),
        "loss_angle": 7 * numpy_angles(student, expert),
    }
    values = {"distance_weight": 3.0, "angle_weight": 7.0}
    assert embedding_terms("rkd", values, student, expert) == pytest.approx(expected, rel=1e-5)
    assert make_method(MethodConfig("rkd")).values == {"distance_weight": 25.0, "angle_weight": 50.0}
    assert make_method(MethodConfig("rkd", {"angle_weight": 0.0})).needs.expert == (EMBEDDING,)
    assert not make_method(MethodConfig("rkd", dict.fromkeys(values, 0.0))).needs.any_expert


def test_recorded_embeddings_teach_what_the_live_expert_does(splits, tmp_path):
    assert_same_bits(*ends("rkd", {}, splits, tmp_path))
