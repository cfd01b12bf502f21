"""The contract of every method. One that is new in the registry inherits it by its declarations."""

import dataclasses
import io
import subprocess
import sys

import pytest
import torch
from support.classroom import (
    EPOCHS,
    GEOMETRY,
    METHODS,
    PARAMETERS,
    WEIGHTS,
    Classroom,
    defaults,
    other_values,
    outside,
    parameter_of,
    trajectory,
    with_effect,
)
from support.methods import with_values
from support.tiny import CPU, assert_same_bits, copied

from ctkd_search.config import MethodConfig
from ctkd_search.distill import losses
from ctkd_search.distill.engine import place
from ctkd_search.distill.expert import output_of
from ctkd_search.distill.lesson import StudentOutput
from ctkd_search.distill.methods.base import Parameter, make_method, methods
from ctkd_search.distill.requests import Needs, TeacherOutput
from ctkd_search.distill.training_network import TrainingNetwork, own_state
from ctkd_search.errors import UserError
from ctkd_search.models import build
from ctkd_search.models.network import TappedNetwork

pytestmark = pytest.mark.usefixtures("single_thread")


@METHODS
def test_terms_are_finite_scalars_named_as_they_are_logged_and_add_up_to_the_loss(name):
    room = Classroom(defaults(name))
    terms = Classroom(defaults(name)).terms()
    assert terms
    for key, term in terms.items():
        assert key.startswith("loss_")
        assert term.shape == ()
        assert term.dtype == torch.float32
        assert torch.isfinite(term)
    told = room.step()(room.lesson())
    assert told.keys() == {"loss", "train_accuracy", *terms}
    assert told["loss"].item() == pytest.approx(12 * sum(term.item() for term in terms.values()), rel=1e-5)


@METHODS
def test_gradient_reaches_every_parameter_that_is_trained(name):
    room = Classroom(defaults(name))
    # More than one, because a method may choose by chance what a step reaches.
    for number in range(12):
        sum(room.terms(number).values()).backward()
    for key, parameter in room.network.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().max() > 0, key


@METHODS
def test_a_method_has_a_teacher_unless_it_is_declared_to_have_none_or_its_terms_have_no_weight(name):
    method = make_method(defaults(name))
    assert method.has_teacher == (not method.teacherless)
    weights = {item.name: 0.0 for item in method.parameters if item.term}
    # Beside the student of the authors' code, a scratch teacher is trained whatever the weights are.
    if weights and name != "ctkd-as-released":
        assert not make_method(MethodConfig(name, {**method.values, **weights})).has_teacher


@METHODS
def test_nothing_reaches_a_teacher(name):
    room = Classroom(defaults(name))
    before = copied(room.expert)
    lesson = room.lesson()
    said = [*lesson.expert_outputs.values(), *([lesson.scratch_logits] if room.method.needs.scratch else [])]
    for tensor in said:
        tensor.requires_grad_()
    room.network.train()
    sum(room.method.terms(StudentOutput(*room.network(lesson.images)), lesson).values()).backward()
    assert [tensor.grad for tensor in said] == [None] * len(said)
    assert_same_bits(copied(room.expert), before)
    assert not room.expert.training
    held = {parameter.data_ptr() for parameter in room.expert.parameters()}
    assert not any(parameter.data_ptr() in held for parameter in room.network.parameters())
    assert not any(value.data_ptr() in held for value in room.network.state_dict().values())


@METHODS
def test_student_alone_is_what_is_evaluated_and_its_states_know_nothing_else(name):
    room = Classroom(defaults(name))
    step = room.step()
    for number in range(2):
        step(room.lesson(number))
    assert isinstance(step.student, TappedNetwork)
    assert step.student is room.student
    alone = place(build(room.architecture, GEOMETRY, seed=9), CPU)
    alone.load_state_dict(step.state_dict()["student"])
    images = room.lesson(5).images
    assert torch.equal(alone.eval()(images)[0], step.student.eval()(images)[0])
    if isinstance(room.network, TrainingNetwork):
        assert room.network.student is room.student
        assert not any(key.startswith("student.") for key in own_state(room.network, room.student))


