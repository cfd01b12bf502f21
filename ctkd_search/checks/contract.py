"""The contract of a method, checked on noise before anything is trained; every method of this package keeps it.

Teachers and student are untrained networks of a pair, and a lesson is a few images of noise: enough to see what a
method reads, what its terms are, and what its gradient reaches.
"""

from __future__ import annotations

import copy
import dataclasses
import io
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ctkd_search.checks.rehearsal import CPU, Rehearsal, shown
from ctkd_search.checks.rehearsal import loss as total
from ctkd_search.checks.rehearsal import terms as rehearsed
from ctkd_search.config import TrialConfig
from ctkd_search.distill.engine import drawing
from ctkd_search.distill.lesson import Lesson
from ctkd_search.distill.methods.base import Method, Parameter
from ctkd_search.distill.methods.parameter import allows
from ctkd_search.distill.methods.setting import Setting
from ctkd_search.distill.requests import LOGITS, TeacherOutput
from ctkd_search.distill.step import StudentStep
from ctkd_search.distill.top_logits import pack_logits, unpack_logits
from ctkd_search.errors import MACHINE_SIGNS, UserError
from ctkd_search.fields import Range
from ctkd_search.geometry import Geometry
from ctkd_search.plugins import describe_error
from ctkd_search.space.effects import setting_of
from ctkd_search.storage import TopLogits

# A method may choose by chance what a step uses.
_STEPS = 12
# Relative difference of two losses below which they are the same.
_SAME = 1e-6
_LAYERS = ((1,), (2,), (1, 2), (2, 3))
# Advice for errors of the backward pass.
_GRAPH_ADVICE = {
    "inplace operation": "compute a new tensor instead of changing one in place",
    "a second time": "use .detach() on what is kept for later steps",
}


class _Number(Tensor):
    """A number as a captured step has it: its value is not known to Python."""

    def _refused(self, *_: Any) -> Any:
        raise TypeError("a number of the method is looked at; branch on self.values instead, or set captured = False")

    __bool__ = __float__ = __int__ = __index__ = item = tolist = _refused


Faults = Iterator[str]
Point = Callable[[Rehearsal], Faults]


def _terms_are_numbers(at: Rehearsal) -> Faults:
    method = at.method()
    found = rehearsed(at.step(method), at.lesson(method))
    if not isinstance(found, dict) or not found:
        yield f"terms must return a dict with a term at least, but returned {found!r:.80}"
        return
    for name, term in found.items():
        if not isinstance(name, str) or not name.startswith("loss_"):
            yield f"a term's name must begin with loss_, under which it is logged, but got {name!r}"
        elif not isinstance(term, Tensor) or term.shape != () or term.dtype != torch.float32:
            shape = f"{term.dtype} of shape {tuple(term.shape)}" if isinstance(term, Tensor) else repr(term)
            yield f"term {name} must be a float32 tensor of no dimension, but is {shape:.80}"
        elif not torch.isfinite(term):
            yield f"term {name} is {term.item()}, with images of noise and untrained networks"


def _gradient_arrives(at: Rehearsal) -> Faults:
    method = at.method()
    step, lesson = at.step(method), at.lesson(method)
    for _ in range(_STEPS):
        loss = total(rehearsed(step, lesson))
        if not loss.requires_grad:
            yield "no gradient reaches the student: no term depends on its outputs"
            return
        loss.backward()
        missed = [name for name, item in step.network.named_parameters() if item.requires_grad and _none(item.grad)]
        if not missed:
            break
    else:
        rest = f" and {len(missed) - 1} more" if len(missed) > 1 else ""
        yield f"no gradient reaches {missed[0]}{rest}, which would be trained"
    broken = [name for name, item in step.network.named_parameters() if item.grad is not None and _not_finite(item)]
    if broken:
        yield f"the gradient of {broken[0]} is not finite, with images of noise and untrained networks"


def _none(gradient: Tensor | None) -> bool:
    return gradient is None or not bool(gradient.count_nonzero())


def _not_finite(item: Tensor) -> bool:
    return item.grad is not None and not bool(torch.isfinite(item.grad).all())


