"""SVHN's files: labels, orientation and `extra` as published, and anything else answered with a sentence."""

import numpy as np
import pytest
from scipy.io import savemat
from support.layouts import random_pixels, write_svhn

from ctkd_search import data
from ctkd_search.config import DatasetConfig
from ctkd_search.errors import UserError


def config(root, **options):
    return DatasetConfig("svhn", root=str(root), verify=False, **options)


def save(root, split, pixels, labels):
    savemat(root / f"{split}_32x32.mat", {"X": pixels, "y": labels})


def test_images_stand_upright_and_the_digit_0_has_the_label_0(tmp_path):
    pixels = random_pixels(20, 32)
    labels = np.array([10, 1, 2, 3, 4, 5, 6, 7, 8, 9] * 2)
    for split in ("train", "test"):
        save(tmp_path, split, pixels.transpose(1, 2, 3, 0), labels[:, None].astype(np.uint8))
    test = data.load_test(config(tmp_path))
    assert np.array_equal(test.pixels, pixels)
    assert test.pixels.flags["C_CONTIGUOUS"]
    assert test.labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] * 2
    assert data.load_train(config(tmp_path)).classes == tuple("0123456789")


def test_extra_follows_train_is_another_data_set_and_nothing_but_train_is_validated_without_it(tmp_path):
    write_svhn(tmp_path, train=60, test=20, extra=40)
    whole = data.describe("svhn").load_train(config(tmp_path, extra=True)).train
    train = data.describe("svhn").load_train(config(tmp_path)).train
    assert (len(train), len(whole)) == (60, 100)
    assert np.array_equal(whole.pixels[:60], train.pixels)
    prints = {extra: data.load_train(config(tmp_path, extra=extra)).fingerprint for extra in (None, False, True)}
    assert prints[None] == prints[False] != prints[True]


def test_only_the_files_that_are_read_must_be_there(tmp_path, monkeypatch):
    from torchvision.datasets import SVHN

    nowhere = {split: ["http://127.0.0.1:9/x", *known[1:]] for split, known in SVHN.split_list.items()}
    monkeypatch.setattr(SVHN, "split_list", nowhere)
    write_svhn(tmp_path, train=60)
    assert len(data.load_train(config(tmp_path)).train) == 50
    for load, split, options in ((data.load_test, "test", {}), (data.load_train, "extra", {"extra": True})):
        with pytest.raises(UserError, match=rf"missing: {split}_32x32\.mat\)"):
            load(config(tmp_path, **options))


PIXELS = random_pixels(20, 32).transpose(1, 2, 3, 0)
LABELS = np.arange(20) % 10 + 1
BROKEN = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_bytes(b"<html>404 Not Found</html>"),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "no labels": lambda path: savemat(path, {"X": PIXELS}),
    "nothing": lambda path: savemat(path, {"Z": PIXELS}),
    "too few labels": lambda path: savemat(path, {"X": PIXELS, "y": LABELS[:-1]}),
    "a label of 0": lambda path: savemat(path, {"X": PIXELS, "y": LABELS - 1}),
    "a label of 11": lambda path: savemat(path, {"X": PIXELS, "y": LABELS + 1}),
    "labels that are words": lambda path: savemat(path, {"X": PIXELS, "y": ["nine"] * 20}),
    "numbers that are no bytes": lambda path: savemat(path, {"X": PIXELS / 255, "y": LABELS}),
    "other images": lambda path: savemat(path, {"X": PIXELS[:16], "y": LABELS}),
    "images on their side": lambda path: savemat(path, {"X": PIXELS.transpose(3, 0, 1, 2), "y": LABELS}),
    "a structure": lambda path: savemat(path, {"X": {"a": PIXELS}, "y": LABELS}),
}


@pytest.mark.parametrize("split", ["train", "test", "extra"])
@pytest.mark.parametrize("breaking", BROKEN.values(), ids=BROKEN.keys())
def test_broken_file_is_named(tmp_path, breaking, split):
    write_svhn(tmp_path, train=60, test=20, extra=40)
    path = tmp_path / f"{split}_32x32.mat"
    breaking(path)
    with pytest.raises(UserError) as caught:
        (data.load_test if split == "test" else data.load_train)(config(tmp_path, extra=True))
    assert f"{path} is not a file of SVHN (" in str(caught.value)
    assert "\n" not in str(caught.value)