@METHODS
def test_a_kept_state_goes_on_bit_for_bit(name):
    whole, first = Classroom(defaults(name)), Classroom(defaults(name))
    step, before = whole.step(), first.step()
    for epoch in range(2):
        step.begin_epoch(epoch, EPOCHS)
        last = [step(whole.lesson(number))["loss"].item() for number in range(3)]
    before.begin_epoch(0, EPOCHS)
    for number in range(3):
        before(first.lesson(number))
    file = io.BytesIO()
    torch.save(before.state_dict(), file)
    file.seek(0)
    # Another student, in another process say.
    other = Classroom(defaults(name), seed=7)
    after = other.step()
    after.load_state_dict(torch.load(file, weights_only=True))
    after.begin_epoch(1, EPOCHS)
    assert [after(other.lesson(number))["loss"].item() for number in range(3)] == last
    assert_same_bits(copied(after.network), copied(step.network))


@METHODS
def test_a_step_that_begins_again_is_a_new_one(name):
    used, fresh = Classroom(defaults(name)), Classroom(defaults(name), seed=3)
    step = used.step()
    for number in range(2):
        step(used.lesson(number))
    step.restart(Classroom(defaults(name), seed=3).step())
    expected = fresh.step()
    for number in range(2):
        assert step(used.lesson(number))["loss"].item() == expected(fresh.lesson(number))["loss"].item()
    assert_same_bits(copied(step.network), copied(expected.network))


@METHODS
def test_numbers_in_tensors_give_the_same_terms(name):
    plain, tensors = Classroom(defaults(name)), Classroom(defaults(name))
    tensors.method.numbers_to(CPU)
    for epoch in range(EPOCHS):
        for room in (plain, tensors):
            room.method.begin_epoch(epoch, EPOCHS)
        expected = plain.terms()
        for key, term in tensors.terms().items():
            torch.testing.assert_close(term, expected[key], rtol=1e-5, atol=1e-7)
    assert all(isinstance(getattr(tensors.method, key), torch.Tensor) for key in tensors.method.number_names())


@METHODS
def test_only_what_was_asked_for_is_looked_at(name):
    room = Classroom(defaults(name))
    needs = room.method.needs
    assert len(set(needs.expert)) == len(needs.expert)
    for output in needs.expert:
        lesson = room.lesson()
        fewer = {other: said for other, said in lesson.expert_outputs.items() if other != output}
        with pytest.raises((KeyError, TypeError)):
            room.method.terms(
                StudentOutput(*room.network(lesson.images)), dataclasses.replace(lesson, expert_outputs=fewer)
            )
    if needs.scratch:
        lesson = dataclasses.replace(room.lesson(), scratch_logits=None)
        with pytest.raises(TypeError, match="lacks the scratch teacher's logits"):
            room.method.terms(StudentOutput(*room.network(lesson.images)), lesson)


@pytest.mark.parametrize(("name", "key"), WEIGHTS)
def test_a_weight_of_zero_switches_its_term_off(name, key):
    parameter, config = parameter_of(name, key), with_effect(name, key)
    own = config.values[key]
    on, half, off = (Classroom(with_values(config, **{key: weight})).terms() for weight in (own, own / 2, 0.0))
    assert parameter.term not in off
    assert on[parameter.term].item() != 0
    assert half[parameter.term].item() == pytest.approx(on[parameter.term].item() / 2, rel=1e-4)
    before, after = (make_method(with_values(config, **{key: weight})).needs for weight in (own, 0.0))
    assert (after | before) == before


@pytest.mark.parametrize(("name", "key"), PARAMETERS)
def test_every_declared_parameter_changes_the_loss(name, key):
    config, parameter = with_effect(name, key), parameter_of(name, key)
    expected = trajectory(config)
    others = other_values(parameter, config.values[key])
    assert others
    for value in others:
        assert parameter.fault(value) is None
        found = trajectory(with_values(config, **{key: value}))
        assert [sum(terms.values()) for terms in found] != pytest.approx(
            [sum(terms.values()) for terms in expected], rel=1e-6
        ), value