def _teachers_are_left_alone(at: Rehearsal) -> Faults:
    method = at.method()
    expert = at.expert()
    before = copy.deepcopy(expert.state_dict())
    step, lesson = at.step(method, expert), at.lesson(method)
    said = {shown(output): tensor for output, tensor in lesson.expert_outputs.items()}
    if lesson.scratch_logits is not None:
        said["the scratch teacher's logits"] = lesson.scratch_logits
    if lesson.average_logits is not None:
        said["the logits of the scratch teacher's running average"] = lesson.average_logits
    for tensor in said.values():
        tensor.requires_grad_()
    loss = total(rehearsed(step, lesson))
    if loss.requires_grad:
        loss.backward()
    yield from (
        f"a gradient flows into {name}; use .detach()" for name, tensor in said.items() if tensor.grad is not None
    )
    held = {item.data_ptr() for item in expert.parameters()}
    if any(item.data_ptr() in held for item in step.network.parameters()):
        yield "the expert's network is trained with the student; hold it in a Frozen"
    if expert.training:
        yield "the expert's network is in training mode; hold it in a Frozen"
    if any(not torch.equal(value, before[name]) for name, value in expert.state_dict().items()):
        yield "the expert's weights or statistics change"


def _needs_are_used(at: Rehearsal) -> Faults:
    method = at.method()
    needs = method.needs
    for output in needs.expert:
        if not _depends(at, lambda lesson, output=output: _without(lesson, output)):  # type: ignore[misc]
            yield f"needs names {shown(output)}, which terms does not use; every trial would record it"
    if needs.scratch and not _depends(at, lambda lesson: dataclasses.replace(lesson, scratch_logits=None)):
        yield "needs names the scratch teacher, which terms does not use; it would be trained for nothing"
    if needs.average and not _depends(at, lambda lesson: dataclasses.replace(lesson, average_logits=None)):
        yield "needs names the scratch teacher's running average, which terms does not use; every trial would record it"


def _without(lesson: Lesson, output: TeacherOutput) -> Lesson:
    kept = {other: said for other, said in lesson.expert_outputs.items() if other != output}
    return dataclasses.replace(lesson, expert_outputs=kept)


def _depends(at: Rehearsal, without: Callable[[Lesson], Lesson]) -> bool:
    """Returns whether a method fails on a lesson that lacks something."""
    method = at.method()
    step, lesson = at.step(method), without(at.lesson(method))
    try:
        for _ in range(_STEPS):
            rehearsed(step, lesson)
    except (UserError, LookupError, TypeError):
        return True
    return False


def _largest_logits_suffice(at: Rehearsal) -> Faults:
    method = at.method()
    if not (method.softens_logits and method.needs.any_logits):
        return
    try:
        loss = total(rehearsed(at.step(method), _with_kept_logits(at.lesson(method))))
    except UserError as error:
        yield f"softens_logits is True, but the largest logits alone, as a recording may keep them, do not do: {error}"
        return
    if not torch.isfinite(loss):
        yield f"softens_logits is True, but with the largest logits alone the loss is {loss.item()}"


