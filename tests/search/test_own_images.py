"""Searches of images as users have them: grey and small, photographs of all sizes, and their own code's."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from support import factories, here
from support.layouts import random_pixels
from support.live import Live, running_with_epochs
from support.processes import run_alone

from ctkd_search.data import load_train
from ctkd_search.data.decode import decode_image
from ctkd_search.distill.asked import augmented_teacher
from ctkd_search.distill.build import make_trainer, teacher_runs
from ctkd_search.distill.cache import TeacherCache
from ctkd_search.distill.recording import prepare
from ctkd_search.records.store import SearchFolder
from ctkd_search.space.comparisons import each_needs
from ctkd_search.space.reader import read_space

pytestmark = pytest.mark.slow
SHORT = {
    "budget": {"trials": 2, "epochs": 1},
    "teachers": {"recipe": {"batch_size": 32}},
    "train": {"batch_size": 32},
    "resources": {"concurrent_trials": 1},
    "search": {"pair": "wrn-10-1/resnet8", "lr": {"float": [0.01, 0.1], "log": True}},
}


def command(*words, cwd, code=0):
    ended = here.command(*words, directory=cwd, whole=False)
    assert ended.code == code, ended.said
    return ended.said


def command_alone(*words, cwd, code=0):
    """A command in a process of its own, which finds the user's code as it is by then."""
    found, said = run_alone(*words, directory=cwd)
    assert found == code, said
    return said


def write_space(root, name, dataset, **searched):
    factories.write_space(
        root / "space.yaml", name=name, dataset=dataset, **{**SHORT, "search": {**SHORT["search"], **searched}}
    )
    here.fresh_store(root / "trials" / "mlflow.db")


def searched(root, name):
    trials = SearchFolder(root / "trials", name).trials()
    assert [trial.status for trial in trials] == ["finished"] * 2
    return SearchFolder(root / "trials", name).search()


def test_a_folder_of_grey_pictures_is_searched_as_it_is(tmp_path):
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    for number, (pixels, label) in enumerate(zip(images[:300], labels[:300], strict=True)):
        directory = tmp_path / "drawn" / ("test" if number % 5 == 0 else "train") / f"digit {label}"
        directory.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray((pixels.reshape(8, 8) * 15.9).astype(np.uint8))
        picture.resize((28, 28), Image.Resampling.BICUBIC).save(directory / f"{number}.png")
    for number, path in enumerate(sorted((tmp_path / "drawn" / "train").glob("*/*.png"))[::2]):
        (path.parent / "DCIM" / f"{number % 3}").mkdir(parents=True, exist_ok=True)
        path.rename(path.parent / "DCIM" / f"{number % 3}" / path.name)
    (tmp_path / "drawn" / "train" / "digit 0" / "README.txt").write_text("read me")
    (tmp_path / "drawn" / "train" / "__MACOSX").mkdir()
    write_space(tmp_path, "drawn", {"name": "folder", "root": "drawn"})
    assert "folder, 10 classes, 28x28 pixels, 1 channel\n" in command("check", "space.yaml", cwd=tmp_path)
    said = command("run", "space.yaml", cwd=tmp_path)
    assert "data: 218 training images, 22 held out for validation; 28x28 pixels, grey" in said
    assert f"skipped in {tmp_path}/drawn/train: 1 text file (digit 0/README.txt), 1 folder (__MACOSX)\n" in said
    assert searched(tmp_path, "drawn").geometry == [10, 1, 28]


def write_photographs(root, side=300):
    """Pieces of the photographs that scikit-learn brings along, no two of one size, about `side` pixels a side."""
    from sklearn.datasets import load_sample_images

    generator = np.random.default_rng(0)
    for name, photograph in zip(("temple", "flower"), load_sample_images().images, strict=True):
        for number in range(24):
            height, width = side + number, side + 40 - 2 * number
            down, right = (generator.integers(0, free) for free in (427 - height + 1, 640 - width + 1))
            directory = root / ("test" if number % 4 == 0 else "train") / name
            directory.mkdir(parents=True, exist_ok=True)
            piece = Image.fromarray(photograph[down : down + height, right : right + width])
            piece.save(directory / f"{number}.jpg")


def test_a_folder_of_photographs_of_all_sizes_asks_for_a_size_and_is_searched(tmp_path):
    write_photographs(tmp_path / "photographs")
    write_space(tmp_path, "photographs", {"name": "folder", "root": "photographs"})
    asked = command("run", "space.yaml", cwd=tmp_path, code=2)
    assert (
        "line 5: dataset.image_size is missing: the training images have 18 sizes, from 294x323 to 338x301 pixels"
        in asked
    )
    assert asked.count("\n") == 2
    assert asked.strip().endswith("set the side in pixels that they are cut and resized to, as in image_size: 64")
    command("run", "space.yaml", "--set", "dataset.image_size=32", cwd=tmp_path)
    assert searched(tmp_path, "photographs").geometry == [2, 3, 32]


