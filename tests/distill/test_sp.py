"""Similarity-preserving distillation: the loss and its gradient against NumPy, for maps and for the embedding."""

import numpy as np
import pytest
import torch
from support.classroom import Classroom
from support.embeddings import LABELS, LOGITS, embedding_terms, value_and_gradient
from support.logit_methods import ends
from support.oracles import draw, numpy_gradient
from support.tiny import assert_same_bits

from ctkd_search.config import MethodConfig
from ctkd_search.distill.auxiliary import WithEmbedding
from ctkd_search.distill.lesson import Lesson, StudentOutput
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.relation_losses import similarity
from ctkd_search.distill.requests import EMBEDDING, Needs, TeacherOutput
from ctkd_search.models import describe

pytestmark = pytest.mark.usefixtures("single_thread")


def numpy_similarity(student, expert):
    def rows(activations):
        flat = activations.reshape(len(activations), -1)
        gram = np.array([[np.dot(one, other) for other in flat] for one in flat])
        return gram / np.linalg.norm(gram, axis=1)[:, None]

    return np.linalg.norm(rows(expert) - rows(student), "fro") ** 2 / len(student) ** 2


@pytest.mark.parametrize(("own", "given"), [((5, 3), (5, 7)), ((4, 3, 2, 2), (4, 2, 4, 4)), ((6, 2, 1, 1), (6, 9))])
def test_loss_and_gradient_are_those_of_the_formula(own, given):
    student, expert = draw(*own) / 3, draw(*given, seed=1) / 3
    found, gradient = value_and_gradient(similarity, student, expert)
    assert found == pytest.approx(numpy_similarity(student, expert), rel=1e-9)
    assert gradient == pytest.approx(numpy_gradient(lambda own: numpy_similarity(own, expert), student), abs=1e-6)


def test_turned_and_stretched_activations_are_as_similar():
    expert = draw(6, 5)
    turn, _ = np.linalg.qr(draw(5, 5, seed=2))
    found, gradient = value_and_gradient(similarity, 3 * expert @ turn, expert)
    assert found == pytest.approx(0, abs=1e-12)
    assert gradient == pytest.approx(np.zeros((6, 5)), abs=1e-9)


def test_activations_of_zeros_give_a_finite_gradient():
    student = draw(4, 3)
    student[1] = 0
    for own in (student, np.zeros((4, 3))):
        assert np.isfinite(value_and_gradient(similarity, own, draw(4, 3, seed=1))[1]).all()


def test_terms_add_up_the_layers_and_embeddings_need_none():
    student = [draw(8, 4, 4, 4), draw(8, 6, 2, 2), draw(8, 8, 1, 1)]
    expert = {1: draw(8, 2, 8, 8, seed=1), 3: draw(8, 5, 2, 2, seed=2)}
    said = {TeacherOutput("features", layer): torch.tensor(value).float() for layer, value in expert.items()}
    method = make_method(MethodConfig("sp", {"weight": 20.0, "similarity_layers": (1, 3)}))
    assert method.needs == Needs(expert=tuple(said))
    maps = [torch.tensor(features).bfloat16() for features in student]
    found = method.terms(StudentOutput(LOGITS, maps), Lesson(torch.zeros(8), LABELS, None, said))
    rounded = [features.double().numpy() for features in maps]
    expected = sum(numpy_similarity(rounded[layer - 1], expert[layer]) for layer in expert)
    assert found["loss_similarity"].item() == pytest.approx(20 * expected, rel=1e-5)
    values = {"weight": 20.0, "activations": "embedding"}
    assert make_method(MethodConfig("sp", values)).needs == Needs(expert=(EMBEDDING,))
    pooled, given = draw(8, 5), draw(8, 9, seed=1)
    assert embedding_terms("sp", values, pooled, given) == pytest.approx(
        {"loss_similarity": 20 * numpy_similarity(pooled, given)}, rel=1e-5
    )


def test_the_student_has_its_embedding_only_where_it_is_compared():
    kinds = {
        what: isinstance(Classroom(MethodConfig("sp", {"activations": what})).network, WithEmbedding)
        for what in ("maps", "embedding")
    }
    assert kinds == {"maps": False, "embedding": True}
    off = make_method(MethodConfig("sp", {"weight": 0.0}))
    assert off.needs == Needs()


def test_widths_may_differ_and_layers_must_be_there():
    pair = describe("wrn-16-2"), describe("resnet8")
    assert make_method(MethodConfig("sp")).fault(*pair) is None
    fault = make_method(MethodConfig("sp", {"similarity_layers": (4,)})).fault(*pair)
    assert fault == "wrn-16-2 has no layer 4; it has 1,2,3"


@pytest.mark.parametrize("activations", ["maps", "embedding"])
def test_recorded_activations_teach_what_the_live_expert_does(activations, splits, tmp_path):
    assert_same_bits(*ends("sp", {"activations": activations}, splits, tmp_path))
