"""Probabilistic knowledge transfer: the divergence and its gradient against NumPy, and its degenerate cases."""

import numpy as np
import pytest
from support.embeddings import embedding_terms, value_and_gradient
from support.logit_methods import ends
from support.oracles import draw, numpy_gradient
from support.tiny import assert_same_bits

from ctkd_search.config import MethodConfig
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.relation_losses import neighbours
from ctkd_search.distill.requests import EMBEDDING

pytestmark = pytest.mark.usefixtures("single_thread")


def numpy_neighbours(student, expert):
    def probability(rows, i, j):
        def kernel(k):
            return (np.dot(rows[i], rows[k]) / np.linalg.norm(rows[i]) / np.linalg.norm(rows[k]) + 1) / 2

        return kernel(j) / sum(kernel(k) for k in range(len(rows)))

    found = 0.0
    for i in range(len(student)):
        for j in range(len(student)):
            p, q = probability(expert, i, j), probability(student, i, j)
            found += p * np.log((p + 1e-7) / (q + 1e-7))
    return found / len(student) ** 2


@pytest.mark.parametrize(("count", "widths"), [(2, (3, 3)), (5, (4, 9)), (7, (6, 2))])
def test_loss_and_gradient_are_those_of_the_formula(count, widths):
    student, expert = draw(count, widths[0]) / 3, draw(count, widths[1], seed=1) / 3
    found, gradient = value_and_gradient(neighbours, student, expert)
    # The code of the authors adds 1e-7 to norms too.
    assert found == pytest.approx(numpy_neighbours(student, expert), rel=1e-5)
    assert gradient == pytest.approx(numpy_gradient(lambda own: numpy_neighbours(own, expert), student), abs=1e-6)


def test_turned_and_stretched_embeddings_have_the_same_neighbours():
    expert = draw(6, 5)
    turn, _ = np.linalg.qr(draw(5, 5, seed=2))
    assert value_and_gradient(neighbours, 7 * expert @ turn, expert)[0] == pytest.approx(0, abs=1e-9)
    assert value_and_gradient(neighbours, draw(6, 5, seed=3), expert)[0] > 1e-4


def test_embeddings_of_zeros_and_opposite_ones_give_finite_gradients():
    student = draw(4, 3)
    student[1], student[2] = 0, -student[0]
    for own, expert in ((student, draw(4, 3, seed=1)), (draw(4, 3), student), (draw(1, 3), draw(1, 3, seed=1))):
        found, gradient = value_and_gradient(neighbours, own, expert)
        assert np.isfinite(found)
        assert np.isfinite(gradient).all()


def test_terms_have_the_weight_and_defaults_are_those_of_the_comparisons():
    student, expert = draw(8, 5), draw(8, 9, seed=1)
    assert embedding_terms("pkt", {"weight": 100.0}, student, expert) == pytest.approx(
        {"loss_neighbours": 100 * numpy_neighbours(student, expert)}, rel=1e-4
    )
    method = make_method(MethodConfig("pkt"))
    assert method.values == {"weight": 30000.0}
    assert method.needs.expert == (EMBEDDING,)
    assert not make_method(MethodConfig("pkt", {"weight": 0.0})).needs.any_expert


def test_recorded_embeddings_teach_what_the_live_expert_does(splits, tmp_path):
    assert_same_bits(*ends("pkt", {}, splits, tmp_path))
