"""The contract of every data set. One that is new in the registry needs a case in `layouts`."""

import dataclasses
import errno
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support.layouts import BROKEN_IMAGE, CASES, CIFAR_CLASSES, OWN, Case, cifar10_config, folder_config, write_cifar10

from ctkd_search import data
from ctkd_search.config import DatasetConfig
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry

PHOTOGRAPHS = "photographs in folders"


@pytest.fixture(params=[*sorted({*CASES, *data.names()}), pytest.param(PHOTOGRAPHS, marks=pytest.mark.slow)])
def case(request, tmp_path):
    if request.param != PHOTOGRAPHS:
        return CASES[request.param](tmp_path)
    root = request.getfixturevalue("cifar_jpeg")
    return Case(folder_config(root, image_size=32), Geometry(10, 3, 32), train=80, test=80)


def images_of(*splits):
    """Every image and its label as bytes, sorted: what splits hold, regardless of their order."""
    return sorted(
        pixels.tobytes() + label.tobytes()
        for split in splits
        for pixels, label in zip(split.held().pixels, split.labels, strict=True)
    )


def test_images_are_bytes_and_labels_whole_numbers(case):
    splits = data.load_train(case.config)
    size = case.geometry.image_size
    for images in (splits.train, splits.validation, data.load_test(case.config)):
        assert images.pixels.dtype == np.uint8
        assert images.pixels.shape == (len(images), size, size, case.geometry.channels)
        assert images.labels.dtype == np.int64
        assert images.labels.shape == (len(images),)
        assert set(images.labels) == set(range(case.geometry.classes))


def test_train_and_validation_are_disjoint_and_cover_what_may_be_learned(case):
    everything = data.find(case.config).load_train(case.config).train
    splits = data.load_train(case.config)
    assert len(everything) == case.train
    assert len(splits.train) + len(splits.validation) == case.train
    assert images_of(splits.train, splits.validation) == images_of(everything)


def test_test_split_shares_no_image_with_training(case):
    splits, test = data.load_train(case.config), data.load_test(case.config)
    assert len(test) == case.test
    assert not set(images_of(test)) & set(images_of(splits.train, splits.validation))


def test_training_does_not_read_the_test_images(case):
    before = data.load_train(case.config)
    for path in case.test_files:
        path.write_bytes(BROKEN_IMAGE)
    after = data.load_train(case.config)
    assert after.fingerprint == before.fingerprint
    assert images_of(after.validation) == images_of(before.validation)
    if case.test_files:
        with pytest.raises(UserError):
            data.load_test(case.config)


def test_geometry_is_known_without_loading_an_image(case):
    assert data.load_train(case.config).geometry == case.geometry
    for path in (*case.train_files, *case.test_files):
        path.write_bytes(BROKEN_IMAGE)
    assert data.geometry(case.config) == case.geometry


def test_loading_twice_gives_the_same_fingerprint(case):
    first, second = data.load_train(case.config), data.load_train(case.config)
    assert first.fingerprint == second.fingerprint
    assert first.train.fingerprint() == second.train.fingerprint()
    assert data.load_test(case.config).fingerprint() == data.load_test(case.config).fingerprint()


def test_fingerprint_notices_a_pixel_a_label_and_the_order(case):
    train = data.load_train(case.config).train
    pixels, labels = train.pixels.copy(), train.labels.copy()
    pixels[-1, -1, -1, -1] ^= 1
    labels[0] += 1
    changed = [
        dataclasses.replace(train, pixels=pixels),
        dataclasses.replace(train, labels=labels),
        train[np.arange(len(train))[::-1]],
        train[np.arange(len(train) - 1)],
    ]
    assert len({train.fingerprint(), *(images.fingerprint() for images in changed)}) == 5


def test_validation_follows_its_share_and_seed(case):
    def held_out(**changes):
        return images_of(data.load_train(dataclasses.replace(case.config, **changes)).validation)

    assert len(held_out(validation=0.5)) > len(held_out(validation=0.2))
    assert held_out(split_seed=1) == held_out(split_seed=1)
    assert held_out(split_seed=1) != held_out(split_seed=2)


def test_a_tenth_is_held_out_unless_told_otherwise(case):
    unsaid = dataclasses.replace(case.config, validation=None)
    said = dataclasses.replace(case.config, validation=0.1)
    assert data.load_train(unsaid).fingerprint == data.load_train(said).fingerprint


