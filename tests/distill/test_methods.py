"""The contract of every method. One that is new in the registry inherits it by its parameters' defaults."""

import dataclasses
import subprocess
import sys

import pytest
import torch

from ctkd_search.config import Range
from ctkd_search.distill.losses import attention_map
from ctkd_search.distill.methods.base import LOGITS, Parameter, make_method, methods
from ctkd_search.distill.teachers import Lesson
from ctkd_search.errors import UserError
from ctkd_search.models import Geometry, build

pytestmark = pytest.mark.usefixtures("single_thread")

GEOMETRY = Geometry(10, 1, 8)
METHODS = pytest.mark.parametrize("name", sorted(methods()))
PARAMETERS = [(name, parameter.name) for name, method in sorted(methods().items()) for parameter in method.parameters]
OTHER_VALUES = {"layers": ((1,), (2, 3), (3, 1))}


def defaults(name):
    return {"name": name, **{parameter.name: parameter.default for parameter in methods()[name].parameters}}


def parameter_of(name, key) -> Parameter:
    return next(parameter for parameter in methods()[name].parameters if parameter.name == key)


def other_values(parameter):
    if parameter.kind == "choice":
        return [choice for choice in parameter.choices if choice != parameter.default]
    if parameter.kind in OTHER_VALUES:
        return OTHER_VALUES[parameter.kind]
    return [value for value in (parameter.default * 2, parameter.default / 2) if parameter.fault(value) is None]


def outside(allowed, parameter):
    """A value of a parameter that is not among those allowed."""
    if isinstance(allowed, Range):
        return allowed.low
    return next(choice for choice in parameter.choices if choice not in allowed)


def classroom():
    """A student and a batch, with all that teachers can say about it."""
    student, teacher = build("resnet8", GEOMETRY, seed=0), build("wrn-10-1", GEOMETRY, seed=1)
    images = torch.randn(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    logits, maps = teacher(images)
    said = {layer: attention_map(features).detach() for layer, features in enumerate(maps, start=1)}
    said[LOGITS] = teacher(images + 0.1)[0].detach()
    return student, Lesson(images, torch.arange(12) % 10, logits.detach(), said)


def as_needed(lesson, method):
    """The lesson with nothing but what the method says that it needs."""
    return dataclasses.replace(
        lesson,
        scratch_logits=lesson.scratch_logits if method.needs_scratch else None,
        expert_says={layer: lesson.expert_says[layer] for layer in method.expert_layers},
    )


def terms_of(values):
    """The terms of a method's loss for a lesson that holds what it needs, as numbers."""
    student, lesson = classroom()
    method = make_method(values)
    return {key: term.item() for key, term in method.terms(*student(lesson.images), as_needed(lesson, method)).items()}


@METHODS
def test_terms_are_finite_scalars_named_as_they_are_logged(name):
    student, lesson = classroom()
    method = make_method(defaults(name))
    terms = method.terms(*student(lesson.images), as_needed(lesson, method))
    assert terms
    for key, term in terms.items():
        assert key.startswith("loss_")
        assert term.shape == ()
        assert torch.isfinite(term)


@METHODS
def test_gradient_reaches_every_parameter_of_the_student(name):
    student, lesson = classroom()
    method = make_method(defaults(name))
    sum(method.terms(*student(lesson.images), as_needed(lesson, method)).values()).backward()
    for key, parameter in student.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().max() > 0, key


@METHODS
def test_no_gradient_reaches_what_the_teachers_said(name):
    student, lesson = classroom()
    method = make_method(defaults(name))
    lesson = as_needed(lesson, method)
    said = [*lesson.expert_says.values(), *([lesson.scratch_logits] if method.needs_scratch else [])]
    for tensor in said:
        tensor.requires_grad_()
    sum(method.terms(*student(lesson.images), lesson).values()).backward()
    assert [tensor.grad for tensor in said] == [None] * len(said)


@METHODS
def test_only_layers_that_were_asked_for_are_looked_at(name):
    student, lesson = classroom()
    method = make_method(defaults(name))
    logits, maps = student(lesson.images)
    hidden = [features if layer in method.expert_layers else None for layer, features in enumerate(maps, start=1)]
    assert method.terms(logits, hidden, as_needed(lesson, method)) == method.terms(
        logits, maps, as_needed(lesson, method)
    )


@pytest.mark.parametrize(("name", "key"), PARAMETERS)
def test_every_declared_parameter_changes_the_loss(name, key):
    values, parameter = defaults(name), parameter_of(name, key)
    expected = sum(terms_of(values).values())
    for value in other_values(parameter):
        assert parameter.fault(value) is None
        assert sum(terms_of(values | {key: value}).values()) != pytest.approx(expected, rel=1e-6), value


@pytest.mark.parametrize(("name", "key"), PARAMETERS)
def test_parameter_has_no_effect_exactly_where_it_is_declared_to_have_none(name, key):
    parameter = parameter_of(name, key)
    for other, allowed in parameter.only_with.items():
        values = defaults(name)
        assert values[other] in allowed
        values[other] = outside(allowed, parameter_of(name, other))
        assert all(terms_of(values | {key: value}) == terms_of(values) for value in other_values(parameter))


@pytest.mark.parametrize(("name", "key"), PARAMETERS)
def test_default_keeps_the_parameter_s_own_rule(name, key):
    parameter = parameter_of(name, key)
    assert parameter.fault(parameter.default) is None
    assert parameter.help
    assert set(parameter.only_with) <= {other.name for other in methods()[name].parameters}


@METHODS
def test_numbers_out_of_range_are_answered_with_the_rule_and_the_value(name):
    for parameter in methods()[name].parameters:
        if parameter.kind in {"float", "int"}:
            below = [] if parameter.range is None else [parameter.range.low - 1]
            for value in (*below, float("nan"), float("inf"), True, "1"):
                assert repr(value) in parameter.fault(value)


@pytest.mark.parametrize("value", [(), (0, 1), (1, 1), [1.0], (True,), 1, "12", None])
def test_layers_that_are_no_list_of_different_numbers_are_refused(value):
    parameter = Parameter("layers", (1,), "", kind="layers")
    assert repr(value) in parameter.fault(value)
    assert parameter.fault([3, 1]) is None


def test_unknown_method_is_answered_with_the_methods_there_are():
    with pytest.raises(UserError, match=f"unknown method 'magic'; there are: {', '.join(methods())}"):
        make_method({"name": "magic"})


def test_parameters_are_known_without_torch():
    script = (
        "import sys; from ctkd_search.distill.methods.base import methods; "
        "print([m.parameters for m in methods().values()] and sorted({'torch', 'numpy'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
