"""Spaces as their files say them, line by line, and Optuna trials of them."""

from pathlib import Path

import optuna
import pytest

from ctkd_search.space.reader import read_space
from support.factories import SHIPPED

optuna.logging.set_verbosity(optuna.logging.WARNING)

HEAD = "name: x\ndataset: {name: digits}\n"
EVERY_FORM = """\
search:
  pair: {choice: [wrn-16-2/resnet8, wrn-16-1/resnet8], when: {step_loss: kl}}
  step_loss: {choice: [kl, mse], when: {alpha: [0.5, 1]}}
  temperature: {float: [1, 20], step: 0.5, when: {step_loss: kl, alpha: [0.5, 1]}}
  alpha: {choice: [0, 0.5, 1]}
  beta: 30
  attention_layers: {choice: [[1], [3, 2]], when: {pair: wrn-16-2/resnet8}}
  lr: {float: [0.01, 0.3], log: true, when: {attention_layers: "2,3"}}
  momentum: {float: [0.1, 0.95]}
  batch_size: {int: [16, 64], step: 16}
  weight_decay: {choice: [0, 5e-4]}
"""
SEARCH = "search: {alpha: {float: [1, 2]}}\n"
ANY_SPACE = pytest.mark.parametrize("source", [*SHIPPED, EVERY_FORM], ids=lambda s: getattr(s, "stem", "every form"))


def space(text, *overrides):
    """The space of a text; name and data set are supplied where it has none."""
    Path("space.yaml").write_text(text if "dataset:" in text or text[0] == "{" else HEAD + text, encoding="utf-8")
    return read_space(Path("space.yaml"), overrides)


def any_space(request_or_path):
    """A shipped space, or the one with every form."""
    return read_space(request_or_path) if isinstance(request_or_path, Path) else space(request_or_path)


def draws(chosen, count, first=None):
    """Optuna trials, each with the values suggested in it."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    if first:
        study.enqueue_trial(first)
    return [(trial, chosen.suggest(trial)) for trial in (study.ask() for _ in range(count))]
