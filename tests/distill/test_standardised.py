"""Standardised logits: z-scores against NumPy, and that every method that softens logits softens those."""

import numpy as np
import pytest
import torch
from support.classroom import Classroom
from support.methods import with_values
from support.oracles import draw, numpy_kl
from test_dkd import numpy_parts

from ctkd_search.config import MethodConfig
from ctkd_search.distill.lesson import Lesson, StudentOutput
from ctkd_search.distill.logit_losses import standardised
from ctkd_search.distill.methods.base import make_method, methods
from ctkd_search.distill.requests import LOGITS
from ctkd_search.geometry import Geometry
from ctkd_search.space.distributions import Constant
from ctkd_search.space.effects import baseline_fault, setting_of, trial_faults

pytestmark = pytest.mark.usefixtures("single_thread")

STUDENT, SCRATCH, EXPERT = draw(7, 10), draw(7, 10, seed=1), draw(7, 10, seed=2)
LABELS = np.random.default_rng(3).integers(10, size=7)


def scores(logits):
    """Z-scores as in the authors' code, whose deviation divides by classes - 1."""
    return (logits - logits.mean(axis=1, keepdims=True)) / (logits.std(axis=1, ddof=1, keepdims=True) + 1e-7)


def terms(name, values, student=STUDENT, epoch=None):
    lesson = Lesson(
        torch.zeros(7, 1, 8, 8), torch.tensor(LABELS), torch.tensor(SCRATCH), {LOGITS: torch.tensor(EXPERT)}
    )
    method = make_method(MethodConfig(name, values))
    method.begin_epoch(3 if epoch is None else epoch, 4)
    return method.terms(StudentOutput(torch.as_tensor(student), [], None), lesson)


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_each_image_s_logits_have_mean_0_and_deviation_1(classes, scale):
    logits = scale * draw(6, classes)
    found = standardised(torch.tensor(logits)).numpy()
    assert found == pytest.approx(scores(logits), rel=1e-9, abs=1e-12)
    assert found.std(axis=1, ddof=1) == pytest.approx(np.ones(6), rel=1e-3)


def test_gradient_is_that_of_finite_differences_and_finite_for_equal_logits():
    weights = torch.tensor(draw(4, 5, seed=4))
    logits = torch.tensor(draw(4, 5), requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: (weights * standardised(z)).sum(), logits)
    equal = torch.full((2, 5), 3.0, requires_grad=True)
    found = standardised(equal)
    found.pow(2).sum().backward()
    assert (found.detach() == 0).all()
    assert torch.isfinite(equal.grad).all()


LESSONS = {
    "kd": ({"temperature": 2.0, "weight": 0.9}, "loss_kd", lambda: 9 * numpy_kl(scores(STUDENT), scores(EXPERT), 2.0)),
    "rco": (
        {"temperature": 3.0, "weight": 0.5, "standardised_factor": 4.0},
        "loss_kd",
        lambda: 2 * numpy_kl(scores(STUDENT), scores(EXPERT), 3.0),
    ),
    "fitnets": (
        {"training": "stages", "temperature": 2.0, "weight": 0.9, "hint_layers": (1,)},
        "loss_kd",
        lambda: 9 * numpy_kl(scores(STUDENT), scores(EXPERT), 2.0),
    ),
    "dkd": (
        {"temperature": 2.0, "beta": 3.0},
        "loss_others",
        lambda: 3 * 4 * numpy_parts(scores(STUDENT), scores(EXPERT), LABELS, 2.0)[1].mean(),
    ),
    "ctkd": (
        {"temperature": 2.0, "alpha": 0.5, "beta": 0.0},
        "loss_step",
        lambda: 0.5 * numpy_kl(scores(STUDENT), scores(SCRATCH), 2.0),
    ),
    "scratch-only": (
        {"temperature": 2.0, "alpha": 0.5},
        "loss_step",
        lambda: 0.5 * numpy_kl(scores(STUDENT), scores(SCRATCH), 2.0),
    ),
    "expert-only": (
        {"beta": 0.0, "expert_kd": 0.3, "expert_temperature": 5.0},
        "loss_expert",
        lambda: 0.3 * numpy_kl(scores(STUDENT), scores(EXPERT), 5.0),
    ),
}


def switch(name):
    return "expert_standardised" if name == "expert-only" else "standardised"


def lesson_terms(name, **more):
    values, key, expected = LESSONS[name]
    if name == "fitnets":
        # Only the second stage is looked at; its hints need networks.
        method = make_method(MethodConfig(name, {**values, **more}))
        return {"loss_kd": method.weight * method.divergence(torch.tensor(STUDENT), torch.tensor(EXPERT))}[
            key
        ], expected
    return terms(name, {**values, **more})[key], expected


