"""Spaces: what is refused and where, and what the search makes of one that is valid."""

from __future__ import annotations

import dataclasses
import json
import re
import warnings
from pathlib import Path

import optuna
import pytest
import yaml

from ctkd_search.config import Augment, DatasetConfig, ExpertConfig, Recipe, TeachersConfig, TrialConfig, plain
from ctkd_search.errors import UserError
from ctkd_search.models import registry
from ctkd_search.space import Budget, Resources, Tracking, duration
from ctkd_search.space_file import check_name, read_space, space_of
from ctkd_search.strategy import Confirm
from ctkd_search.yamlfile import read

optuna.logging.set_verbosity(optuna.logging.WARNING)

SPACES = sorted((Path(__file__).parents[1] / "spaces").glob("*.yaml"))
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
# What is wrong with each document is noted in it, behind the faulty line: #! KEY, and a piece of the message.
FAULTY = {
    "nothing at all": "{}  #! name is missing #! dataset is missing #! search must say what is searched",
    "sections": """\
name: two words               #! name must be letters, digits, '.', '_' and '-'
datset: {name: digits}        #! datset is not a known key (did you mean dataset?)
dataset: digits               #! dataset must be a mapping, with the keys name, root
seed: -1                      #! seed must be at least 0, but got -1
augment: {crop: few}          #! augment.crop must be a whole number, but got 'few'
train:
  lr: 0                       #! train.lr must be greater than 0
  milestones: [0.5,
               1]             #! train.milestones.1 must be in (0, 1)
teachers:
  mode: dead                  #! teachers.mode must be
  recipe: {momentum: 1}       #! teachers.recipe.momentum must be in [0, 1)
budget:
  trials: 0                   #! budget.trials must be at least 1
  epochs: 3.5                 #! budget.epochs must be a whole number, but got 3.5
  time_bugdet: 2h             #! budget.time_bugdet is not a known key (did you mean time_budget?)
resources: 1                  #! resources must be a mapping, with the keys gpus_per_trial
tracking: {uri: 5}            #! tracking.uri must be text, but got 5
search: [lr, alpha]           #! search must say what is searched; there are: pair, step_loss
""",
    "an unknown data set": """\
name: x
dataset:
  name: cifr10                #! dataset.name unknown data set 'cifr10'; there are: cifar10,
search: {alpha: {float: [1, 2]}}
""",
    "keys that fit each other badly": """\
name: x
dataset:
  name: digits
  root: .                     #! dataset.root has no meaning for the data set 'digits'
budget:
  epochs: 3
  grace_period: 4             #! budget.grace_period must be at most the epochs 3, but got 4
  time_budget: soon           #! budget.time_budget must be a duration such as 90s, 45m or 1h30m, but got 'soon'
resources:
  gpus_per_trial: 1.5         #! resources.gpus_per_trial must be a whole number above 1, but got 1.5
train:
  lr: 0.1                     #! train.lr stands under search too; leave one out
  momentum: 0.5               #! train.momentum stands under search too; leave one out
search: {lr: {float: [0.1, 1]}, momentum: 0.8}
""",
    "a crop as large as the image": """\
augment: {crop: 8}            #! augment.crop must be less than the image size 8, but got 8
search: {alpha: {float: [1, 2]}}
""",
    "entries": """\
search:
  alpah: 1                    #! search.alpah is not a known key (did you mean alpha?)
  alpha:
    float: [1,
            -1]               #! search.alpha.float.1 must be at least 0, but got -1
    log: 1                    #! search.alpha.log must be true or false, but got 1
  beta: {float: [3, 1]}       #! search.beta.float low < high must hold, but got low=3, high=1
  step_loss: {choice: [kl, l2]}  #! search.step_loss.choice.1 must be one of kl, mse, but got 'l2'
  attention_layers: [3, 3]    #! search.attention_layers must be a list of different layer numbers
""",
    "nothing to search": "search: {alpha: 1, beta: 2}  #! search has constants only, so that there is nothing",
    "conditions": """\
search:
  step_loss: {choice: [kl, mse]}
  beta: {float: [1, 2]}
  alpha: {float: [1, 2], when: {step_los: kl}}  #! search.alpha.when.step_los is not a parameter; there are: pair
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
    "a condition on a number close to an option": """\
search:
  beta: {choice: [1000.1, 1000.4]}
  lr: {float: [0.1, 1], when: {beta: 1000.3}}  #! search.lr.when.beta is never
""",
    "faulty parameters, whose faults are not told twice": """\
teachers: {expert: {checkpoint: {wrn-16-2: space.yaml}}}
search:
  pair: {choice: [wrn-16-2/resnet8, resnet8]}  #! search.pair.choice.1 must be TEACHER/STUDENT
  step_loss: {choice: [kl, mse, l1]}  #! search.step_loss.choice.2 must be one of kl, mse, but got 'l1'
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
  step_loss:
    choice: [kl, mse]
    when: {step_loss: kl}     #! search.step_loss.when goes in a circle with the conditions of step_loss
""",
    "searched without effect": """\
search:
  step_loss: {choice: [kl, mse]}
  temperature: {float: [1, 20]}  #! search.temperature has no effect where step_loss is mse; add when: {step_loss: [kl]}
  beta: 0
  attention_layers: {subsets: [1, 2]}  #! search.attention_layers has no effect where beta is 0; leave it out
""",
    "without effect where step_loss may be its default": """\
search:
  pair: {choice: [wrn-16-2/resnet8, wrn-16-1/resnet8]}
  step_loss: {choice: [kl, mse], when: {pair: wrn-16-2/resnet8}}
  temperature: {float: [1, 20]}  #! search.temperature has no effect where step_loss is mse; add when: {step_loss: [kl]}
""",
    "given without effect": """\
search:
  step_loss: mse
  temperature: 4              #! search.temperature has no effect where step_loss is mse; leave it out
  alpha: {float: [1, 2]}
""",
    "no step loss": """\
search:
  alpha: 0
  step_loss: {choice: [kl, mse]}  #! search.step_loss has no effect where alpha is 0; leave it out
  temperature: {float: [1, 2], when: {step_loss: kl}}  #! search.temperature has no effect where alpha is 0; leave it
""",
    "perhaps no step loss": """\
search:
  alpha: {choice: [0, 0.5]}
  step_loss: {choice: [kl, mse]}  #! search.step_loss has no effect where alpha is 0; add when: {alpha: [0.5]}
""",
    "pairs": """\
search:
  pair: {choice: [wrn-17-2/resnet8, vgg8/resnet8]}  #! search.pair the depth must be 6n + 4 #! search.pair vgg8
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
    "live teachers are not stored": """\
teachers:
  mode: live
  storage: float32            #! teachers.storage has no effect where mode is live
  cache_limit: 1GB            #! teachers.cache_limit has no effect where mode is live
search: {alpha: {float: [1, 2]}}
""",
    "teachers": """\
teachers:
  cache_limit: much           #! teachers.cache_limit must be a size such as 500MB or 20GB, but got 'much'
  storage: float8             #! teachers.storage must be 'float16' or 'float32', but got 'float8'
  recipe:
    precision: half           #! teachers.recipe.precision must be 'auto', 'float32' or 'bfloat16', but got 'half'
search: {alpha: {float: [1, 2]}}
""",
    "two experts": """\
teachers:
  expert:
    checkpoint: space.yaml
    seed: 3                   #! teachers.expert.seed has no effect beside checkpoint
search: {pair: wrn-16-2/resnet8, alpha: {float: [1, 2]}}
""",
    "an expert that nobody looks at": """\
teachers: {expert: {seed: 3}}  #! teachers.expert has no effect where beta is 0; leave it out
search: {beta: 0, alpha: {float: [1, 2]}}
""",
    "teachers that nobody listens to": """\
teachers: {seed: 3}           #! teachers has no effect where alpha and beta are 0; leave it out
search: {alpha: 0, beta: 0, lr: {float: [0.1, 0.2]}}
""",
    "packing": """\
resources:
  gpus_per_trial: 0.5
  trials_per_gpu: auto        #! resources.trials_per_gpu cannot stand beside gpus_per_trial
  concurrent_trials: 3        #! resources.concurrent_trials is chosen where trials_per_gpu is auto
search: {alpha: {float: [1, 2]}}
""",
    "one checkpoint for two teachers": """\
teachers: {expert: {checkpoint: space.yaml}}  #! teachers.expert.checkpoint {wrn-16-1: FILE, wrn-16-2: FILE}
search: {pair: {choice: [wrn-16-2/resnet8, wrn-16-1/resnet8]}}
""",
}
SEARCH = "search: {alpha: {float: [1, 2]}}\n"


