"""Methods of one's own: what they declare is checked when they are loaded, and their errors are told in a line."""

import pytest
import torch
from support.own_methods import Right

from ctkd_search.config import MethodConfig
from ctkd_search.distill.lesson import Lesson, StudentOutput
from ctkd_search.distill.methods import LOGITS
from ctkd_search.distill.methods.base import make_method, method_class, methods
from ctkd_search.errors import UserError

RIGHT = "support.own_methods:Right"


def test_it_is_known_by_its_reference_and_the_same_class_each_time():
    found = method_class(RIGHT)
    assert found is method_class(RIGHT)
    assert issubclass(found, Right)
    assert (found.name, found.summary, found.__doc__) == (RIGHT, Right.summary, Right.__doc__)
    assert RIGHT not in methods()
    assert not hasattr(Right, "name")
    assert found.sources() == {"your own code": ["weight", "norm"]}


def test_it_computes_what_its_class_does():
    logits, expert = torch.randn(6, 4), torch.randn(6, 4)
    lesson = Lesson(torch.zeros(6, 1, 8, 8), torch.arange(6) % 4, None, {LOGITS: expert})
    made = make_method(MethodConfig(RIGHT, {"weight": 2.0, "norm": "l1"}))
    found = made.terms(StudentOutput(logits, []), lesson)
    assert found["loss_distance"].item() == pytest.approx(2 * (logits - expert).abs().mean().item())
    assert made.canonical() == MethodConfig(RIGHT, {"weight": 2.0, "norm": "l1"})
    assert make_method(MethodConfig(RIGHT, {"weight": 0.0})).canonical() == MethodConfig(RIGHT, {"weight": 0.0})


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("NOT_A_METHOD", "must be a class derived from ctkd_search.distill.methods.Method, but is 7"),
        ("Lacking", "it lacks needs and terms, which every method defines"),
        ("NoSummary", "summary must be its description in a line"),
        ("BadDefault", "parameter weight has a default that it does not allow: it must be at least 0, but got -1.0"),
        ("Twice", "parameter weight is declared twice"),
        ("Taken", "parameter needs has the name of an attribute of the class; choose another name"),
        ("NoHelp", "parameter weight needs a help, one line that says what it is"),
        ("OneChoice", "parameter form must have at least two choices, but has 1"),
        ("WithAnother", "parameter weight has an effect only with other, which is no parameter of the method"),
        ("NoLayer", "needs names the attention of layer 0; layers count from 1"),
        ("NoKind", "needs names a teacher output 'thoughts'; there are: logits, "),
        ("NeedsNothingKnown", "needs must return Needs, but returned None"),
        ("FailingNeeds", "needs of support.own_methods:FailingNeeds fails with KeyError: 'absent'"),
        ("Absent", "has no 'Absent'"),
    ],
)
def test_a_fault_of_what_it_declares_is_told_when_it_is_loaded(name, fault):
    with pytest.raises(UserError) as refused:
        make_method(MethodConfig(f"support.own_methods:{name}"))
    assert fault in str(refused.value)


def test_errors_of_the_machine_stay_what_they_are():
    made = make_method(MethodConfig(RIGHT))

    class Full(dict):
        def __getitem__(self, key):
            raise RuntimeError("CUDA out of memory")

    lesson = Lesson(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]), None, Full())
    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        made.terms(StudentOutput(torch.zeros(2, 4), []), lesson)
    broken = Lesson(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]), None, {LOGITS: torch.zeros(3, 5)})
    with pytest.raises(UserError, match=r"terms of .*:Right fails with RuntimeError: .*own_methods.py, line \d+"):
        made.terms(StudentOutput(torch.zeros(2, 4), []), broken)
