"""Every method on a real GPU: epochs as on the CPU, and the captured step as the plain one."""

import dataclasses

import numpy as np
import pytest
import torch
from support.augmented import AUGMENTED
from support.classroom import METHODS
from support.tiny import CPU, changed, prepare_teachers, tiny_splits
from test_fake_cuda import config_of, variants

from ctkd_search.config import Jitter
from ctkd_search.data import Images
from ctkd_search.data.stream import Normalise, Stream
from ctkd_search.distill.build import make_trainer, teacher_runs
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.recording import prepare
from ctkd_search.distill.step import CapturedStep, StepPool
from ctkd_search.metrics import ON_REQUEST
from ctkd_search.recipe import Recipe

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.usefixtures("single_thread"),
]
CUDA = torch.device("cuda")
CAPTURED = {
    "sgd": Recipe(lr=0.02, nesterov=True, schedule="cosine", warmup=0.5, decay="weights", clip=0.5, average=0.7),
    "adam": Recipe(lr=0.002, optimizer="adam", schedule="linear", label_smoothing=0.1),
    "adamw": Recipe(lr=0.002, optimizer="adamw", warmup=1, clip=0.5, average=1),
}
PLAIN = {
    "lion": Recipe(lr=0.0005, optimizer="lion", schedule="constant", cooldown=0.5, decay="weights"),
    "muon": Recipe(lr=0.01, optimizer="muon", milestones=(0.5,), average=0.7),
}
RECIPES = {
    name: dataclasses.replace(recipe, batch_size=16, precision="float32")
    for name, recipe in {**CAPTURED, **PLAIN}.items()
}


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


def trained_by(recipe, augment=None):
    """CTKD in float32 with a student's recipe, from teachers that are recorded."""
    config = config_of(next(variants("ctkd")), "recorded")
    config = changed(changed(config, "train", recipe), "teachers.recipe.precision", "float32")
    return dataclasses.replace(config, augment=augment or config.augment)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_on_a_gpu_as_on_the_cpu(name, images, kept):
    config = trained_by(RECIPES[name])
    prepare_teachers(config, images, kept)
    _, expected = epochs_on(config, images, kept, CPU)
    found, told = epochs_on(config, images, kept, CUDA)
    _, uncaptured = epochs_on(config, images, kept, CUDA, captured=False)
    assert isinstance(found.step, CapturedStep) == (name in CAPTURED)
    assert len([note for note in found.notes() if "graph" in note]) == (name in PLAIN)
    for mine, plain, there in zip(told, uncaptured, expected, strict=True):
        assert mine["lr"] == pytest.approx(there["lr"])
        assert mine["loss"] == pytest.approx(plain["loss"], rel=1e-2)
        assert mine["loss"] == pytest.approx(there["loss"], rel=5e-2)
        assert mine["validation_loss"] == pytest.approx(plain["validation_loss"], rel=5e-2)


@pytest.mark.parametrize("name", RECIPES)
def test_a_training_goes_on_from_its_state_and_begins_again_in_the_same_memory(name, images, kept):
    config = trained_by(RECIPES[name])
    prepare_teachers(config, images, kept)
    _, told = epochs_on(config, images, kept, CUDA)
    first, second = (make_trainer(config, images, kept, CUDA) for _ in range(2))
    first.run_epoch()
    second.load_state_dict(first.state_dict())
    assert second.run_epoch()["loss"] == pytest.approx(told[1]["loss"], rel=2e-2)
    steps = StepPool()
    make_trainer(trained_by(dataclasses.replace(RECIPES[name], lr=1e-5)), images, kept, CUDA, steps=steps).run_epoch()
    again = make_trainer(config, images, kept, CUDA, steps=steps)
    for epoch in told:
        assert again.run_epoch()["loss"] == pytest.approx(epoch["loss"], rel=2e-2)


@pytest.mark.parametrize("name", AUGMENTED)
def test_images_are_augmented_on_a_gpu_as_on_the_cpu(name, images):
    # In a colour that changes from image to image.
    tint = np.random.default_rng(0).uniform(0.3, 1, (len(images.train), 1, 1, 3))
    coloured = Images((images.train.pixels * tint).astype(np.uint8), images.train.labels)
    views = []
    for device in (CPU, CUDA):
        normalise = Normalise((127.0,) * 3, (64.0,) * 3).to(device)
        stream = Stream(coloured, normalise, AUGMENTED[name], 3, device)
        views.append(stream.views(stream.plan(1), 0, 48)[0].cpu())
    # An operation may round a grey value, or choose the nearest pixel, the other way.
    differs = (views[0] - views[1]).abs() > 1e-5
    assert differs.float().mean() < 0.01


@pytest.mark.parametrize("name", ["mixup", "everything"])
def test_mixed_images_are_learned_on_a_gpu_as_on_the_cpu(name, images, kept):
    augment = AUGMENTED[name]
    if augment.jitter:
        # The digits are grey.
        augment = dataclasses.replace(augment, jitter=Jitter(brightness=0.5, contrast=0.5))
    config = trained_by(RECIPES["sgd"], augment)
    prepare_teachers(config, images, kept)
    _, expected = epochs_on(config, images, kept, CPU)
    found, told = epochs_on(config, images, kept, CUDA)
    _, uncaptured = epochs_on(config, images, kept, CUDA, captured=False)
    assert [note for note in found.notes() if "graph" in note] == []
    assert told[0]["loss"] == pytest.approx(uncaptured[0]["loss"], rel=1e-3)
    assert told[0]["loss"] == pytest.approx(expected[0]["loss"], rel=2e-2)