@pytest.fixture(autouse=True)
def _in_a_directory_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


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


def noted(text):
    """The faults noted in a document, as (line, key, piece of the message)."""
    for number, line in enumerate(text.splitlines(), start=1):
        for note in line.split("#!")[1:]:
            yield number, *note.strip().split(" ", 1)


@pytest.mark.parametrize("text", FAULTY.values(), ids=FAULTY)
def test_every_fault_is_found_at_its_line_and_none_besides(text):
    with pytest.raises(UserError) as caught:
        space(text)
    lines = re.findall(r"^  line (\d+): (\S+) (.*)$", str(caught.value), flags=re.MULTILINE)
    found = sorted((int(line), key, message) for line, key, message in lines)
    expected = sorted(noted(Path("space.yaml").read_text()), key=lambda note: note[:2])
    assert [fault[:2] for fault in found] == [note[:2] for note in expected]
    messages = " ".join(message for *_, message in found)
    assert [fragment for *_, fragment in expected if fragment not in messages] == []
    assert str(caught.value).startswith(f"space.yaml has {len(expected)} error")


WITH_MAPS = "search: {pair: {choice: [wrn-16-2/resnet8, wrn-16-2/halving2]}, attention_layers: %s, beta: %s}"


@pytest.fixture
def _halving_nets(monkeypatch):
    """Architectures halvingN, for this test alone: N stages, each of which halves the image, the first one too."""
    family = registry.Family(
        re.compile(r"halving(\d)"),
        "halvingN",
        (),
        lambda match: tuple(registry.Tap(8, 2**stage) for stage in range(1, 1 + int(match[1]))),
        lambda match, geometry: pytest.fail("nothing is built here"),
    )
    families = (*registry.families(), family)
    monkeypatch.setattr(registry, "families", lambda: families)


