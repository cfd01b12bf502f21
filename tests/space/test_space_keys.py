"""Every key of a space changes what a search does, and names the same files wherever it is read."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from pathlib import Path

import pytest
import yaml
from support.factories import SHIPPED
from support.layouts import BROKEN_IMAGE
from support.space_texts import HEAD, SEARCH, draws, space

from ctkd_search.config import Augment, DatasetConfig, ExpertConfig, TeachersConfig, plain
from ctkd_search.errors import UserError
from ctkd_search.recipe import Recipe
from ctkd_search.space.document import read
from ctkd_search.space.reader import read_space, space_of
from ctkd_search.space.sections import Budget, Confirm, Resources, Tracking

pytestmark = pytest.mark.usefixtures("shipped")


def handed_over(chosen):
    """Everything that a search takes from a space."""
    trials = [(trial.distributions, chosen.config(values)) for trial, values in draws(chosen, 8)]
    return chosen.name, chosen.seed, chosen.budget, chosen.resources, chosen.tracking, chosen.strategy, trials


@functools.cache
def handed_over_as_shipped(path, directory):
    """Everything that a search takes from a shipped space that is read in a directory."""
    del directory
    return handed_over(read_space(path))


def leaves(value, place=()):
    """Every key of a YAML mapping that holds no mapping itself, with its value."""
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in leaves(inner, (*place, key))]
    return [(place, value)]


# Where another value cannot be guessed. The first keys have no other valid value: they must be refused.
OTHER = {
    "when.step_loss": "mse",
    "when.class_weights": "balanced",
    "when.augment": "equally",
    "equally.sampling": None,
    "mode": "live",
    "storage": "float32",
    "map_size": 8,
    "map_storage": "uint8",
    "cache_limit": "5GB",
    "trajectory_limit": "5GB",
    "precision": "float32",
    "expert.seed": 1,
    "expert.ensemble": 2,
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
    "extra": True,
    "skip_broken": True,
    "options": {"root": "elsewhere"},
    "root": "elsewhere",
    "image_size": 48,
    "channels": 1,
    "resize": 300,
    "loading": "streamed",
    "stored_side": 40,
    "stored_as": "jpeg",
    "workers": 1,
    "resized_crop": [0.5, 1.0],
    "randaugment": {"operations": 1},
    "trivialaugment": True,
    "jitter": {"brightness": 0.1},
    "erasing": 0.1,
    "mixup": 0.3,
    "cutmix": 1.0,
    "mix_probability": 0.5,
    "sampling": "balanced",
    "dataset.test": 0.4,
    "checkpoint": "space.yaml",
    "milestones": [0.5],
    "pair": "torchvision/resnet50 -> torchvision/resnet18",
    "step_loss": "mse",
    "attention_layers": [2],
    "alpha_schedule": "linear",
    "beta_schedule": "first",
    "expert_kd": 0.3,
    "method": {"choice": ["ctkd", "kd"]},
    "schedule.choice": ["milestones", "cosine"],
    "recipe.schedule": "linear",
    "method.choice": ["kd", "ctkd", "none"],
    "step_teacher": "average",
    "attention_loss": "cosine",
    "weight.float": [0.6, 0.9],
    "optimizer": "nadamw",
    "optimizer_options": {"dampening": 0.1},
    "schedule": "cosine",
    "clip": 2.0,
    "warmup": 1.0,
    "average": 1.0,
    "label_smoothing": 0.15,
    "label_smoothing.float": [0.05, 0.2],
    "class_weights": "balanced",
    "recipe.class_weights": "effective",
    "class_weights.choice": ["none", "effective"],
    "train.schedule": "linear",
    "objectives": ["validation_loss"],
    "metrics": ["balanced_accuracy"],
    "grace_period": 2,
}
# What else a parameter needs to have an effect.
BESIDE = {
    "alpha_share": "search.alpha_schedule=first",
    "beta_share": "search.beta_schedule=first",
    "expert_temperature": "search.expert_kd=0.3",
    "expert_standardised": "search.expert_kd=0.3",
    "mix_probability": "augment.mixup=0.2",
    "per_method": "search.method={choice: [ctkd, kd]}",
}
BESIDE_IN = {
    ("train", "cooldown"): "train.schedule=constant",
    ("search", "cooldown"): "train.schedule=constant",
    ("teachers", "recipe", "cooldown"): "teachers.recipe.schedule=constant",
    ("train", "effective_beta"): "train.class_weights=effective",
    ("search", "effective_beta"): "train.class_weights=effective",
    ("teachers", "recipe", "effective_beta"): "teachers.recipe.class_weights=effective",
}


def another(place, value):
    """Another value of a key."""
    if place == ("dataset", "name"):
        return {"cifar10": "digits", "imagenet": "tiny-imagenet", "folder": "imagenet"}.get(value, "cifar10")
    if place[-1:] == ("decay",):
        return {"all": "weights", "weights": "all"}[value]
    known = [OTHER[dotted] for length in (2, 1) if (dotted := ".".join(place[-length:])) in OTHER]
    if known:
        return known[0]
    if isinstance(value, list):
        return [another((), item) for item in value]
    return not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else value * 0.9


def changed(place, value):
    """A key with another value, as an override."""
    return f"{'.'.join(place)}={yaml.safe_dump(another(place, value), default_flow_style=True)}"


KEYS = [(path, *leaf) for path in SHIPPED for leaf in leaves(read(path).data)]


@pytest.mark.parametrize(("path", "place", "value"), KEYS, ids=[f"{key[0].stem}:{'.'.join(key[1])}" for key in KEYS])
def test_no_key_of_a_shipped_space_is_ignored(path, place, value):
    if ".".join(place[-2:]) in {"when.step_loss", "when.class_weights", "when.augment", "equally.sampling"}:
        of_others = "search.(temperature|class_weights|effective_beta) has no effect|is the same augmentation"
        with pytest.raises(UserError, match=f"--set {'.'.join(place)}|{of_others}"):
            read_space(path, [changed(place, value)])
    else:
        if place == ("dataset", "root"):
            Path("elsewhere").symlink_to("my-images")
        # Of a user's own images the directory is part of what is handed over.
        directory = Path.cwd() if read(path).data["dataset"]["name"] == "folder" else None
        assert handed_over(read_space(path, [changed(place, value)])) != handed_over_as_shipped(path, directory)


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
    if place[-1] in {"root", "verify", "extra"}:
        base += ["dataset.name=svhn"]
    of_folders = {"image_size", "channels", "resize", "loading", "workers", "skip_broken", "resized_crop"}
    if place[-1] in of_folders | {"stored_side", "stored_as"}:
        base += [f"dataset={{name: folder, image_size: 32, channels: 3, root: {folder_of_images()}}}"]
    if place[-1] in {"stored_side", "stored_as"}:
        base += ["dataset.loading=stored", "augment.resized_crop=[0.1, 1.0]"]
    if place == ("dataset", "test"):
        base += [f"dataset={{name: folder, image_size: 32, channels: 3, root: {folder_of_images()}}}"]
        shutil.rmtree("images/test")
    if place[-1] == "options":
        base += ["dataset={name: 'support.layouts:own_data', options: {root: images}}"]
    base += [BESIDE[place[-1]]] if place[-1] in BESIDE else []
    base += [BESIDE_IN[place]] if place in BESIDE_IN else []
    space(SEARCH)
    if place == ("teachers", "recipe", "average"):
        with pytest.raises(UserError, match="is for the student alone"):
            read_space(Path("space.yaml"), [*base, changed(place, value)])
        return
    with_it = handed_over(read_space(Path("space.yaml"), [*base, changed(place, value)]))
    assert with_it != handed_over(read_space(Path("space.yaml"), base))


def folder_of_images():
    """A folder laid out for images, in this directory."""
    for name in ("train/a", "train/b", "test/a", "test/b"):
        (Path("images") / name).mkdir(parents=True, exist_ok=True)
        for number in range(5):
            (Path("images") / name / f"{number}.png").write_bytes(BROKEN_IMAGE)
    return Path("images")


FOLDER = "name: x\ndataset: {name: folder, root: images, image_size: 32, channels: 3}\n" + SEARCH


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
