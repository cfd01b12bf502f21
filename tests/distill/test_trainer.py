"""One student's training: its steps, its state, its evaluation."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from support.plain_training import plain_training
from support.tiny import (
    CPU,
    OTHER_RECIPE,
    TINY,
    assert_same_bits,
    both_trained_by,
    changed,
    copied,
    prepared_trainer,
    tiny_splits,
)

from ctkd_search.config import Augment, DatasetConfig, MethodConfig
from ctkd_search.data import load_train
from ctkd_search.data.stream import Normalise
from ctkd_search.distill.build import load_expert, make_trainer
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.evaluation import evaluate
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.trainer import diverged
from ctkd_search.metrics import CLOCKS
from ctkd_search.models import build
from ctkd_search.recipe import Recipe

pytestmark = pytest.mark.usefixtures("single_thread")

CLOCK = {"seconds", "images_per_second"}
ALONE = changed(changed(TINY, "method.alpha", 0.0), "method.beta", 0.0)


def timeless(metrics):
    assert set(metrics) >= CLOCK
    return {name: value for name, value in metrics.items() if name not in CLOCKS}


@pytest.mark.parametrize(
    "config", [TINY, ALONE, both_trained_by(OTHER_RECIPE)], ids=["ctkd", "student alone", "another recipe"]
)
def test_student_is_trained_as_a_plain_loop_trains_it(config, splits, cache):
    trainer = prepared_trainer(config, splits, cache)
    history = [trainer.run_epoch() for _ in range(config.epochs)]
    _, student, _, losses = plain_training(config, splits, load_expert(config, splits, cache, CPU).network)
    torch.testing.assert_close(copied(trainer.student), copied(student), rtol=1e-3, atol=1e-4)
    assert [metrics["loss"] for metrics in history] == pytest.approx(losses, rel=1e-4)


def test_metrics_of_an_epoch_are_means_over_its_images(splits, cache):
    trainer = prepared_trainer(changed(TINY, "train.batch_size", 16), splits, cache)
    steps, step = [], trainer.step

    class Watched:
        def __getattr__(self, name):
            return getattr(step, name)

        def __call__(self, lesson):
            steps.append((len(lesson.labels), {name: value.item() for name, value in step(lesson).items()}))
            return {name: torch.tensor(value) for name, value in steps[-1][1].items()}

    trainer.step = Watched()
    metrics = trainer.run_epoch()
    assert [count for count, _ in steps] == [16, 16, 8]
    for name in ("loss", "loss_ce", "loss_step", "loss_attention", "train_accuracy"):
        assert metrics[name] == pytest.approx(sum(sums[name] for _, sums in steps) / 40, rel=1e-6)
    assert metrics["loss"] == pytest.approx(sum(metrics[f"loss_{term}"] for term in ("ce", "step", "attention")), 1e-5)
    assert 0 <= metrics["train_accuracy"] <= 1
    assert metrics["epoch"] == trainer.epoch == 1
    assert all(math.isfinite(value) for value in metrics.values())


def test_validation_is_that_of_the_student_at_the_end_of_the_epoch(splits, cache):
    trainer = prepared_trainer(TINY, splits, cache)
    metrics = trainer.run_epoch()
    expected = evaluate(trainer.student, splits.validation, trainer.normalise, CPU)
    assert {name: metrics[f"validation_{name}"] for name in expected} == expected


def test_training_without_validation_images_measures_none(splits, cache):
    metrics = prepared_trainer(ALONE, splits.with_validation(), cache).run_epoch()
    assert not [name for name in metrics if name.startswith("validation")]


@pytest.mark.parametrize("student_batch", [16, 7])
@pytest.mark.parametrize("stop", [1, 2])
def test_going_on_from_a_kept_state_equals_never_having_stopped(splits, cache, tmp_path, student_batch, stop):
    config = dataclasses.replace(changed(TINY, "train.batch_size", student_batch), epochs=3)
    whole = prepared_trainer(config, splits, cache)
    expected = []
    for epoch in range(1, config.epochs + 1):
        expected.append(whole.run_epoch())
        if epoch == stop:
            torch.save(whole.state_dict(), tmp_path / "state.pt")
    final = whole.state_dict()
    resumed = make_trainer(config, splits, cache, CPU)
    torch.manual_seed(1234)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    found = [resumed.run_epoch() for _ in range(config.epochs - stop)]
    assert [timeless(one) for one in found] == [timeless(one) for one in expected[stop:]]
    assert_same_bits(resumed.state_dict(), final)
    assert final["teachers"]["scratch"]["optimizer"]["state"][0]["momentum_buffer"].any()


def test_two_trainings_with_one_seed_are_the_same_whatever_the_global_random_state(splits, cache):
    outcomes = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        trainer = prepared_trainer(TINY, splits, cache)
        outcomes.append(([timeless(trainer.run_epoch()) for _ in range(2)], copied(trainer.student)))
    assert outcomes[0][0] == outcomes[1][0]
    assert_same_bits(outcomes[0][1], outcomes[1][1])


def test_learning_rate_drops_at_60_120_and_160_of_200_epochs():
    rates = [Recipe(lr=0.1).lr_at(epoch, 200) for epoch in range(200)]
    expected = [0.1] * 60 + [0.02] * 60 + [0.004] * 40 + [0.0008] * 40
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize("epochs", range(1, 12))
def test_first_epoch_has_the_initial_learning_rate_and_later_ones_never_more(epochs):
    rates = [Recipe(lr=0.1).lr_at(epoch, epochs) for epoch in range(epochs)]
    assert rates[0] == 0.1
    assert rates == sorted(rates, reverse=True)


def test_epochs_are_trained_with_the_learning_rate_of_the_schedule(splits, cache):
    config = dataclasses.replace(
        ALONE, epochs=4, train=Recipe(batch_size=20, lr=0.05, milestones=(0.25, 0.75), gamma=0.1)
    )
    trainer = make_trainer(config, splits, cache, CPU)
    expected = [0.05, 0.005, 0.005, 0.0005]
    for lr in expected:
        assert trainer.run_epoch()["lr"] == pytest.approx(lr)
        assert trainer.step.optimizer.param_groups[0]["lr"] == pytest.approx(lr)


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_agrees_with_a_plain_loop_and_changes_nothing(training):
    splits = load_train(DatasetConfig("digits"))  # more images than are evaluated at once
    network = build("resnet8", splits.geometry, seed=0)
    normalise = Normalise(splits.mean, splits.std)
    network(normalise(torch.tensor(splits.train.pixels[:100])))
    network.train(training)
    before = copied(network)
    found = evaluate(network, splits.train, normalise, CPU)
    assert all(module.training == training for module in network.modules())
    assert_same_bits(copied(network), before)
    network.eval()
    right, loss = 0, 0.0
    for start in range(0, len(splits.train), 97):
        pixels = torch.tensor(splits.train.pixels[start : start + 97]).permute(0, 3, 1, 2)
        labels = torch.tensor(splits.train.labels[start : start + 97])
        with torch.no_grad():
            logits, _ = network((pixels.double() - splits.mean[0]).div(splits.std[0]).float())
        right += int((logits.argmax(dim=1) == labels).sum())
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
    assert found["accuracy"] == pytest.approx(right / len(splits.train), abs=1.5 / len(splits.train))
    assert found["loss"] == pytest.approx(loss / len(splits.train), rel=1e-4)


@pytest.mark.parametrize(
    ("loss", "expected"), [(0.0, False), (1e30, False), (math.nan, True), (math.inf, True), (-math.inf, True)]
)
def test_loss_that_is_no_finite_number_has_diverged(loss, expected):
    assert diverged({"loss": loss, "validation_accuracy": 0.5}) is expected
    assert diverged({"loss": 1.0, "validation_loss": loss}) is expected


def test_absurd_learning_rate_diverges_and_says_so(splits, cache):
    trainer = make_trainer(changed(ALONE, "train.lr", 1e12), splits, cache, CPU)
    history = [trainer.run_epoch() for _ in range(2)]
    assert diverged(history[-1])


@pytest.mark.parametrize("validated", [True, False])
def test_weights_that_the_last_step_breaks_are_a_divergence(splits, cache, validated):
    held = splits if validated else splits.with_validation()
    trainer = make_trainer(ALONE, held, cache, CPU)
    lessons = trainer.teachers.lessons

    def lessons_and_a_break(epoch):
        yield from lessons(epoch)
        # After the last step: every loss of the training is finite, and what it leaves is not.
        with torch.no_grad():
            next(iter(trainer.student.parameters())).fill_(torch.nan)

    trainer.teachers.lessons = lessons_and_a_break
    metrics = trainer.run_epoch()
    assert ("validation_loss" in metrics) == validated
    assert diverged(metrics)
    assert diverged({"loss": 0.5, "validation_loss": math.inf})
    assert not diverged({"loss": 0.5})


def test_student_alone_learns_digits():
    config = dataclasses.replace(
        ALONE, epochs=4, augment=Augment(crop=1, flip=False), train=Recipe(batch_size=64), teacher="wrn-16-1"
    )
    trainer = make_trainer(config, load_train(config.dataset), TeacherCache("nowhere"), CPU)
    history = [trainer.run_epoch() for _ in range(config.epochs)]
    assert history[-1]["validation_accuracy"] > 0.9  # chance is 0.1
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]


@pytest.mark.parametrize("mode", ["live", "recorded"])
@pytest.mark.parametrize("name", ["ctkd", "fitnets"])
def test_a_last_batch_of_one_image_does_not_stop_networks_whose_maps_are_one_position(name, mode, cache):
    splits = tiny_splits(train=33)
    config = changed(changed(TINY, "teacher", "vgg8"), "student", "mobilenetv2-0.5")
    config = changed(config, "epochs", 1)
    config = changed(config, "teachers.mode", mode)
    if name != "ctkd":
        config = dataclasses.replace(config, method=MethodConfig(name, make_method(MethodConfig(name)).values))
    metrics = prepared_trainer(config, splits, cache).run_epoch()
    assert math.isfinite(metrics["loss"])
