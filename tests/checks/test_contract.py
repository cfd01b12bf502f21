"""The contract of methods: every one of the package keeps it, and each mistake in one's own is told in a line."""

import inspect

import pytest
from support import own_methods
from support.classroom import METHODS, PAIRS

from ctkd_search.checks.contract import CONTRACT, ESSENTIALS, contract_faults
from ctkd_search.cli import main
from ctkd_search.config import MethodConfig
from ctkd_search.distill.methods.base import make_method
from ctkd_search.models import describe
from ctkd_search.space.reader import space_of

pytestmark = pytest.mark.usefixtures("single_thread")


def first_config(method):
    """The first trial of a method, of a pair that it can teach."""
    made = make_method(MethodConfig(method))
    pair = next("/".join(pair) for pair in PAIRS if made.fault(*map(describe, pair)) is None)
    search = {"pair": pair, "method": method, "lr": {"float": [0.01, 0.1]}}
    space = space_of({"name": "x", "dataset": {"name": "digits"}, "budget": {"epochs": 6}, "search": search})
    return space.pair_configs(method)[0], space.geometry


def broken(method):
    """The point that a method breaks, and its faults."""
    found = list(contract_faults(*first_config(method), CONTRACT))
    assert all(faults == [] for _, faults in found[:-1])
    return found[-1]


@METHODS
def test_every_method_of_the_package_keeps_the_contract(name):
    assert dict(contract_faults(*first_config(name), CONTRACT)) == {point: [] for point in CONTRACT}


@pytest.mark.parametrize("name", ["Right", "Alone", "Draws"])
def test_ones_own_method_keeps_it_too(name):
    found = dict(contract_faults(*first_config(f"support.own_methods:{name}"), CONTRACT))
    assert found == {point: [] for point in CONTRACT}


@pytest.mark.parametrize(
    ("name", "point", "fault"),
    [
        ("NoTerms", 0, "terms must return a dict with a term at least, but returned {}"),
        ("BadName", 0, "a term's name must begin with loss_, under which it is logged, but got 'ce'"),
        ("NotSingle", 0, "term loss_ce must be a float32 tensor of no dimension, but is torch.float32 of shape (8,)"),
        ("NotANumber", 0, "term loss_ce is nan"),
        ("Breaks", 0, "terms of support.own_methods:Breaks fails with RuntimeError: mat1 and mat2 shapes"),
        ("NotAsked", 0, "LookupError: it reads the expert's logits, which needs does not name"),
        ("Constant", 1, "no gradient reaches the student: no term depends on its outputs"),
        ("InPart", 1, "which would be trained"),
        ("BadGradient", 1, "is not finite, with images of noise and untrained networks"),
        (
            "InPlace",
            1,
            "its loss fails with RuntimeError: one of the variables needed for gradient computation has been modified",
        ),
        ("InPlace", 1, "; compute a new tensor instead of changing one in place"),
        ("KeepsTheGraph", 8, "its loss fails with RuntimeError: Trying to backward through the graph a second time"),
        ("KeepsTheGraph", 8, "; use .detach() on what is kept for later steps"),
        ("IntoTheTeacher", 2, "a gradient flows into the expert's logits; use .detach()"),
        ("AsksTooMuch", 3, "needs names the expert's attention of layer 2, which terms does not use"),
        ("AsksTooMuch", 3, "needs names the scratch teacher, which terms does not use"),
        (
            "NotSoftened",
            4,
            "softens_logits is True, but the largest logits alone, as a recording may keep them, do not",
        ),
        ("Looks", 5, "TypeError: a number of the method is looked at; branch on self.values instead"),
        ("Idle", 6, "parameter depth has no effect on the loss or its gradient (2, 4, 3)"),
        ("NotSwitchedOff", 7, "term loss_distance is there although its weight weight is 0; leave it out then"),
        ("DrawsElsewhere", 8, "a trial that is interrupted goes on otherwise than one that is not"),
        ("Counts", 8, "draw with torch, and keep what changes in modules or buffers of the training network"),
    ],
)
def test_each_mistake_is_told_in_a_line(name, point, fault):
    at, faults = broken(f"support.own_methods:{name}")
    assert at == list(CONTRACT)[point]
    assert any(fault in each for each in faults), faults
    assert all("\n" not in each for each in faults)


@pytest.mark.parametrize("name", ["Breaks", "NotAsked", "Looks"])
def test_an_error_is_told_with_the_user_s_file_and_line(name):
    _, [fault] = broken(f"support.own_methods:{name}")
    lines, first = inspect.getsourcelines(getattr(own_methods, name))
    file, _, line = fault.rpartition("(")[2].removesuffix(")").rpartition(", line ")
    assert file == own_methods.__file__
    assert first < int(line) < first + len(lines)


def test_an_error_of_the_machine_is_no_fault_of_the_method():
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        broken("support.own_methods:OutOfMemory")


def test_the_command_prints_each_point_and_ends_at_the_first_that_is_broken(capsys):
    assert main(["check-method", "support.own_methods:Right", "--pair", "wrn-10-1/resnet8"]) == 0
    printed = capsys.readouterr().out
    assert [line[6:] for line in printed.splitlines() if line.startswith("  ok  ")] == list(CONTRACT)
    assert main(["check-method", "support.own_methods:IntoTheTeacher"]) == 2
    out, err = capsys.readouterr()
    assert out.splitlines()[-2:] == [
        f"  no  {list(ESSENTIALS)[-1]}",
        "      a gradient flows into the expert's logits; use .detach()",
    ]
    assert err == "ctkd-search: support.own_methods:IntoTheTeacher cannot be used before this is mended\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["magic"], "unknown method 'magic'; there are: none, "),
        (["nowhere:Magic"], "there is no module 'nowhere' in the working directory"),
        (["kd", "--pair", "resnet8"], "--pair must be TEACHER/STUDENT"),
        (["kd", "--pair", "resnet8/x"], "--pair resnet8/x: unknown architecture 'x'"),
        (["iakd", "--pair", "resnet20/wrn-16-1"], ""),
    ],
)
def test_a_method_or_a_pair_that_cannot_be_is_refused(words, said, capsys):
    assert main(["check-method", *words]) == (2 if said else 0)
    assert said in capsys.readouterr().err


FAULTY = """\
name: x
dataset: {name: digits}
budget: {trials: 3, epochs: 2}
search:
  pair: wrn-10-1/resnet8
  method: support.own_methods:IntoTheTeacher
  lr: {float: [0.01, 0.1]}
"""


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_space_with_a_method_that_breaks_it_is_refused_before_anything_is_trained(command, call_here):
    code, said = call_here(FAULTY, command)
    assert code == 2
    assert (
        "line 6: search.method support.own_methods:IntoTheTeacher cannot be used with wrn-10-1/resnet8: a gradient "
        "flows into the expert's logits; use .detach()"
    ) in " ".join(said.split())