def _with_kept_logits(lesson: Lesson) -> Lesson:
    """Returns a lesson with half of the logits of each teacher, and the others as if equal."""

    def kept(logits: Tensor | None) -> Any:
        if logits is None:
            return None
        storage = TopLogits(logits.shape[1] // 2)
        return unpack_logits(torch.from_numpy(pack_logits(logits, storage)), storage)

    outputs = {output: kept(said) if output == LOGITS else said for output, said in lesson.expert_outputs.items()}
    scratch, average = kept(lesson.scratch_logits), kept(lesson.average_logits)
    return dataclasses.replace(lesson, scratch_logits=scratch, average_logits=average, expert_outputs=outputs)


def _numbers_are_not_looked_at(at: Rehearsal) -> Faults:
    method, plain = at.method(), at.method()
    if not method.captured or not method.number_names():
        return
    step, other, lesson = at.step(method), at.step(plain), at.lesson(method)
    for name in method.number_names():
        setattr(method, name, torch.tensor(float(getattr(method, name))).as_subclass(_Number))
    for each in (method, plain):
        each.begin_epoch(0, at.config.epochs)
    for name in method.number_names():
        if not isinstance(getattr(method, name), Tensor):
            yield f"begin_epoch assigns {name}; use set_number, which keeps it where a captured step reads it"
            return
    found, expected = (_drawn(each, lesson) for each in (step, other))
    if not math.isclose(found, expected, rel_tol=1e-4, abs_tol=1e-6):
        yield f"the loss is {found:.6g} where its numbers are tensors, as on a GPU, and {expected:.6g} elsewhere"


def _drawn(step: StudentStep, lesson: Lesson) -> float:
    """Returns the loss of a lesson, with the random numbers that every call has."""
    with drawing(CPU, 0):
        return total(rehearsed(step, lesson)).as_subclass(Tensor).item()


def _parameters_have_an_effect(at: Rehearsal) -> Faults:
    setting = setting_of(at.pair, at.geometry, at.config.epochs)
    for parameter in at.method().parameters:
        values = _with_effect(at.method(), parameter)
        if values is None or parameter.name in at.method(**values).idle(setting):
            continue
        own = at.method(**values).values[parameter.name]
        others = list(_other_values(parameter, own, at.method(**values), setting))
        if others and not any(_differs(at, values, {**values, parameter.name: value}) for value in others):
            tried = ", ".join(dict.fromkeys(map(_text, (own, *others))))
            yield (
                f"parameter {parameter.name} has no effect on the loss or its gradient ({tried}); use it, declare with "
                "only_with where it has one, or leave it out"
            )


def _with_effect(method: Method, parameter: Parameter) -> dict[str, Any] | None:
    """Returns the values that give a parameter an effect, as it is declared; None where none are found."""
    values = dict(method.values)
    known = {item.name: item for item in method.parameters}
    waiting = [parameter]
    while waiting:
        for other, allowed in waiting.pop().only_with.items():
            if not allows(allowed, values[other]):
                values[other] = _inside(allowed)
            if known[other].fault(values[other]):
                return None
            waiting.append(known[other])
    if parameter.kind == "float" and not values[parameter.name]:
        values[parameter.name] = 0.5  # of a weight of 0, no other parameter has an effect
    return None if parameter.fault(values[parameter.name]) else values


def _inside(allowed: tuple[Any, ...] | Range) -> Any:
    """Returns a value among those allowed."""
    if not isinstance(allowed, Range):
        return allowed[0]
    return (allowed.low + (allowed.low + 2 if allowed.high is None else allowed.high)) / 2


def _other_values(parameter: Parameter, own: Any, method: Method, setting: Setting) -> Iterator[Any]:
    """Yields other values of a parameter that the pair allows."""
    if parameter.kind == "choice":
        tried: Any = parameter.choices
    elif parameter.kind == "layers":
        tried = _LAYERS
    elif parameter.range is not None and parameter.range.high == 1:
        tried = (0.3, 0.8)
    else:
        tried = (own * 2, own + 1, own + 0.5)
    for value in tried:
        if value == own or parameter.fault(value):
            continue
        made = type(method)(**{**method.values, parameter.name: value})
        faulty = made.fault(setting.teacher, setting.student) or made.epochs_fault(setting.epochs)
        faulty = faulty or made.setting_fault(setting)
        if not faulty and parameter.name not in made.idle(setting):
            yield value


def _differs(at: Rehearsal, values: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Returns whether two settings of a method have other needs, another loss or another gradient in some epoch."""
    if at.method(**values).needs != at.method(**others).needs:
        return True
    for epoch in at.epochs():
        for one, two in zip(_course(at, values, epoch), _course(at, others, epoch), strict=True):
            if not math.isclose(one, two, rel_tol=_SAME, abs_tol=1e-9):
                return True
    return False


def _course(at: Rehearsal, values: Mapping[str, Any], epoch: int) -> Iterator[float]:
    """Yields the losses of a few steps of an epoch, and the size of the gradient of the last."""
    method = at.method(**values)
    step, lesson = at.step(method), at.lesson(method)
    method.begin_epoch(epoch, at.config.epochs)
    losses = []
    with drawing(CPU, epoch):
        losses += [total(rehearsed(step, lesson)) for _ in range(_STEPS)]
        losses[-1].backward()
    yield from (loss.item() for loss in losses)
    yield sum(item.grad.abs().sum().item() for item in step.student.parameters() if item.grad is not None)


def _weights_of_zero_switch_off(at: Rehearsal) -> Faults:
    for parameter in at.method().parameters:
        values = _with_effect(at.method(), parameter) if parameter.term else None
        if values is None or parameter.fault(0.0):
            continue
        on, off = at.method(**values), at.method(**{**values, parameter.name: 0.0})
        if parameter.term not in rehearsed(at.step(on), at.lesson(on)):
            yield f"parameter {parameter.name} weighs {parameter.term}, which is not among the terms"
        elif parameter.term in rehearsed(at.step(off), at.lesson(off)):
            yield f"term {parameter.term} is there although its weight {parameter.name} is 0; leave it out then"
        if (on.needs | off.needs) != on.needs:
            yield f"with {parameter.name} of 0 it needs more than with another weight"


def _goes_on_after_an_interruption(at: Rehearsal) -> Faults:
    advice = "draw with torch, and keep what changes in modules or buffers of the training network"
    whole, first, after = (at.step(at.method()) for _ in range(3))
    lesson = at.lesson(at.method())
    _epoch(first, lesson, 0)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    try:
        state = torch.load(file, weights_only=True)
    except Exception:  # of the pickle module, for anything that is no plain data
        yield f"its state holds more than tensors and plain values; {advice}"
        return
    after.load_state_dict(state)
    _epoch(whole, lesson, 0)
    found, expected = (_epoch(step, lesson, 1) for step in (after, whole))
    if not all(math.isclose(one, two, rel_tol=1e-5) for one, two in zip(found, expected, strict=True)):
        yield f"a trial that is interrupted goes on otherwise than one that is not; {advice}"


def _epoch(step: StudentStep, lesson: Lesson, epoch: int) -> list[float]:
    """Trains a few steps; returns their losses."""
    step.begin_epoch(epoch, 2, 3)
    with drawing(CPU, epoch):
        return [step(lesson)["loss"].item() for _ in range(3)]


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


# The points of the contract; the later ones hold where the first ones do.
ESSENTIALS: Mapping[str, Point] = {
    "its terms are named, single and finite numbers": _terms_are_numbers,
    "its gradient reaches all that is trained": _gradient_arrives,
    "no gradient reaches a teacher": _teachers_are_left_alone,
}
CONTRACT: Mapping[str, Point] = {
    **ESSENTIALS,
    "it uses what it needs": _needs_are_used,
    "it softens logits alone, if it says so": _largest_logits_suffice,
    "its numbers are not looked at, so that a step can be captured on a GPU": _numbers_are_not_looked_at,
    "each of its parameters has an effect": _parameters_have_an_effect,
    "a weight of 0 switches its term off": _weights_of_zero_switch_off,
    "an interrupted trial goes on as if it had not been": _goes_on_after_an_interruption,
}


def contract_faults(
    config: TrialConfig, geometry: Geometry, points: Mapping[str, Point]
) -> Iterator[tuple[str, list[str]]]:
    """Yields points of the contract with their faults, up to the first point that has one.

    Args:
        config: The config of a trial, with the method and the pair.
        geometry: The images.
        points: `CONTRACT`, or a part of it.
    """
    rehearsal = Rehearsal(config, geometry)
    for name, point in points.items():
        try:
            faults = list(point(rehearsal))
        except UserError as error:
            faults = [str(error)]
        except Exception as error:  # of the backward pass, which may go through code of the method's own
            if any(sign in str(error) for sign in MACHINE_SIGNS):
                raise
            advice = next((f"; {advice}" for sign, advice in _GRAPH_ADVICE.items() if sign in str(error)), "")
            faults = [f"its loss fails with {describe_error(error)}{advice}"]
        yield name, faults
        if faults:
            return