@pytest.mark.parametrize("name", LESSONS)
def test_the_divergence_is_that_of_the_z_scores_of_both(name):
    found, expected = lesson_terms(name, **{switch(name): True})
    assert found.item() == pytest.approx(expected(), rel=1e-9)


@pytest.mark.parametrize("name", sorted(LESSONS.keys() - {"fitnets"}))
def test_neither_scale_nor_shift_of_the_student_s_logits_changes_it(name):
    values, key, _ = LESSONS[name]
    on = {**values, switch(name): True}
    moved = 7 * STUDENT + np.arange(7)[:, None]
    assert terms(name, on, moved)[key].item() == pytest.approx(terms(name, on)[key].item(), rel=1e-6)
    assert terms(name, values, moved)[key].item() != pytest.approx(terms(name, values)[key].item(), rel=1e-2)


def test_branches_of_teskd_are_compared_by_z_scores():
    room = Classroom(MethodConfig("teskd", {"standardised": True, "temperature": 2.0}))
    output = StudentOutput(*room.network(room.lesson().images))
    own, branches = output.logits.detach().numpy(), [branch.detach().numpy() for branch in output.more.logits]
    expected = 0.8 * sum(numpy_kl(scores(branch), scores(own), 2.0) for branch in branches)
    found = room.method.terms(output, room.lesson())["loss_distill"]
    assert found.item() == pytest.approx(expected, rel=1e-4)


def test_the_step_loss_of_squared_distances_has_no_standardised_logits():
    for name in ("ctkd", "scratch-only"):
        parameters = {item.name: item for item in methods()[name].parameters}
        assert parameters["standardised"].only_with["step_loss"] == ("kl",)


def test_it_is_off_everywhere_and_the_baseline_has_the_authors_settings():
    for name, method in methods().items():
        for parameter in method.parameters:
            if parameter.name.endswith("standardised"):
                assert parameter.default is False, name
    (baseline,) = (one for one in methods()["kd"].baselines if one.name == "kd-standardised")
    made = make_method(MethodConfig("kd", dict(baseline.values)))
    # 0.1 CE + 9 KL at temperature 2 of z-scores.
    assert made.weight * made.standardised_factor == pytest.approx(9.0)
    assert (made.temperature, 1 - made.weight, made.values["standardised"]) == (2.0, pytest.approx(0.1), True)
    (plain,) = (one for one in methods()["kd"].baselines if one.name == "kd")
    assert plain.values == {"standardised": False}


@pytest.mark.parametrize("name", ["kd", "dkd", "ctkd", "expert-only", "teskd"])
def test_two_classes_have_no_standardised_logits(name):
    key = switch(name)
    config = MethodConfig(name, {key: True, **({"expert_kd": 1.0} if name == "expert-only" else {})})
    two, three = (setting_of("wrn-16-1/resnet8", Geometry(classes, 1, 8), 4) for classes in (2, 3))
    assert make_method(config).setting_fault(two).startswith(f"{key} must be false for two classes")
    assert make_method(config).setting_fault(three) is None
    assert make_method(with_values(config, **{key: False})).setting_fault(two) is None
    # Where it has no effect anyway, it is no fault.
    if name == "ctkd":
        assert make_method(with_values(config, step_loss="mse")).setting_fault(two) is None
    fault = baseline_fault(make_method(config), "wrn-16-1/resnet8", Geometry(2, 1, 8), 4)
    assert fault == f"cannot be used with wrn-16-1/resnet8: {make_method(config).setting_fault(two)}"
    entries = {"pair": Constant("wrn-16-1/resnet8"), "method": Constant(name)}
    prefix = "" if name == "ctkd" else f"{name}."
    entries |= {prefix + key: Constant(value) for key, value in config.values.items()}
    assert list(trial_faults(entries, Geometry(2, 1, 8), 4)) == [prefix + key]
    assert trial_faults(entries, Geometry(3, 1, 8), 4) == {}


def test_the_divergence_of_two_classes_would_have_no_gradient():
    student = torch.tensor(draw(6, 2), requires_grad=True)
    values = {"standardised": True}
    lesson = Lesson(torch.zeros(6), torch.zeros(6, dtype=torch.long), None, {LOGITS: torch.tensor(draw(6, 2, seed=1))})
    term = make_method(MethodConfig("kd", values)).terms(StudentOutput(student, []), lesson)["loss_kd"]
    term.backward()
    assert student.grad.abs().max().item() < 1e-5
