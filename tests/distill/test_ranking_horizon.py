"""The running average of a student's weights by which trials are compared, beside a training that it leaves alone."""

import dataclasses

import pytest
import torch
from support.tiny import CPU, OTHER_RECIPE, TINY, assert_same_bits, both_trained_by, copied, prepared_trainer
from torch.optim.swa_utils import AveragedModel

from ctkd_search.distill.evaluation import evaluate
from ctkd_search.metrics import CLOCKS

pytestmark = pytest.mark.usefixtures("single_thread")
RANKED = dataclasses.replace(TINY, ranking_horizon=0.5)


def timeless(metrics, own=True):
    """The metrics without those of the machine, and without those of the average if those alone are asked for."""
    return {name: value for name, value in metrics.items() if name not in CLOCKS and (own or "averaged" not in name)}


def test_the_training_does_not_notice_the_average(splits, cache):
    plain, ranked = (prepared_trainer(config, splits, cache) for config in (TINY, RANKED))
    for _ in range(TINY.epochs):
        without, beside = plain.run_epoch(), ranked.run_epoch()
        assert timeless(without) == timeless(beside, own=False)
        assert {f"averaged_validation_{name}" for name in ("accuracy", "loss")} <= set(beside)
    assert_same_bits(copied(plain.student), copied(ranked.student))


def test_what_is_measured_is_the_average_over_the_horizon(splits, cache):
    trainer = prepared_trainer(RANKED, splits, cache)
    steps = trainer.teachers.steps
    taken = []

    def averaged(own, new, count):
        taken.append(1)
        return own + (new - own) / min(len(taken) / len(parameters), max(1.0, 0.5 * steps))

    parameters = [value for value in trainer.student.state_dict().values() if value.is_floating_point()]
    expected = AveragedModel(trainer.student, avg_fn=averaged, use_buffers=True)
    expected.n_averaged += 1  # the initial weights do not count
    step = trainer.step

    class Watched:
        def __getattr__(self, name):
            return getattr(step, name)

        def __call__(self, lesson):
            sums = step(lesson)
            _follow(expected.module, trainer.student, len(taken) // len(parameters) + 1)
            taken.extend(parameters)
            return sums

    def _follow(average, network, count):
        share = 1 / min(count, max(1.0, 0.5 * steps))
        for own, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
            own.copy_(own + (new - own) * share if own.is_floating_point() else new)

    trainer.step = Watched()
    for _ in range(2):
        metrics = trainer.run_epoch()
        wanted = evaluate(expected.module, trainer.validation, trainer.normalise, CPU)
        for name, value in wanted.items():
            assert metrics[f"averaged_validation_{name}"] == pytest.approx(value, rel=1e-4)
        assert metrics["averaged_validation_loss"] != metrics["validation_loss"]


@pytest.mark.parametrize("config", [RANKED, dataclasses.replace(both_trained_by(OTHER_RECIPE), ranking_horizon=0.5)])
def test_a_resumed_training_measures_the_same_average(config, splits, cache):
    whole = prepared_trainer(config, splits, cache)
    history = [timeless(whole.run_epoch()) for _ in range(config.epochs)]
    first = prepared_trainer(config, splits, cache)
    first.run_epoch()
    state = first.state_dict()
    kept = {"weights": {name: value.clone() for name, value in state["ranking"]["weights"].items()}}
    second = prepared_trainer(config, splits, cache)
    second.load_state_dict({**state, "ranking": {**state["ranking"], **kept}})
    assert [timeless(second.run_epoch()) for _ in range(config.epochs - 1)] == history[1:]


def test_every_metric_of_the_validation_images_is_measured_with_the_average(splits, cache):
    trainer = prepared_trainer(dataclasses.replace(RANKED, metrics=("balanced_accuracy", "ece")), splits, cache)
    metrics = trainer.run_epoch()
    own = {name for name in metrics if name.startswith("validation_") and name != "validation_images"}
    assert {f"averaged_{name}" for name in own} == {name for name in metrics if name.startswith("averaged_")}
    assert len(own) == 4


def test_an_average_over_one_step_is_the_weights_themselves(splits, cache):
    trainer = prepared_trainer(dataclasses.replace(TINY, ranking_horizon=1e-9), splits, cache)
    metrics = trainer.run_epoch()
    assert metrics["averaged_validation_loss"] == metrics["validation_loss"]
    assert torch.equal(next(iter(trainer.ranking.weights.values())), next(iter(copied(trainer.student).values())))