@pytest.mark.usefixtures("_halving_nets")
@pytest.mark.parametrize(
    ("layers", "beta", "fragment"),
    [
        ("[1, 2]", "10", "wrn-16-2/halving2: the maps of layer 1 cannot be compared; wrn-16-2 has it at 1/1 of the"),
        ("{subsets: [2, 3]}", "{float: [0, 1]}", "wrn-16-2/halving2: the maps of layer 2 cannot be compared"),
        ("[3]", "{float: [0, 1]}", "wrn-16-2/halving2: halving2 has no layer 3; it has 1,2"),
    ],
)
def test_maps_that_cannot_be_compared_are_refused(layers, beta, fragment):
    with pytest.raises(UserError, match=r"space\.yaml has 1 error") as caught:
        space(WITH_MAPS % (layers, beta))
    assert f"line 3: search.pair {fragment}" in str(caught.value)


@pytest.mark.usefixtures("_halving_nets")
def test_maps_need_not_fit_where_they_are_not_compared():
    space("search: {pair: {choice: [wrn-16-2/resnet8, wrn-16-2/halving2]}, beta: 0}")
    layers = "attention_layers: {subsets: [1, 2], when: {pair: halving2/halving2}}"
    space(f"search: {{pair: {{choice: [wrn-16-2/resnet8, halving2/halving2]}}, {layers}}}")


def test_nesterov_without_momentum_is_refused():
    for recipe in ("train: {nesterov: true, momentum: 0}", "teachers: {recipe: {nesterov: true, momentum: 0}}"):
        with pytest.raises(UserError, match="nesterov"):
            space(f"{recipe}\n{SEARCH}")


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_a_shipped_space_is_valid_and_named_after_its_file(path):
    chosen = read_space(path)
    assert chosen.name == path.stem
    for _, values in draws(chosen, 50):
        assert isinstance(chosen.config(values), TrialConfig)


ANY_SPACE = pytest.mark.parametrize("source", [*SPACES, EVERY_FORM], ids=lambda s: getattr(s, "stem", "every form"))


@ANY_SPACE
def test_what_is_kept_of_a_trial_gives_its_values_again(source):
    chosen = any_space(source)
    again = space_of(plain(dict(chosen.raw)))
    for trial, values in draws(chosen, 200):
        assert chosen.decode(trial.params) == values
        assert again.config(again.decode(trial.params)) == chosen.config(values)


