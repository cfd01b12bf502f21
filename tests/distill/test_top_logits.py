"""The largest logits alone, with the log-sum of the others: what is kept, what it costs, and what students hear."""

import dataclasses

import numpy as np
import pytest
import torch
from support.tiny import TINY, assert_same_bits, copied, prepared_trainer

from ctkd_search.config import MethodConfig, TeachersConfig
from ctkd_search.distill.lesson import StudentOutput
from ctkd_search.distill.losses import softened_divergence
from ctkd_search.distill.methods.base import make_method, methods
from ctkd_search.distill.recorded import record_of
from ctkd_search.distill.requests import EMBEDDING, LOGITS, TeacherOutput
from ctkd_search.distill.top_logits import pack_logits, unpack_logits
from ctkd_search.storage import TopLogits, logit_bytes

pytestmark = pytest.mark.usefixtures("single_thread")
CLASSES = 10
KD = MethodConfig("kd", {"temperature": 4.0, "weight": 0.9})
STEP = {"step_loss": "kl", "temperature": 4.0, "alpha": 0.5, "beta": 0.0}


def logits(images=40, classes=60, spread=3.0):
    return spread * torch.randn(images, classes, generator=torch.Generator().manual_seed(0))


def through(given, top):
    rows = pack_logits(given, TopLogits(top))
    return unpack_logits(torch.from_numpy(rows), TopLogits(top), given.shape[1])


def oracle(given, top):
    """By the definition, an image at a time, in float64."""
    found = []
    for image in given.double().numpy():
        order = np.argsort(-image)
        others = np.log(np.exp(image[order[top:]]).sum())
        row = np.full(len(image), np.float32(others) - np.log(len(image) - top))
        row[order[:top]] = image[order[:top]].astype(np.float16)
        found.append(row)
    return torch.tensor(np.array(found))


@pytest.mark.parametrize("top", [1, 5, 16, 59])
def test_what_is_read_back_is_what_the_definition_says(top):
    torch.testing.assert_close(through(logits(), top).double(), oracle(logits(), top), rtol=0, atol=2e-6)


@pytest.mark.parametrize("top", [1, 4, 16])
def test_the_predictions_of_the_kept_classes_are_those_of_all_logits(top):
    given = logits()
    found, whole = through(given, top).softmax(1), given.softmax(1)
    kept = given.topk(top, dim=1).indices
    torch.testing.assert_close(found.gather(1, kept), whole.gather(1, kept), rtol=8e-3, atol=1e-6)  # of float16
    torch.testing.assert_close(found.sum(1), torch.ones(len(given)))


