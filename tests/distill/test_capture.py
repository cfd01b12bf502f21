"""Captured steps around their capture, where streams and graphs are played by the CPU."""

import contextlib
import sys
import types

import pytest
import torch
from support.tiny import CPU, TINY, changed, prepare_teachers

from ctkd_search.config import MethodConfig
from ctkd_search.distill import losses, step
from ctkd_search.distill.build import make_trainer
from ctkd_search.distill.methods import Method, Needs
from ctkd_search.distill.step import CapturedStep, GraphMemory, StepPool

pytestmark = pytest.mark.usefixtures("single_thread", "played")
WAITS = "called a synchronizing CUDA operation"


class Drawing(Method):
    """A user's method whose loss depends on random numbers; it waits for the device, where that is noticed."""

    summary = "the labels, and noise"
    waits = False
    noticed = False

    @property
    def needs(self):
        return Needs()

    def terms(self, output, lesson):
        if self.waits and Drawing.noticed:
            raise RuntimeError(WAITS)
        return {"loss_ce": losses.cross_entropy(output.logits, lesson) * (0.5 + torch.rand(()))}


class Waiting(Drawing):
    waits = True


class Stream:
    def wait_stream(self, other):
        pass


@contextlib.contextmanager
def noticing():
    Drawing.noticed = True
    try:
        yield
    finally:
        Drawing.noticed = False


@pytest.fixture
def played(monkeypatch):
    """Streams that are none, graphs whose replay is the work itself, and a step that is always captured."""
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "set_stream", lambda _: None)
    monkeypatch.setattr(step, "_no_waiting", noticing)
    monkeypatch.setattr(GraphMemory, "capture", lambda _, work: types.SimpleNamespace(replay=work))

    def captured(network, method, recipe, device, memory=None, class_weights=None):
        return CapturedStep(network, method, recipe, device, memory or GraphMemory(), class_weights)

    monkeypatch.setattr("ctkd_search.distill.build.make_step", captured)
    monkeypatch.setitem(sys.modules, "drawn", types.SimpleNamespace(Drawing=Drawing, Waiting=Waiting))


def trained(name, splits, cache, pool=None, plain=False):
    """The losses of a training by a method of this file, and its trainer."""
    config = changed(TINY, "method", MethodConfig(f"drawn:{name}", {}))
    prepare_teachers(config, splits, cache)
    trainer = make_trainer(config, splits, cache, CPU, steps=pool)
    if plain:
        trainer.step._refused = "for comparison"
    return [trainer.run_epoch()["loss"] for _ in range(config.epochs)], trainer


def test_a_users_method_that_waits_for_the_gpu_is_not_captured_and_trains_as_a_plain_one(splits, cache):
    losses, trainer = trained("Waiting", splits, cache)
    assert trainer.step._graph is None
    (note,) = trainer.notes()
    assert WAITS in note
    assert losses == trained("Waiting", splits, cache, plain=True)[0]


def test_a_trial_draws_the_same_numbers_whether_its_step_is_captured_in_it_or_was_before(splits, cache):
    pool = StepPool()
    first, trainer = trained("Drawing", splits, cache, pool)
    second, again = trained("Drawing", splits, cache, pool)
    assert trainer.step is again.step
    assert trainer.step._graph is not None
    assert first == second == trained("Drawing", splits, cache, plain=True)[0]