@ANY_SPACE
def test_what_has_an_effect_gives_what_was_stored_again(source):
    chosen = any_space(source)
    for trial, values in draws(chosen, 200):
        effective = chosen.effective(values)
        assert chosen.encode(effective) == trial.params
        # As a record keeps it.
        assert chosen.encode(json.loads(json.dumps(plain(effective)))) == trial.params


SMALL = "search: {pair: {choice: [wrn-16-2/resnet8, wrn-16-1/resnet8]}, alpha: {float: [1, 2]}}"
OF_SMALL = {"pair": "wrn-16-2/resnet8", "alpha": 1.5, "step_loss": "kl", "temperature": 4.0, "beta": 1000.0}
OF_SMALL |= {"attention_layers": [1, 2, 3], "lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "batch_size": 128}


@pytest.mark.parametrize(
    ("changes", "stored"),
    [
        ({}, {"pair": "wrn-16-2/resnet8", "alpha": 1.5}),
        ({"pair": "wrn-16-1/resnet8", "alpha": 2.0}, {"pair": "wrn-16-1/resnet8", "alpha": 2.0}),
        ({"attention_layers": (1, 2, 3)}, {"pair": "wrn-16-2/resnet8", "alpha": 1.5}),
        ({"alpha": 0.5}, None),
        ({"pair": "wrn-40-1/wrn-16-1"}, None),
        ({"temperature": 5.0}, None),
        ({"step_loss": "mse"}, None),
        ({"batch_size": 64}, None),
        ({"attention_layers": [1, 2]}, None),
    ],
)
def test_only_values_that_a_trial_of_the_space_may_have_can_be_stored(changes, stored):
    assert space(SMALL).encode({**OF_SMALL, **changes}) == stored


@pytest.mark.parametrize(("missing", "stored"), [("temperature", None), ("beta", None), ("alpha", None)])
def test_values_that_lack_one_that_has_an_effect_are_no_trial(missing, stored):
    values = {name: value for name, value in OF_SMALL.items() if name != missing}
    assert space(SMALL).encode(values) == stored


def test_a_value_that_has_no_effect_is_stored_as_the_nearest_to_its_default():
    # The step loss is searched in every trial here, and without effect in those where alpha happens to be 0.
    chosen = space("search: {step_loss: {choice: [mse, kl]}, alpha: {float: [0, 1]}}")
    stored = {"step_loss": "mse", "alpha": 0.0}
    effective = chosen.effective(chosen.decode(stored))
    assert "step_loss" not in effective
    assert chosen.encode(effective) == {"step_loss": "kl", "alpha": 0.0}


def test_a_space_of_fewer_pairs_draws_only_those_and_has_no_others():
    pairs = ["wrn-16-2/resnet8", "wrn-16-1/resnet8", "wrn-16-2/wrn-16-1"]
    chosen = space(SEARCH, f"search.pair={{choice: [{', '.join(pairs)}]}}")
    for allowed in (pairs[:1], pairs[1:], [pairs[2], pairs[0]], pairs, [*pairs, "other/pair"]):
        narrowed = chosen.with_pairs(allowed)
        left = [pair for pair in pairs if pair in allowed]
        assert narrowed.pairs() == left
        assert {values["pair"] for _, values in draws(narrowed, 60)} == set(left)
        assert str(narrowed.entries["pair"]) == " | ".join(left)
        assert [f"{config.teacher}/{config.student}" for config in narrowed.pair_configs()] == left
        assert dataclasses.replace(narrowed, entries=chosen.entries) == chosen
        outside = chosen.effective(chosen.decode({"pair": pairs[0], "alpha": 1.5}))
        assert (narrowed.encode(outside) is None) is (pairs[0] not in left)
    assert chosen.pairs() == pairs
    constant = space(SEARCH, "search.pair=wrn-16-2/resnet8")
    assert constant.with_pairs(["wrn-16-2/resnet8"]) is constant


@ANY_SPACE
def test_every_value_is_resolved_into_the_config(source):
    chosen = any_space(source)
    for _, values in draws(chosen, 50):
        config = chosen.config(values)
        method = ("step_loss", "temperature", "alpha", "beta", "attention_layers")
        assert f"{config.teacher}/{config.student}" == values["pair"]
        assert config.method == {"name": "ctkd", **{name: values[name] for name in method}}
        recipe = {name: values[name] for name in ("lr", "momentum", "weight_decay", "batch_size")}
        assert config.train == dataclasses.replace(chosen.train, **recipe)
        assert set(values) == {"pair", *method, *recipe}


def test_a_parameter_is_drawn_where_its_condition_holds_and_takes_its_default_elsewhere():
    chosen = space(f"train: {{lr: 0.07}}\n{EVERY_FORM}".replace("  lr:", "  # lr:"))
    seen = set()
    for trial, values in draws(chosen, 200):
        follows, softened = values["alpha"] > 0, values["alpha"] > 0 and values["step_loss"] == "kl"
        paired = values["step_loss"] == "kl" and values["pair"] == "wrn-16-2/resnet8"
        assert ("step_loss" in trial.params) is follows
        assert ("temperature" in trial.params) is softened
        assert ("pair" in trial.params) is (values["step_loss"] == "kl")
        assert ("attention_layers" in trial.params) is paired
        defaults = {"step_loss": "kl", "temperature": 4.0, "pair": "wrn-40-1/wrn-16-1", "attention_layers": (1, 2, 3)}
        for name in defaults.keys() - trial.params.keys():
            assert values[name] == defaults[name]
        assert values["lr"] == 0.07
        seen.add((follows, softened, paired))
    assert len(seen) >= 4


def test_conditions_decide_the_order_in_which_parameters_are_drawn():
    for trial, _ in draws(space(EVERY_FORM), 30):
        order = list(trial.params)
        for name, other in [("pair", "step_loss"), ("step_loss", "alpha"), ("lr", "attention_layers")]:
            assert {name, other} - set(order) or order.index(other) < order.index(name)


PAPER = {
    "cifar10": {"pair": "wrn-40-1/wrn-16-1", "temperature": 4.0, "alpha": 1.0, "beta": 1000.0, "lr": 0.1},
    "digits": {"pair": "wrn-16-2/resnet8", "temperature": 4.0, "alpha": 1.0, "beta": 60.0, "lr": 0.1},
    "search: {temperature: {float: [5, 9]}, alpha: {float: [0.01, 0.5]}, lr: {float: [0.3, 1], step: 0.1}, "
    "momentum: {float: [0.1, 0.95]}, batch_size: {int: [16, 100]}, step_loss: kl}": {
        "temperature": 5.0, "alpha": 0.5, "lr": 0.3, "momentum": 0.9, "batch_size": 100,
    },
}  # fmt: skip


@pytest.mark.parametrize("source", PAPER)
def test_the_first_trial_has_the_papers_settings_or_the_nearest(source):
    chosen = any_space(next((path for path in SPACES if path.stem == source), source))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna warns of a value that it must leave out
        ((trial, values),) = draws(chosen, 1, first=chosen.paper_point())
    assert {name: values[name] for name in PAPER[source]} == PAPER[source]
    assert (values["step_loss"], values["attention_layers"]) == ("kl", (1, 2, 3))
    assert trial.params == chosen.paper_point()


def test_the_papers_point_leaves_out_what_is_not_searched_beside_the_rest_of_it():
    chosen = space(
        "search: {step_loss: {choice: [kl, mse]}, lr: {float: [0.2, 0.3], when: {step_loss: mse}}, "
        "momentum: {float: [0.1, 0.2], when: {step_loss: kl}}}"
    )
    assert chosen.paper_point() == {"step_loss": "kl", "momentum": 0.2}
    assert chosen.decode(chosen.paper_point())["lr"] == 0.1
    ((trial, _),) = draws(chosen, 1, first=chosen.paper_point())
    assert trial.params == chosen.paper_point()


@pytest.mark.parametrize(
    ("changes", "hidden"),
    [
        ({}, set()),
        ({"step_loss": "mse"}, {"temperature"}),
        ({"alpha": 0.0}, {"step_loss", "temperature"}),
        ({"beta": 0.0}, {"attention_layers"}),
        ({"alpha": 0.0, "beta": 0.0}, {"step_loss", "temperature", "attention_layers"}),
        ({"alpha": 1e-9, "beta": 1e-9}, set()),
    ],
)
def test_exactly_what_has_no_effect_is_hidden(changes, hidden):
    chosen = space(EVERY_FORM)
    values = {**chosen.decode({}), "alpha": 1.0, **changes}
    assert chosen.effective(values) == {name: value for name, value in values.items() if name not in hidden}


def handed_over(chosen):
    """Everything that a search takes from a space."""
    trials = [(trial.distributions, chosen.config(values)) for trial, values in draws(chosen, 20)]
    return chosen.name, chosen.seed, chosen.budget, chosen.resources, chosen.tracking, chosen.strategy, trials


def leaves(value, place=()):
    """Every key of a YAML mapping that holds no mapping itself, with its value."""
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in leaves(inner, (*place, key))]
    return [(place, value)]


