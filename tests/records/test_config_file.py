"""Configs as files: written from a trial, read again, trained with other epochs, and refused with all their faults."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import sys

import optuna
import pytest
import yaml
from support.factories import DIGITS, SHIPPED, a_search_record, a_trial
from support.layouts import write_imagenet

from ctkd_search.errors import UserError
from ctkd_search.records.config_file import config_text, read_config, with_changes
from ctkd_search.space.reader import read_space

optuna.logging.set_verbosity(optuna.logging.WARNING)

USERS_OWN = """\
from ctkd_search.config import Augment, Erasing, Jitter
from ctkd_search.data import OwnData

def make(limit=3):
    augment = Augment(mixup=0.2, trivialaugment=True, jitter=Jitter(0.5), erasing=Erasing(0.25), sampling="balanced")
    return OwnData(["a", "b"], 8, 3, train=int, augment=augment)
"""
IN_EACH_SPACE = pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
# A config, and what is wrong with it, noted behind each faulty line: #! KEY, and a piece of the message.
FAULTY = """\
name: digits
pair: wrn-16-2/resnet9        #! pair the depth must be one of 8, 14
epochs: 0                     #! epochs must be at least 1, but got 0
seed: one                     #! seed must be a whole number, but got 'one'
method:
  name: ctkd
  step_loss: l1               #! method.step_loss must be one of kl, mse, but got 'l1'
  temprature: 4               #! method.temprature is not a known key (did you mean temperature?)
  temperature: 4
  alpha: -1                   #! method.alpha must be at least 0, but got -1
  beta: much                  #! method.beta must be a number, but got 'much'
  attention_layers: [3]
train:
  lr: fast                    #! train.lr must be a number, but got 'fast'
  gamma: 2                    #! train.gamma must be in (0, 1], but got 2
teachers:
  recipe: {batch_size: 0.5}   #! teachers.recipe.batch_size must be a whole number, but got 0.5
dataset: {name: cifar1}       #! dataset.name unknown data set 'cifar1'; there are:
augment: {crop: -1}           #! augment.crop must be at least 0, but got -1
budget: {epochs: 3}           #! budget is not a known key
metrics: [ece, loss]          #! metrics must be a list of top5, balanced_accuracy, ece
objective: loss               #! objective must be one of validation_accuracy, validation_loss
"""


def the_search(**fields):
    """The search whose trials are written."""
    known = {"name": "first", "versions": {"torch": "2.9"}, "classes": ["0", "un"], "experts": {"wrn-16-2": 0.5}}
    return a_search_record(**{**known, **fields})


def the_trial(space, stored):
    """A trial that has finished two epochs."""
    epochs = [{"validation_accuracy": 0.25 * n, "validation_loss": 1 / n, "seconds": 1.0} for n in (1, 2)]
    return a_trial(3, space=space, stored=stored, epochs=epochs)


def written(directory, space, stored, **search):
    """The file of a config."""
    path = directory / "config.yaml"
    path.write_text(config_text(space, the_search(**search), the_trial(space, stored)), encoding="utf-8")
    return path


@pytest.fixture
def config(tmp_path):
    """The content of a config of the digits, and a function that writes it to a file and reads that."""
    space = read_space(DIGITS)
    content = yaml.safe_load(config_text(space, the_search(), the_trial(space, space.paper_point())))

    def read_changed(change):
        change(content)
        path = tmp_path / "changed.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return read_config(path)

    return read_changed


def refusal(path):
    """The message with which a file is refused."""
    with pytest.raises(UserError) as caught:
        read_config(path)
    return str(caught.value)


@IN_EACH_SPACE
@pytest.mark.usefixtures("shipped")
def test_a_config_is_read_exactly_as_the_trial_had_it(tmp_path, path):
    space = read_space(path)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(50):
        trial = study.ask()
        values = space.suggest(trial)
        assert read_config(written(tmp_path, space, trial.params)).config.as_dict() == space.config(values).as_dict()


def test_every_setting_of_a_space_reaches_the_config(tmp_path):
    (tmp_path / "expert.pt").touch()
    changes = {
        "seed": 5,
        "dataset": {"name": "cifar10", "root": str(tmp_path), "verify": False, "validation": 0.2, "split_seed": 3},
        "augment": {"crop": 2, "flip": False},
        "train": {"nesterov": True, "milestones": [0.25], "gamma": 0.125, "momentum": 0.5},
        "teachers": {"seed": 2, "expert": {"checkpoint": {"wrn-16-2": str(tmp_path / "expert.pt")}}},
    }
    overrides = [f"{key}={yaml.safe_dump(value, default_flow_style=True)}" for key, value in changes.items()]
    space = read_space(DIGITS, overrides)
    read = read_config(written(tmp_path, space, space.paper_point()))
    assert read.config == space.config(space.decode(space.paper_point()))
    assert read.config.teachers.expert.checkpoint_of("wrn-16-2") == str(tmp_path / "expert.pt")


@pytest.fixture
def users_own(tmp_path, monkeypatch):
    """A data set of the user's own with much augmentation of its own, and an argument that may be None."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "own_with_defaults.py").write_text(USERS_OWN)
    yield "own_with_defaults:make"
    sys.modules.pop("own_with_defaults", None)


