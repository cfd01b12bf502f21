"""Recordings of the largest logits alone: their rows, the divergence from them, and the students that they teach."""

import dataclasses

import numpy as np
import pytest
import torch
from support.tiny import TINY, assert_same_bits, copied, prepared_trainer

from ctkd_search.config import MethodConfig, TeachersConfig
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.lesson import StudentOutput
from ctkd_search.distill.losses import softened_divergence
from ctkd_search.distill.methods.base import make_method, methods
from ctkd_search.distill.recorded import record_of
from ctkd_search.distill.requests import EMBEDDING, LOGITS, TeacherOutput
from ctkd_search.distill.top_logits import pack_logits, unpack_logits
from ctkd_search.storage import MapForm, TopLogits, logit_bytes

pytestmark = pytest.mark.usefixtures("single_thread")
CLASSES = 10
KD = MethodConfig("kd", {"temperature": 4.0, "weight": 0.9})
STEP = {"step_loss": "kl", "temperature": 4.0, "alpha": 0.5, "beta": 0.0}


def logits(images=40, classes=60, spread=3.0):
    return spread * torch.randn(images, classes, generator=torch.Generator().manual_seed(0))


def kept(given, top):
    return unpack_logits(torch.from_numpy(pack_logits(given, TopLogits(top))), TopLogits(top))


def merged(given, chosen):
    """The log predictions of some classes, and of all others as one, by the definition and in float64."""
    whole = given.double().log_softmax(1)
    others = torch.ones_like(whole).scatter(1, chosen, 0).bool()
    return torch.cat([whole.gather(1, chosen), whole.masked_fill(~others, -torch.inf).logsumexp(1, keepdim=True)], 1)


@pytest.mark.parametrize("top", [1, 5, 16, 59])
def test_the_largest_logits_are_kept_with_their_classes(top):
    found, (values, classes) = kept(logits(), top), logits().topk(top, dim=1)
    assert torch.equal(found.classes, classes)
    assert torch.equal(found.values, values.half().float())


@pytest.mark.parametrize(
    ("temperature", "tolerance"), [(1.0, 6e-3), (1.5, 0.04), (4.0, 0.04), (20.0, 5e-3), (1e4, 1e-3)]
)
@pytest.mark.parametrize("top", [4, 16, 59])
def test_softened_predictions_of_the_kept_classes_are_known_at_every_temperature(top, temperature, tolerance):
    found = kept(logits(), top)
    expected = merged(logits() / temperature, found.classes)
    torch.testing.assert_close(found.softened(temperature, 60).double(), expected, rtol=0, atol=tolerance)
    torch.testing.assert_close(found.softened(torch.tensor(temperature), 60), found.softened(temperature, 60))


def test_below_a_temperature_of_one_the_share_of_the_others_falls():
    found = kept(logits(), 4)
    shares = [found.softened(temperature, 60)[:, -1].exp().mean() for temperature in (1.0, 0.5, 0.25)]
    assert shares[0] > shares[1] > shares[2] > 0


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_divergence_is_that_of_predictions_in_which_the_others_are_equal(temperature):
    student = logits(spread=1.0).flip(0).requires_grad_()
    found = softened_divergence(student, kept(logits(), 8), temperature)
    whole = (logits().double() / temperature).softmax(1)
    threshold = whole.topk(8, dim=1).values[:, -1:]
    others = whole < threshold
    given = torch.where(others, (whole * others).sum(1, keepdim=True) / 52, whole)
    own = (student.double() / temperature).log_softmax(1)
    expected = temperature**2 * (given * (given.log() - own)).sum(1).mean()
    assert found.item() == pytest.approx(expected.item(), rel=0.03)
    gradients = [torch.autograd.grad(loss, student)[0] for loss in (found, expected)]
    assert (gradients[0] - gradients[1]).norm() < 0.03 * gradients[1].norm()