# Where another value cannot be guessed. The first key has no other valid value: it must be refused.
OTHER = {
    "when.step_loss": "mse",
    "mode": "live",
    "storage": "float32",
    "cache_limit": "5GB",
    "precision": "float32",
    "expert.seed": 1,
    "name": "other",
    "pair.choice": ["wrn-16-2/wrn-16-1", "wrn-16-1/resnet8"],
    "step_loss.choice": ["mse", "kl"],
    "attention_layers.subsets": [1, 2],
    "time_budget": "2h",
    "baselines": ["at"],
    "gpus_per_trial": 0.5,
    "trials_per_gpu": 3,
    "cpus_per_trial": 2,
    "concurrent_trials": 2,
    "address": "auto",
    "uri": "http://127.0.0.1:5000",
    "experiment": "other",
    "validation": 0.2,
    "verify": False,
    "root": "elsewhere",
    "image_size": 16,
    "channels": 1,
    "checkpoint": "space.yaml",
    "milestones": [0.5],
    "pair": "wrn-16-1/wrn-16-1",
    "step_loss": "mse",
    "attention_layers": [2],
}


def another(place, value):
    """Another value of a key."""
    if place == ("dataset", "name"):
        return "cifar10" if value == "digits" else "digits"
    known = [OTHER[dotted] for length in (2, 1) if (dotted := ".".join(place[-length:])) in OTHER]
    if known:
        return known[0]
    if isinstance(value, list):
        return [another((), item) for item in value]
    return not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else value * 0.9


