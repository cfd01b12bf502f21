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


def test_ones_own_network_is_searched_trained_to_the_end_and_served_without_its_code(tmp_path):
    (tmp_path / "my_nets.py").write_text(OWN)
    search = {"pair": "wrn-10-1/my_nets:make", "attention_layers": [1, 2], "lr": {"float": [0.01, 0.1]}}
    searched(tmp_path, command_alone, dataset={"name": "digits", "validation": 0.5}, search=search)
    command_alone("export", "other", "-o", "best.yaml", cwd=tmp_path)
    assert "test accuracy" in command_alone("train", "best.yaml", cwd=tmp_path)
    command_alone("export", "other", "--format", "torch", "-o", "student.pt2", cwd=tmp_path)
    (tmp_path / "my_nets.py").unlink()
    script = (
        "import torch; graph = torch.export.load('student.pt2').module(); "
        "print(graph(torch.zeros(2, 8, 8, 1, dtype=torch.uint8)).shape)"
    )
    ended = Process((), script, directory=tmp_path, stdout=PIPE, stderr=STDOUT)
    assert "torch.Size([2, 10])" in ended.communicate()[0]
