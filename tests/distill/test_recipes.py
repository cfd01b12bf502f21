"""Recipes in whole trainings: replayed as they are live, resumed bit for bit, and begun again in the same memory."""

import dataclasses
import io

import pytest
import torch
from support.recorded import BASE, EPOCHS, assert_same, live, prepare_all, trained
from support.tiny import CPU, assert_same_bits, copied, tiny_splits

from ctkd_search.distill.average import Average
from ctkd_search.distill.build import make_trainer
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.evaluation import evaluate
from ctkd_search.distill.step import StepPool
from ctkd_search.metrics import CLOCKS
from ctkd_search.recipe import Recipe

pytestmark = pytest.mark.usefixtures("single_thread")
RECIPES = {
    "sgd, cosine": Recipe(lr=0.05, nesterov=True, schedule="cosine", warmup=0.5),
    "adamw, linear": Recipe(
        lr=0.01, optimizer="adamw", schedule="linear", warmup=1, clip=0.5, optimizer_options={"betas": [0.8, 0.95]}
    ),
    "lion, constant": Recipe(lr=0.002, optimizer="lion", schedule="constant", cooldown=0.5, decay="weights"),
    "muon, milestones": Recipe(lr=0.02, optimizer="muon", milestones=(0.5,)),
    "averaged": Recipe(lr=0.05, schedule="cosine", average=0.7),
    "weighted": Recipe(lr=0.05, label_smoothing=0.1, class_weights="effective", effective_beta=0.5),
}
RECIPES = {name: dataclasses.replace(recipe, batch_size=24, precision="float32") for name, recipe in RECIPES.items()}
EACH = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)


@pytest.fixture(scope="module")
def splits():
    return tiny_splits(100)


@pytest.fixture
def cache(tmp_path):
    return TeacherCache(tmp_path / "teachers")


def taught_by(recipe, batch_size=24):
    """Both teachers by a recipe, which are not averaged, and the student by the same one."""
    own = dataclasses.replace(recipe, batch_size=batch_size)
    teachers = dataclasses.replace(BASE.teachers, recipe=dataclasses.replace(recipe, average=0.0))
    return dataclasses.replace(BASE, train=own, teachers=teachers)


@EACH
def test_recorded_teachers_teach_what_live_ones_do_for_any_batch_size(recipe, splits, cache):
    for batch_size in (24, 7):
        config = taught_by(recipe, batch_size)
        assert_same(trained(config, splits, cache), trained(live(config), splits, cache))


@EACH
def test_a_training_that_is_cut_short_goes_on_bit_for_bit(recipe, splits, cache):
    config = dataclasses.replace(taught_by(recipe), epochs=EPOCHS + 1)
    prepare_all(config, splits, cache)
    whole = make_trainer(config, splits, cache, CPU)
    expected = [told(whole) for _ in range(config.epochs)]
    first = make_trainer(config, splits, cache, CPU)
    told(first)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    after = make_trainer(config, splits, cache, CPU)
    after.load_state_dict(torch.load(file, weights_only=True))
    assert [told(after) for _ in range(config.epochs - 1)] == expected[1:]
    assert_same_bits(after.state_dict()["student"], whole.state_dict()["student"])


@EACH
def test_a_step_that_is_used_again_begins_as_a_new_one(recipe, splits, cache):
    config = taught_by(recipe)
    prepare_all(config, splits, cache)
    expected = told(make_trainer(config, splits, cache, CPU))
    steps = StepPool()
    told(make_trainer(taught_by(dataclasses.replace(recipe, lr=recipe.lr / 2)), splits, cache, CPU, steps=steps))
    assert told(make_trainer(config, splits, cache, CPU, steps=steps)) == expected


def told(trainer):
    """The metrics of an epoch, without those that differ from run to run."""
    return {name: value for name, value in trainer.run_epoch().items() if name not in CLOCKS}


def test_the_learning_rate_changes_in_every_step_and_the_last_one_is_reported(splits, cache):
    config = taught_by(RECIPES["sgd, cosine"])
    prepare_all(config, splits, cache)
    trainer = make_trainer(config, splits, cache, CPU)
    used, learn = [], trainer.step._learn
    trainer.step._learn = lambda lesson: used.append(trainer.step.optimizer.param_groups[0]["lr"]) or learn(lesson)
    reported = [trainer.run_epoch()["lr"] for _ in range(EPOCHS)]
    count = trainer.teachers.steps
    expected = [config.train.lr_at(epoch, EPOCHS, step, count) for epoch in range(EPOCHS) for step in range(count)]
    assert used == expected
    assert len(set(used)) > EPOCHS
    assert reported == [expected[count * (epoch + 1) - 1] for epoch in range(EPOCHS)]


def test_the_averaged_student_is_evaluated_and_kept_and_the_training_goes_on_without_it(splits, cache):
    averaged, plain = (taught_by(dataclasses.replace(RECIPES["averaged"], average=epochs)) for epochs in (0.7, 0.0))
    prepare_all(averaged, splits, cache)
    one, other = (make_trainer(config, splits, cache, CPU) for config in (averaged, plain))
    for _ in range(EPOCHS):
        mine, theirs = told(one), told(other)
        assert {name for name in mine if mine[name] != theirs[name]} >= {"validation_loss"}
        assert mine["loss"] == theirs["loss"]
    assert_same_bits(copied(one.student), copied(other.student))
    kept = one.state_dict()["student"]
    assert not torch.equal(kept["classifier.weight"], one.student.classifier.weight)
    one.student.load_state_dict(kept)
    measured = evaluate(one.student, splits.validation, one.normalise, CPU)
    assert measured["loss"] == pytest.approx(mine["validation_loss"], rel=1e-6)


def test_the_average_is_the_mean_up_to_its_horizon_and_exponential_from_there_on():
    network = torch.nn.BatchNorm1d(1)
    average = Average(network, 1.5)
    values, expected = [2.0, -1.0, 4.0, 8.0, -3.0, 1.0], 0.0
    for number, value in enumerate(values, start=1):
        network.weight.data.fill_(value)
        network.running_mean.fill_(10 * value)
        network.num_batches_tracked.fill_(number)
        average.follow(steps=2)
        expected += (value - expected) / min(number, 3)
        assert average.weights["weight"].item() == pytest.approx(expected)
        assert average.weights["running_mean"].item() == pytest.approx(10 * expected)
        assert average.weights["num_batches_tracked"].item() == number
    with average.in_place():
        assert network.weight.item() == pytest.approx(expected)
    assert network.weight.item() == values[-1]