def changed(place, value):
    """A key with another value, as an override."""
    return f"{'.'.join(place)}={yaml.safe_dump(another(place, value), default_flow_style=True)}"


KEYS = [(path, *leaf) for path in SPACES for leaf in leaves(read(path).data)]


@pytest.mark.parametrize(("path", "place", "value"), KEYS, ids=[f"{key[0].stem}:{'.'.join(key[1])}" for key in KEYS])
def test_no_key_of_a_shipped_space_is_ignored(path, place, value):
    if place[-2:] == ("when", "step_loss"):
        with pytest.raises(UserError, match=f"--set {'.'.join(place)}|search.temperature has no effect"):
            read_space(path, [changed(place, value)])
    else:
        assert handed_over(read_space(path, [changed(place, value)])) != handed_over(read_space(path))


SECTIONS = {
    "dataset": DatasetConfig("digits"),
    "augment": Augment(crop=1, flip=False),
    "budget": Budget(),
    "teachers": TeachersConfig(),
    "train": Recipe(),
    "confirm": Confirm(),
    "resources": Resources(),
    "tracking": Tracking(),
    "search": space_of(yaml.safe_load(HEAD + SEARCH)).decode({}),
}
POSSIBLE = [
    (place, value)
    for section, form in SECTIONS.items()
    for place, value in leaves(plain(form if isinstance(form, dict) else dataclasses.asdict(form)), (section,))
]


@pytest.mark.parametrize(("place", "value"), [(("seed",), 0), *POSSIBLE], ids=str)
def test_no_key_that_a_space_may_have_is_ignored(place, value):
    base = [f"search={{pair: wrn-16-2/resnet8, {'lr' if place[-1] == 'alpha' else 'alpha'}: {{float: [0.1, 0.2]}}}}"]
    if place[-1] in {"root", "verify"}:
        base += ["dataset.name=cifar10"]
    if place[-1] in {"image_size", "channels"}:
        base += [f"dataset={{name: folder, image_size: 32, root: {folder_of_images()}}}"]
    space(SEARCH)
    with_it = handed_over(read_space(Path("space.yaml"), [*base, changed(place, value)]))
    assert with_it != handed_over(read_space(Path("space.yaml"), base))


