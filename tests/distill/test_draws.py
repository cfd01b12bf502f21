"""Networks that draw random numbers while they are trained: what they draw depends on seeds alone."""

import dataclasses

import pytest
import torch
from support.methods import with_values
from support.tiny import CPU, TINY, changed, prepared_trainer, tiny_splits

from ctkd_search.distill.build import make_trainer
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.metrics import CLOCKS

NOISY = """
from torch import nn


def make(classes, channels, image_size):
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(0.3),
        nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes),
    )
"""
METHOD = with_values(TINY.method, attention_layers=(1, 2))
CONFIG = dataclasses.replace(TINY, teacher="noisy_nets:make", student="noisy_nets:make", method=METHOD)

pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(autouse=True)
def _own_code(tmp_path, monkeypatch):
    (tmp_path / "noisy_nets.py").write_text(NOISY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def trained(config, cache, epochs=2, trainer=None):
    """Metrics and weights after some epochs, without what time it took."""
    trainer = trainer or prepared_trainer(config, tiny_splits(), cache)
    kept = [trainer.run_epoch() for _ in range(epochs)]
    metrics = [{name: one[name] for name in one if name not in CLOCKS} for one in kept]
    return metrics, {name: value.clone() for name, value in trainer.student.state_dict().items()}, trainer


def same(first, second):
    return first[0] == second[0] and all(torch.equal(first[1][name], second[1][name]) for name in first[1])


def test_a_recorded_teacher_with_dropout_says_what_the_live_one_says(tmp_path):
    cache = TeacherCache(tmp_path / "teachers")
    live = trained(CONFIG, cache)
    recorded = changed(changed(CONFIG, "teachers.mode", "recorded"), "teachers.storage", "float32")
    assert same(live, trained(recorded, cache))


def test_dropout_depends_on_the_seed_alone_and_leaves_the_global_random_state(tmp_path):
    cache = TeacherCache(tmp_path / "teachers")
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = trained(CONFIG, cache)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same(first, trained(CONFIG, cache))
    assert not same(first, trained(dataclasses.replace(CONFIG, student_seed=5), cache))


def test_a_training_that_goes_on_draws_what_it_would_have_drawn(tmp_path):
    cache = TeacherCache(tmp_path / "teachers")
    whole = trained(CONFIG, cache)
    _, _, half = trained(CONFIG, cache, epochs=1)
    again = make_trainer(CONFIG, tiny_splits(), cache, CPU)
    again.load_state_dict(half.state_dict())
    torch.manual_seed(9)
    metrics, weights, _ = trained(CONFIG, cache, epochs=1, trainer=again)
    assert metrics == whole[0][1:]
    assert all(torch.equal(weights[name], whole[1][name]) for name in weights)