def test_final_training_learns_from_everything_and_is_another_data_set(case):
    splits = data.load_train(case.config)
    final = splits.with_validation()
    assert images_of(final.train) == images_of(splits.train, splits.validation)
    assert len(final.validation) == 0
    assert final.geometry == splits.geometry
    assert final.fingerprint != splits.fingerprint
    assert (final.mean, final.std) == (splits.mean, splits.std)


def test_mean_and_deviation_are_published_or_measured_on_the_training_images(case):
    dataset, splits = data.find(case.config), data.load_train(case.config)
    channels = splits.train.pixels.reshape(-1, case.geometry.channels).astype(np.float64)
    assert splits.mean == pytest.approx(dataset.mean or channels.mean(axis=0), abs=1e-3)
    assert splits.std == pytest.approx(dataset.std or channels.std(axis=0), abs=1e-3)


def test_options_of_other_data_sets_are_named(case):
    foreign = {"root": ".", "image_size": 32, "channels": 3, "verify": True, "extra": False, "skip_broken": False}
    foreign |= {
        "options": {"size": 3},
        "resize": 64,
        "loading": "streamed",
        "workers": 1,
        "stored_side": 80,
        "stored_as": "jpeg",
    }
    assert foreign.keys() == set(data.OWN_OPTIONS)
    for option in foreign.keys() - set(data.find(case.config).options):
        found = data.problems(dataclasses.replace(case.config, **{option: foreign[option]}))
        assert [key for key, _ in found] == [option]
        assert "has no meaning" in found[0][1]
    assert data.problems(dataclasses.replace(case.config, validation=None)) == []


def test_unknown_name_is_answered_with_the_names_there_are():
    with pytest.raises(
        UserError, match=f"unknown data set 'mnist'; there are: {', '.join(data.names())}, and your own"
    ):
        data.describe("mnist")
    assert [key for key, _ in data.problems(DatasetConfig("mnist"))] == ["name"]


def test_constant_channel_does_not_make_the_deviation_zero(tmp_path):
    case = CASES["folder"](tmp_path)
    for path in case.train_files:
        Image.new("RGB", (12, 12), (10, 20, 30)).save(path)
    splits = data.load_train(case.config)
    assert splits.mean == (10, 20, 30)
    assert splits.std == (1, 1, 1)


def test_describing_imports_neither_torch_nor_numpy(tmp_path):
    # What your own module imports is yours to say.
    configs = [make(tmp_path / name).config for name, make in CASES.items() if name != OWN]
    script = (
        "import sys; from ctkd_search import data; from ctkd_search.config import DatasetConfig; "
        f"print([(data.geometry(c), data.problems(c)) for c in {configs!r}]"
        " and sorted({'torch', 'numpy', 'sklearn', 'PIL', 'torchvision'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


@pytest.mark.slow
def test_photographs_are_the_same_in_folders_and_in_batches(cifar_jpeg, tmp_path):
    whole = data.describe("folder").load_train(folder_config(cifar_jpeg, image_size=32))
    test = data.load_test(folder_config(cifar_jpeg, image_size=32))
    write_cifar10(tmp_path, (whole.train.held().pixels, whole.train.labels), (test.pixels, test.labels))
    batches = data.describe("cifar10").load_train(cifar10_config(tmp_path))
    assert whole.classes == batches.classes == CIFAR_CLASSES
    assert batches.train.fingerprint() == whole.train.held().fingerprint()
    assert data.load_test(cifar10_config(tmp_path)).fingerprint() == test.fingerprint()


@pytest.mark.parametrize("name", [name for name in data.names() if "root" in data.describe(name).options])
def test_a_directory_that_cannot_be_looked_at_is_a_fault(name, tmp_path, monkeypatch):
    long = f"{tmp_path}/{'x' * 300}"
    ((key, fault),) = data.problems(DatasetConfig(name, root=long))
    assert (key, fault) == ("root", f"cannot read {long}: File name too long")
    hidden, scandir = f"{tmp_path}/hidden", os.scandir

    def refused(path):
        if str(path) == hidden:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refused)
    assert data.problems(DatasetConfig(name, root=hidden)) == [("root", f"cannot read {hidden}: Permission denied")]
