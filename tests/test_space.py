"""Spaces: what is refused and where, and what the search makes of one that is valid."""

from __future__ import annotations

import dataclasses
import os
import re
import warnings
from pathlib import Path

import optuna
import pytest
import yaml

from ctkd_search.config import Augment, DatasetConfig, ExpertConfig, Recipe, TeachersConfig, TrialConfig, plain
from ctkd_search.errors import UserError
from ctkd_search.models import registry
from ctkd_search.models.registry import Family, Tap
from ctkd_search.space import Budget, Resources, Tracking, check_name, duration, read_space, space_of

optuna.logging.set_verbosity(optuna.logging.WARNING)

SPACES = sorted((Path(__file__).parents[1] / "spaces").glob("*.yaml"))
EVERY_FORM = """\
name: every-form
dataset: {name: digits}
search:
  pair: {choice: [wrn-16-2/resnet8, wrn-16-1/resnet8], when: {step_loss: kl}}
  step_loss: {choice: [kl, mse], when: {alpha: [0.5, 1]}}
  temperature: {float: [1, 20], step: 0.5, when: {step_loss: kl, alpha: [0.5, 1]}}
  alpha: {choice: [0, 0.5, 1]}
  beta: 30
  attention_layers: {choice: [[1], [3, 2]], when: {pair: wrn-16-2/resnet8}}
  lr: {float: [0.01, 0.3], log: true, when: {attention_layers: "2,3"}}
  momentum: {float: [0, 0.95]}
  batch_size: {int: [16, 64], step: 16}
  weight_decay: {choice: [0, 5e-4]}
"""


def space(text, *overrides):
    """The space of a text; name and data set are supplied where it has none."""
    head = "" if "dataset:" in text else "name: x\ndataset: {name: digits}\n"
    path = Path("space.yaml")
    path.write_text(head + text, encoding="utf-8")
    return read_space(path, overrides)


@pytest.fixture(autouse=True)
def _in_a_directory_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def draws(chosen, count, seed=0, first=None):
    """Optuna trials, each with the values suggested in it."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    if first:
        study.enqueue_trial(first)
    return [(trial, chosen.suggest(trial)) for trial in (study.ask() for _ in range(count))]


# What is wrong with each document is noted in it, behind the faulty line: #! KEY message fragment
FAULTY = {
    "nothing": "{}  #! name is missing #! dataset is missing #! search must say what is searched",
    "sections": """\
name: no spaces here          #! name must be letters, digits
datset: {name: digits}        #! datset is not a known key (did you mean dataset?)
dataset: digits               #! dataset must be a mapping, with the keys name, root
seed: -1                      #! seed must be at least 0, but got -1
augment: {crop: few}          #! augment.crop must be a whole number
train: [lr, 0.1]              #! train must be a mapping
search: {alpha: {float: [1, 2]}}
""",
    "data set": """\
name: x
dataset:
  name: cifr10                #! dataset.name unknown data set 'cifr10'; there are: cifar10, digits, folder
search: {alpha: {float: [1, 2]}}
""",
    "options of the data set": """\
name: x
dataset:
  name: digits
  root: .                     #! dataset.root has no meaning for the data set 'digits'
  validation: 1.0             #!
augment: {crop: 8}
search: {alpha: {float: [1, 2]}}
""".replace("  validation: 1.0             #!\n", ""),
    "crop": "augment: {crop: 8}  #! augment.crop must be less than the image size 8\nsearch: {alpha: {float: [1, 2]}}",
    "budget": """\
budget:
  trials: 0                   #! budget.trials must be at least 1
  epochs: 3.5                 #! budget.epochs must be a whole number, but got 3.5
  reduction_factor: 1         #! budget.reduction_factor must be at least 2
  time_bugdet: 2h             #! budget.time_bugdet is not a known key (did you mean time_budget?)
search: {alpha: {float: [1, 2]}}
""",
    "budget that cannot be": """\
budget:
  epochs: 3
  grace_period: 4             #! budget.grace_period must be at most the epochs 3, but got 4
  time_budget: soon           #! budget.time_budget must be a duration
resources:
  gpus_per_trial: 1.5         #! resources.gpus_per_trial must be a whole number above 1
search: {alpha: {float: [1, 2]}}
""",
    "recipes": """\
train:
  lr: 0                       #! train.lr must be greater than 0
  milestones: [0.5, 1]        #! train.milestones.1 must be in (0, 1)
teachers:
  mode: dead                  #! teachers.mode must be
  recipe: {momentum: 1}       #! teachers.recipe.momentum must be in [0, 1)
tracking: {uri: 5}            #! tracking.uri must be text
search: {alpha: {float: [1, 2]}}
""",
    "entries": """\
search:
  alpah: 1                    #! search.alpah is not a known key (did you mean alpha?)
  alpha:
    float: [1,
            -1]               #! search.alpha.float.1 must be at least 0
    log: 1                    #! search.alpha.log must be true or false
  beta: {float: [3, 1]}       #! search.beta.float low < high must hold #!
  step_loss: {choice: [kl, l2]}  #! search.step_loss.choice.1 must be one of kl, mse
  attention_layers: [3, 3]    #! search.attention_layers must be a list of different
""".replace(" #!\n", "\n"),
    "nothing to search": "search:  #! search has constants only\n  alpha: 1\n  beta: 2",
    "train and search": """\
train:
  lr: 0.1                     #! train.lr stands under search too; leave one out
  momentum: 0.5               #! train.momentum stands under search too
search: {lr: {float: [0.1, 1]}, momentum: 0.8}
""",
    "conditions": """\