def test_what_a_space_switches_off_of_its_own_data_set_stays_off_in_the_config(tmp_path, users_own):
    overrides = [f"dataset={{name: {users_own}, options: {{limit: null}}}}"]
    for augment in (
        "{mixup: null}",
        "{mixup: null, trivialaugment: false, jitter: null, sampling: null, erasing: null}",
        "{trivialaugment: null}",
        "{randaugment: {magnitude: 5}, erasing: {probability: 0.5, area: [0.1, 0.2]}, crop: 0}",
    ):
        space = read_space(DIGITS, [*overrides, f"augment={augment}"])
        path = written(tmp_path, space, space.paper_point())
        assert read_config(path).config == space.config(space.decode(space.paper_point()))
        assert yaml.safe_load(path.read_text())["dataset"]["options"] == {"limit": None}


@pytest.mark.parametrize(
    ("augment", "wanted"),
    [
        ("{}", {"crop": 0, "flip": True, "resized_crop": [0.08, 1.0]}),
        ("{resized_crop: null}", {"crop": 0, "flip": True, "resized_crop": None}),
        ("{crop: 2}", {"crop": 2, "flip": True}),
    ],
)
def test_random_resized_crops_that_are_switched_off_stay_off_in_the_config(tmp_path, augment, wanted):
    write_imagenet(tmp_path)
    space = read_space(DIGITS, [f"dataset={{name: imagenet, root: {tmp_path}, image_size: 8}}", f"augment={augment}"])
    path = written(tmp_path, space, space.paper_point())
    assert yaml.safe_load(path.read_text())["augment"] == wanted
    assert read_config(path).config.augment == space.augment


def test_a_config_is_called_like_its_search_and_knows_the_experiment_that_is_not(tmp_path):
    for override, name, known in (
        ([], "digits", None),
        ([], "other", "digits"),
        (["tracking.experiment=ours"], "digits", "ours"),
        (["tracking.experiment=ours"], "ours", None),
    ):
        space = read_space(DIGITS, override)
        read = read_config(written(tmp_path, space, space.paper_point(), name=name))
        assert (read.name, read.experiment) == (name, known)


def test_a_config_knows_what_was_measured_and_what_it_was_chosen_for(tmp_path):
    space = read_space(DIGITS, ["objectives=[validation_ece]", "metrics=[top5]"])
    path = written(tmp_path, space, space.paper_point())
    assert yaml.safe_load(path.read_text())["reached"]["validation_ece"] is None  # of a trial that has not measured it
    found = read_config(path)
    assert found.name == "first"
    assert (found.config.metrics, found.config.objective) == (("top5", "ece"), "validation_ece")
    assert found.config == space.config(space.decode(space.paper_point()))


def test_a_config_says_where_it_came_from_and_what_it_reached(tmp_path):
    space = read_space(DIGITS)
    path = written(tmp_path, space, space.paper_point())
    read = read_config(path)
    assert (read.name, read.fingerprint, read.experiment) == ("first", "f" * 64, "digits")
    text = path.read_text(encoding="utf-8")
    assert yaml.safe_load(text)["reached"] == {
        "search": "first",
        "trial": 3,
        "status": "finished",
        "epochs": 2,
        "validation_accuracy": 0.5,
        "validation_loss": 0.5,
        "expert_validation_accuracy": 0.5,
    }
    assert text.startswith("# Trial 3 of the search 'first', begun 2026-01-02T03:04:05+00:00.\n")
    assert "ctkd-search train THIS_FILE" in text
    assert yaml.safe_load(text)["data"]["classes"] == ["0", "un"]


def test_any_fingerprint_is_read_as_it_was_written(tmp_path):
    space = read_space(DIGITS)
    for number in range(60):
        fingerprint = hashlib.sha256(str(number).encode()).hexdigest()
        path = written(tmp_path, space, space.paper_point(), fingerprint=fingerprint)
        assert read_config(path).fingerprint == fingerprint


@pytest.mark.parametrize("name", ["1e5", "12", "1.5", "null", "true", "2026-01-02", "1e5-long"])
def test_a_name_that_reads_like_something_else_stays_a_name(tmp_path, name):
    space = read_space(DIGITS)
    assert read_config(written(tmp_path, space, space.paper_point(), name=name)).name == name


