"""Every method on a real GPU: epochs as on the CPU, and the captured step as the plain one."""

import pytest
import torch
from support.classroom import METHODS
from support.tiny import CPU, changed, prepare_teachers, tiny_splits
from test_fake_cuda import config_of, variants

from ctkd_search.distill.build import make_trainer, teacher_runs
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.recording import prepare
from ctkd_search.distill.step import CapturedStep
from ctkd_search.metrics import ON_REQUEST

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.usefixtures("single_thread"),
]
CUDA = torch.device("cuda")


@pytest.fixture(scope="module")
def images():
    return tiny_splits(48, 30)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return TeacherCache(tmp_path_factory.mktemp("teachers"))


def epochs_on(config, images, kept, device, captured=True):
    found = make_trainer(config, images, kept, device)
    if not captured and isinstance(found.step, CapturedStep):
        found.step._refused = "for comparison"
    told = [found.run_epoch() for _ in range(config.epochs)]
    return found, told


@METHODS
def test_a_method_learns_on_a_gpu_as_on_the_cpu(name, images, kept):
    # Live teachers are trained along on the device too.
    for number, values in enumerate(variants(name)):
        config = config_of(values, "recorded" if number == 0 else "live")
        config = changed(changed(config, "train.precision", "float32"), "teachers.recipe.precision", "float32")
        prepare_teachers(config, images, kept)
        _, expected = epochs_on(config, images, kept, CPU)
        found, told = epochs_on(config, images, kept, CUDA)
        _, uncaptured = epochs_on(config, images, kept, CUDA, captured=False)
        assert [note for note in found.notes() if "graph" in note] == []
        assert told[0]["loss"] == pytest.approx(uncaptured[0]["loss"], rel=1e-3)
        assert told[0]["loss"] == pytest.approx(expected[0]["loss"], rel=2e-2)
        assert {f"validation_{key}" for key in ON_REQUEST} <= told[-1].keys()


@METHODS
def test_the_loss_of_a_method_is_finite_in_bfloat16(name, images, kept):
    values = next(variants(name))
    config = config_of(values, "recorded")
    prepare_teachers(config, images, kept)
    _, told = epochs_on(config, images, kept, CUDA)
    assert all(torch.isfinite(torch.tensor(epoch["loss"])) for epoch in told)


def test_teachers_are_trained_and_recorded_on_a_gpu(images, tmp_path):
    cache = TeacherCache(tmp_path)
    config = config_of(next(variants("ctkd")), "recorded")
    needs = make_method(config.method).needs
    for run, storage in teacher_runs(config, images.fingerprint, CUDA, needs, len(images.train)).items():
        told = list(prepare(run, images, cache, CUDA, storage))
        assert told[-1].done
    _, told = epochs_on(config, images, cache, CUDA)
    assert len(told) == config.epochs


def test_a_trial_goes_on_from_its_state_on_a_gpu(images, kept):
    config = config_of(next(variants("ctkd")), "recorded")
    prepare_teachers(config, images, kept)
    _, told = epochs_on(config, images, kept, CUDA)
    first = make_trainer(config, images, kept, CUDA)
    first.run_epoch()
    second = make_trainer(config, images, kept, CUDA)
    second.load_state_dict(first.state_dict())
    assert second.run_epoch()["loss"] == pytest.approx(told[1]["loss"], rel=1e-2)
