"""Searches with networks that were made elsewhere: of torchvision and timm on photographs, and a user's own."""

import pytest
from support import here
from support.factories import write_space
from support.processes import PIPE, STDOUT, Process, run_alone

from ctkd_search.records.store import SearchFolder

pytestmark = pytest.mark.slow
OWN = """
from torch import nn


def make(classes, channels, image_size):
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes),
    )
"""


# A method that has the attention of CTKD and no more, so that every trial has that term.
OWN_METHOD = """
from ctkd_search.distill import losses
from ctkd_search.distill.methods import Method, Needs, Parameter, Range, TeacherOutput

ATTENTION = TeacherOutput("attention", 2)


class Own(Method):
    summary = "the expert's attention at one layer"
    parameters = (Parameter("weight", 5.0, "weight of the attention", range=Range(0), term="loss_attention"),)

    @property
    def needs(self):
        return Needs(expert=(ATTENTION,) if self.values["weight"] > 0 else ())

    def terms(self, output, lesson):
        terms = {"loss_ce": losses.cross_entropy(output.logits, lesson)}
        if self.values["weight"] > 0:
            attention = losses.attention(output.maps[1], lesson.expert_outputs[ATTENTION].detach())
            terms["loss_attention"] = self.weight * attention
        return terms
"""


def command(*words, cwd):
    ended = here.command(*words, directory=cwd, whole=False)
    assert ended.code == 0, ended.said
    return ended.out


def command_alone(*words, cwd):
    """A command in a process of its own, which has nothing of the user's code from before."""
    code, said = run_alone(*words, directory=cwd)
    assert code == 0, said
    return said


def searched(directory, command=command, **space):
    """Runs a search of two trials; returns them."""
    space = {
        "budget": {"trials": 2, "epochs": 2, "grace_period": 2},
        "train": {"batch_size": 32},
        "teachers": {"recipe": {"batch_size": 32, "lr": 0.05}},
        "resources": {"concurrent_trials": 1},
        **space,
    }
    write_space(directory / "space.yaml", name="other", **space)
    here.fresh_store(directory / "trials" / "mlflow.db")
    command("run", "space.yaml", cwd=directory)
    trials = SearchFolder(directory / "trials", "other").trials()
    assert [trial.status for trial in trials] == ["finished"] * 2
    assert all(trial.epochs[-1]["loss_attention"] > 0 for trial in trials)
    return trials


def test_a_student_of_timm_learns_photographs_from_a_teacher_of_torchvision(cifar_jpeg, tmp_path):
    pair = "torchvision/resnet18 -> timm/mobilenetv3_small_050"
    searched(
        tmp_path,
        dataset={"name": "folder", "root": str(cifar_jpeg), "image_size": 32, "validation": 0.2},
        search={"pair": pair, "attention_layers": {"subsets": [2, 3]}, "lr": {"float": [0.01, 0.1]}},
    )
    command("export", "other", "-o", "best.yaml", cwd=tmp_path)
    assert "on 80 images" in command("train", "best.yaml", cwd=tmp_path)
    command("export", "other", "--format", "torch", "-o", "student.pt2", cwd=tmp_path)
    said = command("predict", "student.pt2", cifar_jpeg / "test", cwd=tmp_path)
    assert "airplane" in said


def test_ones_own_network_and_method_are_searched_trained_to_the_end_and_served_without_their_code(tmp_path):
    (tmp_path / "my_nets.py").write_text(OWN)
    (tmp_path / "my_methods.py").write_text(OWN_METHOD)
    search = {
        "pair": "wrn-10-1/my_nets:make",
        "method": {"choice": ["ctkd", "my_methods:Own"]},
        "attention_layers": [1, 2],
        "my_methods:Own": {"weight": {"float": [1, 10]}},
        "lr": {"float": [0.01, 0.1]},
    }
    teachers = {"recipe": {"batch_size": 32, "lr": 0.05}, "expert": {"ensemble": 2}}
    space = {"dataset": {"name": "digits", "validation": 0.5}, "teachers": teachers, "search": search}
    trials = searched(tmp_path, command_alone, **space)
    assert list(SearchFolder(tmp_path / "trials", "other").search().experts) == ["wrn-10-1"]
    kept = [path.name.partition("-")[0] for path in (tmp_path / "trials" / "teachers").iterdir() if path.is_dir()]
    assert sorted(kept) == ["maps", "teacher", "teacher"]
    assert sorted(trial.method for trial in trials) == ["ctkd", "my_methods:Own"]
    assert list(SearchFolder(tmp_path / "trials", "other").search().code) == ["my_methods:Own"]
    own = next(trial for trial in trials if trial.method != "ctkd")
    command_alone("export", "other", "--trial", str(own.number), "-o", "own.yaml", cwd=tmp_path)
    assert "my_methods:Own" in (tmp_path / "own.yaml").read_text()
    assert "test accuracy" in command_alone("train", "own.yaml", cwd=tmp_path)
    command_alone("export", "other", "--format", "torch", "-o", "student.pt2", cwd=tmp_path)
    # Another method would learn on under the same name.
    (tmp_path / "my_methods.py").write_text(OWN_METHOD + "\n")
    code, said = run_alone("run", "space.yaml", "--trials", "3", directory=tmp_path)
    assert (code, "my_methods:Own: its file has changed" in said) == (2, True), said
    (tmp_path / "my_methods.py").unlink()
    code, said = run_alone("show", "other", directory=tmp_path)
    assert (code, "there is no module 'my_methods'" in said) == (2, True), said
    (tmp_path / "my_nets.py").unlink()
    script = (
        "import torch; graph = torch.export.load('student.pt2').module(); "
        "print(graph(torch.zeros(2, 8, 8, 1, dtype=torch.uint8)).shape)"
    )
    ended = Process((), script, directory=tmp_path, stdout=PIPE, stderr=STDOUT)
    assert "torch.Size([2, 10])" in ended.communicate()[0]
