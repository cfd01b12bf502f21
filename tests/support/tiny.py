"""Trials so small that a test can train a few: forty digits, two epochs, the smallest networks."""

import dataclasses

import numpy as np
import torch

from ctkd_search.config import Augment, DatasetConfig, MethodConfig, TeachersConfig, TrialConfig
from ctkd_search.data import load_train
from ctkd_search.distill.build import make_trainer, teacher_runs
from ctkd_search.distill.methods.base import make_method
from ctkd_search.distill.recording import prepare
from ctkd_search.recipe import Recipe
from support.methods import with_values

CPU = torch.device("cpu")
RECIPE = Recipe(batch_size=16, milestones=(0.5,), precision="float32")
# Every value another one, with a single milestone in the middle still; a rate at which rounding does not grow, so that
# two ways to add the same numbers come to the same weights.
OTHER_RECIPE = Recipe(
    12, lr=0.02, momentum=0.5, nesterov=True, weight_decay=0.02, milestones=(0.5,), gamma=0.5, precision="float32"
)
CTKD = MethodConfig(
    "ctkd", {"step_loss": "kl", "temperature": 4.0, "alpha": 1.0, "beta": 100.0, "attention_layers": (1, 2, 3)}
)
TINY = TrialConfig(
    dataset=DatasetConfig("digits"),
    epochs=2,
    teacher="wrn-10-1",
    student="resnet8",
    method=CTKD,
    augment=Augment(crop=1, flip=True),
    train=RECIPE,
    teachers=TeachersConfig(mode="live", recipe=RECIPE),
)


def tiny_splits(train=40, validation=30):
    """The first few digits of each split."""
    splits = load_train(TINY.dataset)
    return dataclasses.replace(
        splits, train=splits.train[np.arange(train)], validation=splits.validation[np.arange(validation)]
    )


def changed(config, path, value):
    """The config with one value changed; the path's parts are joined by dots."""
    first, _, rest = path.partition(".")
    if isinstance(config, MethodConfig):
        return with_values(config, **{first: value})
    old = getattr(config, first)
    new = changed(old, rest, value) if rest else value
    return dataclasses.replace(config, **{first: new})


def both_trained_by(recipe, config=TINY):
    """The config with one recipe for the student and for its teachers."""
    return changed(changed(config, "train", recipe), "teachers.recipe", recipe)


def prepare_teachers(config, splits, cache):
    """Prepares the teachers that a trial of the config needs; returns what was told on the way."""
    runs = teacher_runs(config, splits.fingerprint, CPU, make_method(config.method).needs, len(splits.train))
    return [told for run, storage in runs.items() for told in prepare(run, splits, cache, CPU, storage)]


def prepared_trainer(config, splits, cache):
    """A trainer whose teachers are prepared first, if they are not kept."""
    prepare_teachers(config, splits, cache)
    return make_trainer(config, splits, cache, CPU)


def copied(network):
    """A network's state as it is now."""
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def assert_same_bits(found, expected):
    """Two nested states hold the same keys and bit for bit the same tensors."""
    assert type(found) is type(expected)
    if isinstance(found, torch.Tensor):
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)
    elif isinstance(found, dict):
        assert found.keys() == expected.keys()
        for key in found:
            assert_same_bits(found[key], expected[key])
    elif isinstance(found, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same_bits(one, other)
    else:
        assert found == expected
