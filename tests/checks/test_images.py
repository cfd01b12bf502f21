"""`check` opens the images that `run` would open, and lists what it recognised and what it ignored."""

import pytest
import yaml
from PIL import Image
from support.factories import write_space
from support.layouts import write_folder

from ctkd_search.checks.images import small_data
from ctkd_search.space.reader import read_space

pytestmark = pytest.mark.usefixtures("own_directory")


@pytest.fixture
def folder(tmp_path):
    """Writes a space on a folder of images; gives the command that checks it."""
    write_folder(tmp_path / "images", splits=("train", "val"), images=30)
    write_space(
        tmp_path / "mine.yaml",
        name="mine",
        dataset={"name": "folder", "root": "images"},
        budget={"trials": 2, "epochs": 2},
        search={"pair": "wrn-10-1/resnet8", "lr": {"float": [0.01, 0.3], "log": True}},
    )
    return tmp_path / "images"


def test_check_shows_what_it_recognised_and_what_it_decoded(call, folder):
    (folder / "train" / "ant" / "README.txt").write_text("read me")
    code, out, err = call("check", "mine.yaml", "--no-measure")
    assert (code, err) == (0, "")
    for line in (
        f"{folder}/train: 90 training images in 3 classes (90 PNG)",
        f"{folder}/val: 90 validation images in 3 classes (90 PNG)",
        f"skipped in {folder}/train: 1 text file (ant/README.txt)",
        "no test images: a search needs none, but its final training does (add some that it has not used, or set "
        "dataset.test: 0.2 beforehand, which holds out a share of the images)",
        "decoded 90 training images: every one can be read",
        "decoded 90 validation images: every one can be read",
        "images: about 90 for training, 90 held out for validation",
        "warning: train.batch_size 128 is more than the 90 training images: every epoch is one step",
    ):
        assert line in out.splitlines()


def test_check_refuses_broken_images_as_run_does_unless_they_are_passed_over(call, folder):
    path = folder / "val" / "bee" / "4.png"
    path.write_bytes(path.read_bytes()[:100])
    for command in ("check", "run"):
        code, _, err = call(command, "mine.yaml")
        assert code == 2
        assert f"1 of 90 validation images cannot be read: {path} (" in err
        assert "repair or remove them, or skip them with dataset.skip_broken: true" in err
    code, out, _ = call("check", "mine.yaml", "--no-measure", "--set", "dataset.skip_broken=true")
    assert code == 0
    assert f"decoded 90 validation images: 1 cannot be read and are skipped: {path}" in out


def test_a_share_kept_apart_is_reported(call, folder):
    code, out, _ = call("check", "mine.yaml", "--no-measure", "--test-share", "0.2")
    assert code == 0
    assert "images: about 72 for training, 90 held out for validation, 18 kept apart for the test of the final" in out
    assert "no test images" not in out
    code, _, err = call("check", "mine.yaml", "--test-share", "0.999")
    assert code == 2
    assert "--set dataset.test: dataset.test must leave at least one image of each class" in err


def test_a_final_training_without_test_images_is_refused_before_anything_is_trained(call, folder, tmp_path):
    (tmp_path / "best.yaml").write_text(
        "name: mine\npair: wrn-10-1/resnet8\nepochs: 1\nmethod: {name: kd}\n"
        "dataset: {name: folder, root: images, image_size: 12, channels: 3}\n"
    )
    code, _, err = call("train", "best.yaml")
    assert code == 2
    assert f"there are no test images for the final training: {folder} has none, and the search held none out" in err
    code, _, err = call("train", "best.yaml", "--test-share", "0.2")
    assert code == 2
    assert "--test-share is not an option of train: the search has used all its images to choose" in err
    assert not (tmp_path / "trials").exists()


@pytest.mark.parametrize(
    ("batches", "expected"),
    [
        ({}, ["train.batch_size 128", "teachers.recipe.batch_size 128"]),
        ({"train": {"batch_size": 90}, "teachers": {"recipe": {"batch_size": 90}}}, []),
        (
            {"search": {"batch_size": {"choice": [64, 128, 256]}}, "teachers": {"recipe": {"batch_size": 64}}},
            ["search.batch_size 128, 256"],
        ),
        (
            {"search": {"batch_size": {"int": [8, 91]}}, "teachers": {"recipe": {"batch_size": 64}}},
            ["search.batch_size 91"],
        ),
    ],
)
def test_batches_larger_than_the_data_are_reported(folder, tmp_path, batches, expected):
    content = yaml.safe_load((tmp_path / "mine.yaml").read_text())
    for section, values in batches.items():
        content[section] = {**content.get(section, {}), **values}
    assert small_data(read_space(write_space(tmp_path / "mine.yaml", **content)), 90) == [
        f"warning: {key} is more than the 90 training images: every epoch is one step" for key in expected
    ]


def test_images_of_16_bits_that_are_dark_are_reported_before_a_search(call, folder):
    import numpy as np

    for path in folder.glob("*/*/*.png"):
        Image.fromarray(np.asarray(Image.open(path))[..., 0].astype(np.uint16) * 16).save(path)
    code, out, _ = call("check", "mine.yaml", "--no-measure")
    assert code == 0
    assert "warning: images of 16 bits use 0 to 4080 of 65535 (90 looked at, " in out