search:
  step_loss: {choice: [kl, mse]}
  beta: {float: [1, 2]}
  alpha: {float: [1, 2], when: {step_los: kl}}  #! search.alpha.when.step_los is not a parameter
  lr: {float: [0.1, 1], when: {step_loss: l1}}  #! search.lr.when.step_loss is never 'l1'; it may be kl, mse
  momentum: {float: [0.1, 0.2], when: {beta: 1}}  #! search.momentum.when.beta is a range
  batch_size: {int: [1, 2], when: {attention_layers: "1,2"}}  #! search.batch_size.when.attention_layers is never '1,2'
""",
    "a condition on a range that has a condition": """\
search:
  step_loss: {choice: [kl, mse]}
  beta: {float: [1, 2], when: {step_loss: kl}}
  lr: {float: [0.1, 1], when: {beta: 1000}}  #! search.lr.when.beta is a range
""",
    "a condition on a value close to an option": """\
search:
  beta: {choice: [1000.1, 1000.4]}
  lr: {float: [0.1, 1], when: {beta: 1000.3}}  #! search.lr.when.beta is never
""",
    "a faulty parameter is not blamed on the conditions that name it": """\
teachers: {expert: {checkpoint: {wrn-16-2: space.yaml}}}
search:
  pair: {choice: [wrn-16-2/resnet8, resnet8]}  #! search.pair.choice.1 must be TEACHER/STUDENT
  step_loss: {choice: [kl, mse, l1]}  #! search.step_loss.choice.2 must be one of kl, mse
  lr: {float: [0.1, 1], when: {step_loss: mse}}
""",
    "a circle": """\
search:
  pair:
    choice: [wrn-16-2/resnet8, wrn-16-1/resnet8]
    when: {step_loss: kl}     #! search.pair.when goes in a circle with the conditions of step_loss
  step_loss: {choice: [kl, mse], when: {pair: wrn-16-2/resnet8}}
""",
    "a circle of one": """\
search:
  step_loss: {choice: [kl, mse], when: {step_loss: kl}}  #! search.step_loss.when goes in a circle with itself
""",
    "temperature without its condition": """\
search:
  step_loss: {choice: [kl, mse]}
  temperature: {float: [1, 20]}  #! search.temperature has no effect where step_loss is mse; add when: {step_loss: [kl]}
""",
    "temperature where step_loss may be its default": """\
search:
  pair: {choice: [wrn-16-2/resnet8, wrn-16-1/resnet8]}
  step_loss: {choice: [kl, mse], when: {pair: wrn-16-2/resnet8}}
  temperature: {float: [1, 20]}  #! search.temperature has no effect where step_loss is mse; add when: {step_loss: [kl]}
""",
    "temperature of mse": """\
search:
  step_loss: mse
  temperature: 4              #! search.temperature has no effect where step_loss is mse; leave it out
  beta: {float: [1, 2]}
""",
    "no step loss": """\
search:
  alpha: 0
  step_loss: {choice: [kl, mse]}  #! search.step_loss has no effect where alpha is 0; leave it out
  temperature: {float: [1, 2], when: {step_loss: kl}}  #! search.temperature has no effect where alpha is 0
""",
    "step loss where alpha may be 0": """\
search:
  alpha: {choice: [0, 0.5]}
  step_loss: {choice: [kl, mse]}  #! search.step_loss has no effect where alpha is 0; add when: {alpha: [0.5]}
""",
    "no attention": """\
search:
  beta: 0
  attention_layers: {subsets: [1, 2]}  #! search.attention_layers has no effect where beta is 0; leave it out
  alpha: {float: [1, 2]}
""",
    "pairs": """\
search:
  pair:                       #! search.pair wrn-17-2/resnet8: no architecture 'wrn-17-2': the depth must be 6n + 4
    choice: [wrn-17-2/resnet8, wrn-16-2/resnet8]
""",
    "unknown architectures": """\
search:
  pair: vgg8/resnet8          #! search.pair vgg8/resnet8: unknown architecture 'vgg8'; there are: resnetD
  alpha: {float: [1, 2]}
""",
    "a layer that there is not": """\
search:
  pair: wrn-16-2/resnet8      #! search.pair wrn-16-2/resnet8: wrn-16-2 has no layer 4; it has 1,2,3
  attention_layers: {subsets: [3, 4]}
""",
    "checkpoints": """\
teachers:
  expert:
    checkpoint:
      wrn-16-2: nowhere.pt    #! teachers.expert.checkpoint.wrn-16-2 there is no file nowhere.pt
      wrn-40-1: space.yaml    #! teachers.expert.checkpoint.wrn-40-1 is not a teacher of any pair
search: {pair: {choice: [wrn-16-2/resnet8, wrn-16-1/resnet8]}}
""",
}


def noted(text):
    """The faults noted in a document, as (line, key, fragment)."""
    for number, line in enumerate(text.splitlines(), start=1):
        for note in line.split("#!")[1:]:
            key, fragment = note.strip().split(" ", 1)
            yield number, key, fragment


@pytest.mark.parametrize("text", FAULTY.values(), ids=FAULTY)
def test_every_fault_is_found_at_its_line_and_none_besides(text):
    whole = text if "dataset:" in text or text.startswith("{}") else "dataset: {name: digits}\nname: x\n" + text
    Path("space.yaml").write_text(whole, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_space(Path("space.yaml"))
    found = re.findall(r"^  line (\d+): (\S+) (.*)$", str(caught.value), flags=re.MULTILINE)
    expected = sorted(noted(whole))
    assert sorted((int(line), key) for line, key, _ in found) == [(line, key) for line, key, _ in expected]
    for (_, key, fragment), (_, _, message) in zip(expected, sorted(found, key=lambda f: (int(f[0]), f[1])), strict=True):
        assert fragment in message, key
    assert f"{len(expected)} error" in str(caught.value)