def test_all_faults_of_a_config_are_found_at_once_each_at_its_line(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(FAULTY, encoding="utf-8")
    expected = [
        (number, *note.strip().split(" ", 1))
        for number, line in enumerate(FAULTY.splitlines(), start=1)
        for note in line.split("#!")[1:]
    ]
    found = re.findall(r"^  line (\d+): (\S+) (.*)$", refusal(path), flags=re.MULTILINE)
    assert [(int(line), key) for line, key, _ in found] == [(line, key) for line, key, _ in expected]
    for (*_, message), (*_, fragment) in zip(found, expected, strict=True):
        assert fragment in message


@pytest.mark.parametrize(("text", "line"), [("", 1), ("\n# nothing\n\nseed: 1\n", 4)])
def test_what_is_missing_is_said_once(tmp_path, text, line):
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    lines = refusal(path).splitlines()[1:]
    assert sorted(lines) == [
        f"  line {line}: {key} is missing" for key in ("dataset", "epochs", "method", "name", "pair")
    ]


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (lambda c: c.pop("pair"), "pair is missing"),
        (lambda c: c["method"].pop("name"), "method.name must be one of none, "),
        (lambda c: c["method"].update(name="kdx"), "method.name must be one of none, "),
        (lambda c: c.update(method="ctkd"), "method must be a mapping with the method's name and its parameters"),
        (lambda c: c.update(pair=["a", "b"]), "pair must be TEACHER/STUDENT"),
        (lambda c: c.update(pair="lenet/resnet8"), "pair lenet/resnet8: unknown architecture 'lenet'"),
        (lambda c: c.update(name=None), "name must be text, but got None"),
        (lambda c: c.update(train=[1]), "train must be a mapping"),
        (lambda c: c["method"].update(attention_layers=[1, 4]), "pair wrn-16-2/resnet8: wrn-16-2 has no layer 4"),
        (lambda c: c["method"].update(attention_layers=3), "method.attention_layers must be a list of different"),
        (lambda c: c["method"].update(attention_layers=["x"]), "method.attention_layers must be a list of different"),
        (lambda c: c["dataset"].update(root="."), "dataset.root has no meaning for the data set 'digits'"),
        (lambda c: c.update(dataset=None), "dataset"),
        (lambda c: c["augment"].update(crop=8), "augment.crop must be less than the image size 8, but got 8"),
        (lambda c: c.update(name="../elsewhere"), "name must be letters, digits"),
        (lambda c: c.update(name=""), "name must be letters, digits"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_one_fault_is_one_error(config, change, fragment):
    with pytest.raises(UserError, match=r"changed\.yaml has 1 error:") as caught:
        config(change)
    assert f": {fragment}" in str(caught.value)


def test_layers_that_are_not_compared_may_be_anything(config):
    assert config(lambda c: c["method"].update(attention_layers=[4], beta=0)).config.method.values["beta"] == 0


def test_what_a_config_leaves_out_is_what_a_space_would_leave_out(config):
    optional = ("seed", "teachers", "train", "augment", "reached", "data", "versions")
    read = config(lambda content: [content.pop(key) for key in optional])
    space = read_space(DIGITS, ["teachers={}", "train={}", "augment="])
    assert read.config == dataclasses.replace(space.config(space.decode(space.paper_point())), seed=0)
    assert read.fingerprint is None


@IN_EACH_SPACE
def test_a_space_is_told_from_a_config(path):
    assert refusal(path) == f"{path} is a space; run it with: ctkd-search run {path}"


def test_a_file_that_is_missing_or_no_yaml_is_refused(tmp_path):
    assert refusal(tmp_path / "none.yaml") == f"there is no file {tmp_path / 'none.yaml'}"
    (tmp_path / "bad.yaml").write_text("name: [")
    assert refusal(tmp_path / "bad.yaml").startswith(f"{tmp_path / 'bad.yaml'}, line 1: not valid YAML")


@pytest.mark.parametrize(("epochs", "seed"), [(None, None), (3, None), (None, 7), (3, 0)])
def test_epochs_and_seed_alone_can_be_changed(epochs, seed):
    space = read_space(DIGITS, ["seed=4"])
    config = space.config(space.decode({}))
    changed = with_changes(config, epochs, seed)
    assert (changed.epochs, changed.seed) == (12 if epochs is None else epochs, 4 if seed is None else seed)
    assert dataclasses.replace(changed, epochs=config.epochs, seed=config.seed) == config


def test_another_seed_is_the_students_too(config):
    read = config(lambda content: content.update(student_seed=7)).config
    assert (read.seed_of_student, with_changes(read, 5, None).seed_of_student) == (7, 7)
    assert with_changes(read, None, 3).seed_of_student == 3
    assert config(lambda content: content.pop("student_seed")).config.seed_of_student == read.seed


def test_files_are_named_from_the_root(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.pt").touch()
    read = config(lambda content: content["teachers"].update(expert={"checkpoint": "own.pt"})).config
    assert read.teachers.expert.checkpoint == str(tmp_path / "own.pt")
    read = config(lambda content: content["teachers"].update(expert={"checkpoint": {"wrn-16-2": "own.pt"}})).config
    assert read.teachers.expert.checkpoint == {"wrn-16-2": str(tmp_path / "own.pt")}
    read = config(lambda content: content.update(dataset={"name": "cifar10", "root": "."})).config
    assert read.dataset.root == str(tmp_path)