def test_a_search_of_stored_pictures_that_is_killed_goes_on_and_its_student_sees_pictures_as_it_learned_them(tmp_path):
    write_photographs(tmp_path / "photographs", side=100)
    dataset = {"name": "folder", "root": "photographs", "image_size": 32, "resize": 40}
    live = Live(
        tmp_path,
        *("--trials", "2", "--epochs", "8", "--set", "budget.grace_period=8"),
        dataset={**dataset, "loading": "stored", "workers": 1},
        augment={"crop": 0, "resized_crop": [0.3, 1.0]},
        # With the default recipe the student is too sure of every view to tell one from another.
        teachers={"recipe": {"batch_size": 16, "schedule": "milestones"}},
        train={"batch_size": 16, "schedule": "milestones"},
    )
    live.start()
    live.wait_for(running_with_epochs(2))
    live.stop()
    assert live.run("--resume") == 0, live.said()
    assert "Traceback" not in live.said()
    assert "stored decoded, shorter sides of at most 40 pixels" in live.said()
    listed = command("cache", cwd=tmp_path)
    assert "36 training images decoded, whole, shorter side 40 px at most, pixels" in listed
    assert "validation images decoded, 32x32 px" in listed
    for trial in SearchFolder(tmp_path / "trials", "small").trials():
        assert (trial.status, [epoch["epoch"] for epoch in trial.epochs]) == ("finished", list(range(1, 9)))
    command("export", "small", "--format", "torch", "-o", "student.pt2", cwd=tmp_path)
    picture = tmp_path / "photographs" / "test" / "flower" / "0.jpg"
    (found,) = json.loads(command("predict", "student.pt2", picture, "--json", cwd=tmp_path))
    graph = torch.export.load(tmp_path / "student.pt2").module()

    def probability(resize):
        return graph(torch.from_numpy(decode_image(picture, 32, 3, resize))[None]).max().item()

    assert found["probability"] == pytest.approx(probability(40), abs=1e-5)
    assert probability(None) != pytest.approx(probability(40), abs=1e-4)


OWN = """
import numpy as np
from ctkd_search.data import OwnData


def pictures(root, size=16):
    def load(split):
        with np.load(f"{root}/{split}.npz") as kept:
            return kept["pixels"], kept["labels"]

    return OwnData(["dark", "light"], size, 3, train=lambda: load("train"))


def network(classes, channels, image_size):
    from torch import nn

    layers = [nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
    layers += [nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(16, classes))
"""


def test_your_own_data_set_and_network_serve_every_command(tmp_path):
    package = tmp_path / "my_package"
    (tmp_path / "kept").mkdir()
    package.mkdir()
    (package / "own.py").write_text(OWN)
    for seed, (split, count) in enumerate({"train": 100, "test": 20}.items()):
        labels = np.arange(count) % 2
        pixels = random_pixels(count, 16, seed) // 2 + 127 * labels[:, None, None, None].astype(np.uint8)
        np.savez(tmp_path / "kept" / f"{split}.npz", pixels=pixels, labels=labels)
    Image.fromarray(pixels[0]).save(tmp_path / "dark.png")
    dataset = {"name": "my_package.own:pictures", "options": {"root": "kept"}, "test": 0.2}
    write_space(tmp_path, "own", dataset, pair="wrn-10-1/my_package.own:network", attention_layers=[1, 2])
    assert "my_package.own:pictures, 2 classes, 16x16 pixels, 3 channels" in command_alone(
        "check", "space.yaml", cwd=tmp_path
    )
    said = command_alone("run", "space.yaml", cwd=tmp_path)
    apart = "20 kept apart for the test of the final training"
    assert f"data: 70 training images, 10 held out for validation, {apart}; 16x16 pixels, colour" in said
    assert searched(tmp_path, "own").classes == ["dark", "light"]
    command_alone("export", "own", "-o", "best.yaml", cwd=tmp_path)
    exported = yaml.safe_load((tmp_path / "best.yaml").read_text())["dataset"]
    assert (exported["options"], exported["test"]) == ({"root": "kept"}, 0.2)
    said = command_alone("train", "best.yaml", cwd=tmp_path)
    assert "data: 80 images, training and validation together" in said
    assert "on 20 images" in said
    assert "warning" not in said
    (found,) = json.loads(command_alone("predict", "trials/own/final-1/student.pt", "dark.png", "--json", cwd=tmp_path))
    assert found["class"] in ("dark", "light")
    # What came of it can be looked at without it.
    shutil.rmtree(package)
    command_alone("show", "own", cwd=tmp_path)
    command_alone("export", "own", cwd=tmp_path)
    for words in (("run", "space.yaml", "--trials", "3"), ("train", "best.yaml")):
        said = command_alone(*words, cwd=tmp_path, code=2)
        assert f"there is no module 'my_package' in the working directory {tmp_path}" in said


def test_the_space_for_a_transformer_as_teacher_teaches_from_photographs(tmp_path, monkeypatch):
    write_photographs(tmp_path / "my-images", side=60)
    monkeypatch.chdir(tmp_path)
    smaller = ("dataset.image_size=32", "dataset.resize=36", "dataset.workers=0", "budget.epochs=1")
    smaller += ("budget.grace_period=1", "search.warmup=0", "teachers.recipe.warmup=0", "train.batch_size=16")
    space = read_space(factories.SPACES / "own-images-transformer.yaml", (*smaller, "teachers.recipe.batch_size=16"))
    splits, cache, cpu = load_train(space.dataset, space.augmentations), TeacherCache(tmp_path), torch.device("cpu")
    assert splits.loading.startswith("streamed from their files")
    needs = {augmented_teacher(config): need for config, need in each_needs(space) if need.attention}
    for config in space.trained_teachers():
        need = needs[augmented_teacher(config)]
        for run, wanted in teacher_runs(config, splits.fingerprint, cpu, need, len(splits.train)).items():
            list(prepare(run, splits, cache, cpu, wanted))
        metrics = make_trainer(config, splits, cache, cpu).run_epoch()
        assert config.method.name == "ctkd"
        assert 0 < metrics["loss_attention"] < float("inf")
        assert 0 < metrics["loss_step"] < float("inf")