def folder_of_images():
    """A folder laid out for images, in this directory."""
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (Path("images") / name).mkdir(parents=True, exist_ok=True)
    return Path("images")


FOLDER = "name: x\ndataset: {name: folder, root: images, image_size: 32}\n" + SEARCH


def test_directories_and_files_are_made_absolute(tmp_path):
    folder_of_images()
    Path("expert.pt").touch()
    chosen = space(FOLDER, "teachers.expert.checkpoint={wrn-16-2: expert.pt}", "search.pair=wrn-16-2/resnet8")
    assert chosen.dataset.root == str(tmp_path / "images")
    assert chosen.teachers.expert == ExpertConfig({"wrn-16-2": str(tmp_path / "expert.pt")})
    config = chosen.config(chosen.decode({}))
    assert (config.dataset, config.teachers) == (chosen.dataset, chosen.teachers)


def test_what_is_kept_of_a_space_means_the_same_images_in_another_directory(tmp_path, monkeypatch):
    folder_of_images()
    chosen = space(FOLDER)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert space_of(plain(dict(chosen.raw))).dataset == chosen.dataset


def test_one_checkpoint_serves_one_teacher_and_a_mapping_serves_those_it_names():
    Path("expert.pt").touch()
    expert = space(SEARCH, "teachers.expert.checkpoint=expert.pt", "search.pair=wrn-16-2/resnet8").teachers.expert
    assert expert.checkpoint_of("wrn-16-2") == str(Path("expert.pt").absolute())
    pairs = "search.pair={choice: [wrn-16-2/resnet8, wrn-16-1/resnet8]}"
    expert = space(SEARCH, "teachers.expert.checkpoint={wrn-16-1: expert.pt}", pairs).teachers.expert
    assert expert.checkpoint_of("wrn-16-1") == str(Path("expert.pt").absolute())
    assert expert.checkpoint_of("wrn-16-2") is None


def test_each_teacher_is_prepared_once_and_a_weight_of_0_switches_its_part_off():
    pairs = "search.pair={choice: [wrn-16-2/resnet8, wrn-16-1/resnet8, wrn-16-2/wrn-16-1]}"
    chosen = space(SEARCH, pairs)
    teachers = chosen.teachers_by_name()
    assert {name: config.teacher for name, config in teachers.items()} == {n: n for n in ("wrn-16-1", "wrn-16-2")}
    assert not chosen.never("alpha")
    assert not chosen.never("beta")
    assert space(SEARCH, "search.beta=0").never("beta")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90), (90, 90), (0.5, 0.5), ("1.5", 1.5), ("45s", 45), ("90m", 5400), ("2h", 7200), ("1h30m", 5400),
        ("1h0m5s", 3605), (" 10s ", 10), ("", None), ("0", None), ("0h0m", None), ("-5", None), ("soon", None),
        ("30m1h", None), ("1.5h", None), ("1h30", None), ("2 h", None), (True, None), (float("nan"), None),
    ],
)  # fmt: skip
def test_durations(text, seconds):
    if seconds is not None:
        assert duration(text) == seconds
    else:
        with pytest.raises(ValueError, match="must be a duration such as 90s, 45m or 1h30m, but got"):
            duration(text)


@pytest.mark.parametrize(
    ("epochs", "grace", "factor", "rungs"),
    [
        (12, 2, 3, [2, 6]),
        (60, 3, 3, [3, 9, 27]),
        (9, 1, 3, [1, 3]),
        (10, 1, 3, [1, 3, 9]),
        (4, 4, 2, []),
        (1, 1, 2, []),
    ],
)
def test_trials_are_compared_at_rungs_below_the_last_epoch(epochs, grace, factor, rungs):
    assert Budget(epochs=epochs, grace_period=grace, reduction_factor=factor).rungs() == rungs


@pytest.mark.parametrize("name", ["a", "A-1_b.c", "9", "x" * 63])
def test_good_names(name):
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", ".a", "a/b", "..", "a b", "é", "x" * 64, "a\n", "-a"])
def test_bad_names(name):
    with pytest.raises(UserError, match="--name must be letters, digits"):
        check_name(name)