def test_softened_predictions_come_nearer_with_each_logit_that_is_kept():
    given, student = logits(), logits(spread=1.0).flip(0).requires_grad_()

    def gradient(teacher):
        return torch.autograd.grad(softened_divergence(student, teacher, 4.0), student)[0]

    whole = gradient(given)
    errors = [(gradient(kept(given, top)) - whole).norm() / whole.norm() for top in (1, 4, 16, 32, 59)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.05
    assert errors[-1] < 2e-3


def test_a_student_that_gives_the_share_of_the_others_to_one_of_them_is_told_so():
    given = logits(classes=200, spread=1.0)
    teacher, largest = kept(given, 16), given.argmin(dim=1, keepdim=True)
    student = given.scatter(1, largest, 12.0).requires_grad_()
    gradient = torch.autograd.grad(softened_divergence(student, teacher, 4.0), student)[0]
    assert (gradient.gather(1, largest) > 0).all()


def test_a_copy_is_of_its_own_memory():
    one, other = kept(logits(), 4), kept(logits().flip(0), 4)
    copy = one.clone()
    copy.copy_(other)
    assert torch.equal(copy.softened(2.0, 60), other.softened(2.0, 60))
    assert not torch.equal(one.softened(2.0, 60), other.softened(2.0, 60))
    assert one.detach() is one


def test_a_row_takes_four_bytes_for_each_logit_and_six_for_the_others():
    rows = pack_logits(logits(7), TopLogits(16))
    assert (rows.dtype, rows.shape) == (np.int16, (7, 35))
    assert rows.nbytes == 7 * logit_bytes(TopLogits(16), 60) == 7 * 70


def test_classes_beyond_the_range_of_a_signed_number_are_kept():
    given = torch.zeros(1, 1 << 16)
    given[0, [3, 40_000, 65_535]] = torch.tensor([5.0, 7.0, 6.0])
    assert kept(given, 3).classes.tolist() == [[40_000, 65_535, 3]]


@pytest.mark.parametrize(("classes", "top"), [(5, 5), (5, 6), ((1 << 16) + 1, 5)])
def test_what_cannot_be_kept_is_refused(classes, top):
    with pytest.raises(ValueError, match=f"classes must be more than top {top} and at most 65,536, but are {classes}"):
        pack_logits(torch.zeros(1, classes), TopLogits(top))


@pytest.mark.parametrize("storage", ["float16", "float32"])
def test_all_logits_are_kept_in_the_type_that_is_asked_for(storage):
    rows = pack_logits(logits(), storage)
    assert rows.dtype == storage
    found = unpack_logits(torch.from_numpy(rows), storage)
    assert torch.equal(found, logits().to(getattr(torch, storage)).float())


def test_only_the_names_of_logits_tell_that_not_all_are_kept():
    for output in (TeacherOutput("attention", 2), TeacherOutput("statistics", 1), EMBEDDING):
        assert record_of("maps-1", TopLogits(4), MapForm(), 3, output) == record_of(
            "maps-1", "float16", MapForm(), 3, output
        )
    names = {record_of("maps-1", storage, MapForm(), 3, LOGITS) for storage in ("float16", TopLogits(4), TopLogits(5))}
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
    # The one that is left out is known by what the others come to.
    whole, without_one, few = (
        ended(method, splits, cache, storage)[0] for storage in ("float16", TopLogits(CLASSES - 1), TopLogits(1))
    )
    assert without_one == pytest.approx(whole, rel=1e-3)
    assert few != pytest.approx(whole, rel=3e-3)


def test_an_expert_that_is_computed_in_the_trial_teaches_as_a_recorded_one(splits, cache, tmp_path):
    recorded = ended(KD, splits, cache, TopLogits(3))
    # In another cache, where nothing is recorded and nothing may be.
    empty = TeacherCache(tmp_path / "another")
    assert_same_bits(ended(KD, splits, empty, TopLogits(3), cache_limit=0), recorded)
    assert empty.index.size("maps") == 0


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
    assert dataclasses.asdict(TeachersConfig(storage=TopLogits(16)))["storage"] == {"top": 16}