def test_softened_predictions_come_nearer_with_each_logit_that_is_kept():
    given, student = logits(), logits(spread=1.0).flip(0).requires_grad_()

    def gradient(teacher):
        return torch.autograd.grad(softened_divergence(student, teacher, 4.0), student)[0]

    whole = gradient(given)
    errors = [(gradient(through(given, top)) - whole).norm() / whole.norm() for top in (1, 4, 16, 32, 59)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.05
    assert errors[-1] < 2e-3


def test_a_row_takes_four_bytes_for_each_logit_and_four_for_the_others():
    rows = pack_logits(logits(7), TopLogits(16))
    assert (rows.dtype, rows.shape) == (np.int16, (7, 34))
    assert rows.nbytes == 7 * logit_bytes(TopLogits(16), 60) == 7 * 68


def test_classes_beyond_the_range_of_a_signed_number_are_kept():
    given = torch.zeros(1, 1 << 16)
    given[0, [3, 40_000, 65_535]] = torch.tensor([5.0, 7.0, 6.0])
    assert through(given, 3).topk(3).indices.tolist() == [[40_000, 65_535, 3]]


@pytest.mark.parametrize(("classes", "top"), [(5, 5), (5, 6), ((1 << 16) + 1, 5)])
def test_what_cannot_be_kept_is_refused(classes, top):
    with pytest.raises(ValueError, match=f"classes must be more than top {top} and at most 65,536, but are {classes}"):
        pack_logits(torch.zeros(1, classes), TopLogits(top))


@pytest.mark.parametrize("storage", ["float16", "float32"])
def test_all_logits_are_kept_in_the_type_that_is_asked_for(storage):
    rows = pack_logits(logits(), storage)
    assert rows.dtype == storage
    found = unpack_logits(torch.from_numpy(rows), storage, 60)
    assert torch.equal(found, logits().to(getattr(torch, storage)).float())


def test_only_the_names_of_logits_tell_that_not_all_are_kept():
    for output in (TeacherOutput("attention", 2), TeacherOutput("statistics", 1), EMBEDDING):
        assert record_of("maps-1", TopLogits(4), 3, output) == record_of("maps-1", "float16", 3, output)
    names = {record_of("maps-1", storage, 3, LOGITS) for storage in ("float16", TopLogits(4), TopLogits(5))}
    assert len(names) == 3


def ended(method, splits, cache, storage, **teachers):
    """What a trial comes to: the losses of its epochs, and its student."""
    settings = dataclasses.replace(TINY.teachers, mode="recorded", storage=storage, **teachers)
    trainer = prepared_trainer(dataclasses.replace(TINY, method=method, teachers=settings), splits, cache)
    losses = [trainer.run_epoch()["loss"] for _ in range(TINY.epochs)]
    return losses, copied(trainer.student)


@pytest.mark.parametrize(
    "method",
    [KD, MethodConfig("ctkd", STEP), MethodConfig("ctkd", {**STEP, "step_teacher": "average"})],
    ids=["expert", "scratch", "average"],
)
def test_without_one_logit_a_student_learns_as_with_all_of_them(method, splits, cache):
    # The one that is left out is known by the log-sum of the others.
    whole, without_one, few = (
        ended(method, splits, cache, storage)[0] for storage in ("float16", TopLogits(CLASSES - 1), TopLogits(1))
    )
    assert without_one == pytest.approx(whole, rel=1e-3)
    assert few != pytest.approx(whole, rel=3e-3)


def test_an_expert_that_is_computed_in_the_trial_teaches_as_a_recorded_one(splits, cache, tmp_path):
    recorded = ended(KD, splits, cache, TopLogits(3))
    assert_same_bits(ended(KD, splits, cache, TopLogits(3), cache_limit=0), recorded)


@pytest.mark.parametrize(
    ("name", "values", "softens"),
    [
        ("kd", {}, True),
        ("kd", {"standardised": True}, False),
        ("rco", {}, True),
        ("ctkd", STEP, True),
        ("ctkd", {**STEP, "step_loss": "mse"}, False),
        ("ctkd", {**STEP, "standardised": True}, False),
        ("ctkd", {**STEP, "alpha": 0.0, "step_loss": "mse"}, True),
        ("ctkd", {**STEP, "expert_kd": 1.0}, True),
        ("ctkd", {**STEP, "expert_kd": 1.0, "expert_standardised": True}, False),
        ("scratch-only", {}, True),
        ("dkd", {}, False),
        ("dist", {}, False),
    ],
)
def test_a_method_says_whether_the_largest_logits_suffice(name, values, softens):
    assert make_method(MethodConfig(name, values)).softens_logits is softens


SUFFICED = [
    name for name in methods() if (made := make_method(MethodConfig(name))).softens_logits and made.needs.any_logits
]


@pytest.mark.parametrize("name", SUFFICED)
def test_a_method_for_which_they_suffice_uses_softened_predictions_alone(name, splits, cache):
    settings = dataclasses.replace(TINY.teachers, mode="recorded", storage="float32")
    method = MethodConfig(name, {"anchors": TINY.epochs} if name == "rco" else {})
    trainer = prepared_trainer(dataclasses.replace(TINY, method=method, teachers=settings), splits, cache)
    lesson = next(trainer.teachers.lessons(0))
    # Predictions stay as they are if a number is added to all logits of an image.
    moved = dataclasses.replace(
        lesson,
        scratch_logits=None if lesson.scratch_logits is None else lesson.scratch_logits + 3,
        expert_outputs={key: value + 3 * (key == LOGITS) for key, value in lesson.expert_outputs.items()},
    )
    with torch.no_grad():
        output = StudentOutput(*trainer.step.network(lesson.images))
    terms, others = (trainer.step.method.terms(output, each) for each in (lesson, moved))
    assert terms.keys() == others.keys()
    for key, value in terms.items():
        torch.testing.assert_close(others[key], value, rtol=1e-4, atol=1e-5)


def test_the_storage_is_part_of_a_config_as_a_space_has_it():
    teachers = TeachersConfig(storage=TopLogits(16))
    assert dataclasses.asdict(teachers)["storage"] == {"top": 16}
    assert teachers.kept_mode == "auto top-16"
    assert TeachersConfig().with_kept_mode("recorded top-16").storage == TopLogits(16)
    assert TeachersConfig().with_kept_mode("recorded") == TeachersConfig(mode="recorded")
    assert TeachersConfig().with_kept_mode("live") == TeachersConfig(mode="live")