@pytest.mark.parametrize(("name", "key"), PARAMETERS)
def test_parameter_has_no_effect_exactly_where_it_is_declared_to_have_none(name, key):
    parameter = parameter_of(name, key)
    for other, allowed in parameter.only_with.items():
        config = with_values(with_effect(name, key), **{other: outside(allowed, parameter_of(name, other))})
        expected = trajectory(config)
        assert all(
            trajectory(with_values(config, **{key: value})) == expected
            for value in other_values(parameter, config.values[key])
        )


@pytest.mark.parametrize(("name", "key"), PARAMETERS)
def test_default_keeps_the_parameter_s_own_rule(name, key):
    parameter = parameter_of(name, key)
    assert parameter.fault(parameter.default) is None
    assert parameter.help
    assert parameter.source
    assert set(parameter.only_with) <= {other.name for other in methods()[name].parameters}


@pytest.mark.parametrize(("name", "key"), PARAMETERS)
def test_methods_of_the_same_structure_differ_in_numbers_alone(name, key):
    config, parameter = with_effect(name, key), parameter_of(name, key)
    one = make_method(config)
    for value in other_values(parameter, config.values[key]):
        other = make_method(with_values(config, **{key: value}))
        assert (one.structure() == other.structure()) == (parameter.kind == "float")
        if parameter.kind == "float":
            one.take_numbers(other)
            assert (getattr(one, key), one.values) == (value, other.values)


@METHODS
def test_a_method_says_what_it_is(name):
    method = methods()[name]
    assert method.summary
    assert not method.summary.endswith(".")
    assert method.paper == "" or method.paper.startswith("arXiv ")
    assert all(baseline.values.keys() <= defaults(name).values.keys() for baseline in method.baselines)
    made = make_method(MethodConfig(name))
    assert made.values == defaults(name).values
    assert all(sentence.endswith(".") for sentence in made.describe())
    assert make_method(made.canonical()).canonical() == made.canonical()


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
        make_method(MethodConfig("magic"))
    with pytest.raises(
        TypeError, match="kd takes temperature, weight, standardised, standardised_factor, but got magic"
    ):
        make_method(MethodConfig("kd", {"magic": 1}))


def test_what_either_of_two_methods_needs():
    one = Needs(True, (TeacherOutput("logits"), TeacherOutput("attention", 2)), anchors=(0.5,))
    other = Needs(False, (TeacherOutput("attention", 2), TeacherOutput("features", 1)), True, (1.0,))
    both = Needs(
        True,
        (TeacherOutput("logits"), TeacherOutput("attention", 2), TeacherOutput("features", 1)),
        network=True,
        anchors=(0.5, 1.0),
    )
    assert one | other == both
    assert (Needs().any_expert, one.any_expert, Needs(network=True).any_expert) == (False, True, True)
    assert both.attention == (2,)


def test_what_the_expert_is_asked_for_has_the_shape_that_is_promised():
    logits, maps = torch.randn(5, 10), [torch.randn(5, 16, 8, 8), torch.randn(5, 32, 4, 4)]
    shapes = {
        ("logits", 0): (5, 10),
        ("attention", 2): (5, 16),
        ("statistics", 2): (5, 2, 32),
        ("features", 1): (5, 16, 8, 8),
        ("embedding", 0): (5, 7),
    }
    embedding = torch.randn(5, 7).bfloat16()
    for (kind, layer), shape in shapes.items():
        said = output_of(TeacherOutput(kind, layer), logits, [features.bfloat16() for features in maps], embedding)
        assert (said.dtype, tuple(said.shape)) == (torch.float32, shape)
    found = losses.channel_statistics(maps[0]).numpy()
    flat = maps[0].numpy().reshape(5, 16, 64)
    assert found[:, 0] == pytest.approx(flat.mean(axis=2), abs=1e-5)
    assert found[:, 1] == pytest.approx(flat.var(axis=2), rel=1e-4)


def test_parameters_and_needs_are_known_without_torch():
    script = (
        "import sys; from ctkd_search.config import MethodConfig; "
        "from ctkd_search.distill.methods.base import make_method, methods; "
        "[(make_method(MethodConfig(n)).needs, m.parameters) for n, m in methods().items()]; "
        "print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
