"""Shares that are held out: the test images of a data set without any, and shares that leave nothing."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from support.layouts import folder_config, random_pixels, write_folder

from ctkd_search import data
from ctkd_search.config import DatasetConfig
from ctkd_search.data import OwnData
from ctkd_search.errors import UserError


def pixels(images):
    return {image.tobytes() for image in images.held().pixels}


@pytest.fixture
def folder(tmp_path):
    """30 images of each of three classes, and no test images."""
    write_folder(tmp_path, splits=("train",), images=30, size=8)
    return folder_config(tmp_path, image_size=8)


def own_without_test():
    images, labels = random_pixels(60, 12), np.arange(60) % 2
    return OwnData(("a", "b"), 12, 3, train=lambda: (images, labels))


OWN = DatasetConfig("test_shares:own_without_test")


def split(config):
    """The images of a data set: those learned from, held out, and kept apart."""
    splits = data.load_train(config)
    test = data.load_test(config)
    assert splits.kept_apart == len(test)
    return splits.train, splits.validation, test


@pytest.mark.parametrize("which", ["resident", "streamed", "own"])
def test_test_images_are_cut_off_first_and_no_split_shares_one(folder, which, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    config, each = (OWN, 30) if which == "own" else (dataclasses.replace(folder, loading=which), 30)
    config = dataclasses.replace(config, test=0.2, validation=0.3)
    assert data.problems(config) == []
    train, validation, test = split(config)
    classes = len(set(train.labels.tolist()))
    assert [np.bincount(part.labels).tolist() for part in (train, validation, test)] == [
        [15] * classes,
        [9] * classes,
        [6] * classes,
    ]
    everything = [pixels(part) for part in (train, validation, test)]
    assert len(set.union(*everything)) == sum(map(len, everything)) == each * classes
    if which != "own":
        assert data.sizes(config) == (45, 27)


def test_test_images_depend_on_nothing_but_the_share(folder):
    config = dataclasses.replace(folder, test=0.2)
    first = data.load_test(config)
    for changes in ({"split_seed": 5}, {"validation": 0.4}, {"loading": "streamed"}, {"skip_broken": True}):
        again = data.load_test(dataclasses.replace(config, **changes))
        assert np.array_equal(again.held().pixels, first.pixels)
    assert pixels(data.load_test(dataclasses.replace(config, test=0.3))) != pixels(first)


def test_what_is_kept_apart_is_part_of_what_a_search_began_with(folder):
    without, with_it = data.load_train(folder), data.load_train(dataclasses.replace(folder, test=0.2))
    assert without.fingerprint != with_it.fingerprint
    assert (without.kept_apart, with_it.kept_apart) == (0, 18)
    everything = with_it.with_validation()
    assert len(everything.train) == 72
    assert not pixels(everything.train) & pixels(data.load_test(dataclasses.replace(folder, test=0.2)))


def test_broken_images_do_not_move_the_cut(folder, tmp_path):
    config = dataclasses.replace(folder, test=0.2, skip_broken=True)
    before = split(config)
    for name in ("ant/3.png", "bee/7.png", "cow/11.png", "cow/12.png", "ant/25.png"):
        path = tmp_path / "train" / name
        path.write_bytes(path.read_bytes()[:60])
    after = split(config)
    assert pixels(after[2]) <= pixels(before[2])
    assert not pixels(after[2]) & (pixels(after[0]) | pixels(after[1]))
    assert sum(map(len, after)) == 85


def test_a_test_share_beside_test_images_is_refused(tmp_path):
    write_folder(tmp_path)
    ((key, message),) = data.problems(folder_config(tmp_path, test=0.2))
    assert (key, message) == ("test", f"has no effect, because {tmp_path} has its own test images; leave it out")
    ((key, message),) = data.problems(DatasetConfig("digits", test=0.2))
    assert (key, message) == ("test", "has no effect, because digits has its own test images; leave it out")


@pytest.mark.parametrize(
    ("shares", "key", "phrase"),
    [
        ({"validation": 0.9999}, "validation", "of the 30 images of each 30 for validation (0.9999) are taken"),
        ({"validation": 0.99}, "validation", "of the 30 images of each 30 for validation (0.99) are taken"),
        ({"validation": 0.01}, "validation", "must be at least one image of a class, but 0.01 of 30 is 0.3"),
        ({"test": 0.01}, "test", "must be at least one image of a class, but 0.01 of 30 is 0.3"),
        ({"test": 0.95}, "test", "28 for the test (0.95) and 3 for validation (0.1) are taken"),
        ({"test": 0.5, "validation": 0.5}, "validation", "15 for the test (0.5) and 15 for validation (0.5) are taken"),
    ],
)
def test_shares_that_leave_nothing_are_refused_with_the_numbers(folder, shares, key, phrase):
    config = dataclasses.replace(folder, **shares)
    ((found, message),) = data.problems(config)
    assert found == key
    assert phrase in message
    with pytest.raises(UserError, match=rf"dataset\.{key} must"):
        data.load_train(config)


@pytest.mark.parametrize("shares", [{"validation": 0.96}, {"validation": 0.02}, {"test": 0.5, "validation": 0.45}])
def test_shares_that_leave_one_image_are_taken(folder, shares):
    config = dataclasses.replace(folder, **shares)
    assert data.problems(config) == []
    splits = data.load_train(config)
    for part in (splits.train, splits.validation):
        assert np.bincount(part.labels, minlength=3).min() >= 1


@pytest.mark.parametrize("share", [0.9999, 0.997, 0.001])
def test_every_data_set_refuses_such_a_share_in_check_and_in_run_alike(share):
    config = DatasetConfig("digits", validation=share)
    ((key, message),) = data.problems(config)
    assert key == "validation"
    with pytest.raises(UserError) as caught:
        data.load_train(config)
    assert str(caught.value) == f"dataset.validation {message}"
    for name in ("cifar10", "cifar100", "svhn", "tiny-imagenet", "imagenet"):
        keys = [key for key, _ in data.problems(DatasetConfig(name, validation=0.99999))]
        assert keys == ["validation"]


def test_a_class_smaller_than_its_share_still_gives_one_image_where_nothing_is_said(tmp_path):
    write_folder(tmp_path, splits=("train",), images=2, size=8)
    splits = data.load_train(folder_config(tmp_path, image_size=8))
    assert (len(splits.train), len(splits.validation)) == (3, 3)
    ((_, message),) = data.problems(folder_config(tmp_path, image_size=8, test=0.3))
    assert "has too few images of 'ant' (2), 'bee' (2), 'cow' (2); a validation split and dataset.test need" in message
