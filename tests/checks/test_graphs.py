"""Students that cannot be exported as a graph are refused before anything is trained."""

import re
from pathlib import Path

import pytest
import torch
from support.factories import a_space, write_space

from ctkd_search.checks.networks import graph_fault
from ctkd_search.checks.refusals import refuse_config
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry

pytestmark = pytest.mark.usefixtures("single_thread")
DIGITS = Geometry(10, 1, 8)
OWN = "support.own_nets"
ADVICE = "its code must compute with torch alone, and branch neither on the values of images nor on their number"
# Networks that look at what a graph cannot know, and what torch says of each.
FAULTY = {
    "branching": r"Could not guard on data-dependent expression .* \(.*own_nets.py, line \d+\)",
    "counting": r"Constraints violated \(batch\)!",
    "elsewhere": r"\.numpy\(\) is not supported for tensor subclasses \(.*own_nets.py, line \d+\)",
}


@pytest.mark.parametrize(("factory", "why"), FAULTY.items(), ids=FAULTY.keys())
def test_a_student_that_is_no_graph_is_told_in_a_line_with_the_place_in_its_code(capfd, factory, why):
    before = torch.get_rng_state()
    found = graph_fault(f"{OWN}:{factory}", DIGITS)
    assert re.fullmatch(f"{OWN}:{factory} cannot be exported as a graph: {why}; {ADVICE}", found)
    assert capfd.readouterr() == ("", "")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("factory", ["plain", "noisy", "two_heads", "refuses_meta", "plain+taps=second|third"])
def test_a_student_that_is_one_is_not_refused(factory):
    assert graph_fault(f"{OWN}:{factory}", DIGITS) is None


@pytest.mark.usefixtures("own_directory")
def test_check_and_run_refuse_it_at_its_line_and_print_no_graph(call):
    search = {"pair": f"wrn-10-1/{OWN}:branching", "lr": {"float": [0.01, 0.1]}}
    write_space(Path("space.yaml"), search=search)
    for words in (("check", "space.yaml", "--no-measure"), ("run", "space.yaml")):
        code, _, err = call(*words)
        assert code == 2
        (said,) = [line for line in err.splitlines() if "cannot be exported as a graph" in line]
        assert re.match(rf"  line \d+: search.pair wrn-10-1/{OWN}:branching: {OWN}:branching cannot be exp", said)
        assert "def forward(" not in err
    assert not Path("trials/x").exists()


def test_a_final_training_refuses_it_too(tmp_path):
    (config,) = a_space(search={"pair": f"wrn-10-1/{OWN}:branching", "lr": {"float": [0.01, 0.1]}}).pair_configs()
    with pytest.raises(UserError, match=rf"^pair: {OWN}:branching cannot be exported as a graph: "):
        refuse_config(config, 1, DIGITS, 100, tmp_path)


def test_a_teacher_need_be_no_graph(tmp_path):
    (config,) = a_space(search={"pair": f"{OWN}:branching/resnet8", "lr": {"float": [0.01, 0.1]}}).pair_configs()
    refuse_config(config, 1, DIGITS, 100, tmp_path)
