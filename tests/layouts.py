"""Small data sets on disk, in the layouts that the real ones have: one case for each registered data set."""

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ctkd_search.config import DatasetConfig
from ctkd_search.models import Geometry

CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FOLDER_CLASSES = ("ant", "bee", "cow")


@dataclass(frozen=True)
class Case:
    """A data set to try the contract on.

    Attributes:
        config: How a space names it.
        geometry: What must be found out about it.
        train: How many images may be learned from.
        test: How many images the test split has.
        train_files: The files of the former.
        test_files: The files of the latter.
    """

    config: DatasetConfig
    geometry: Geometry
    train: int
    test: int
    train_files: tuple[Path, ...] = ()
    test_files: tuple[Path, ...] = ()


def random_pixels(count, size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def write_batch(path, pixels, labels):
    """A file as published: rows of 3,072 bytes, red first, pickled with protocol 2."""
    rows = pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps({"data": rows, "labels": [int(label) for label in labels]}, protocol=2))


def write_cifar10(root, train=None, test=None):
    """CIFAR-10's layout under `root`, from (pixels, labels); 50 and 20 random images unless told otherwise."""
    train = train or (random_pixels(50, 32), np.arange(50) % 10)
    test = test or (random_pixels(20, 32, seed=1), np.arange(20) % 10)
    folder = root / "cifar-10-batches-py"
    pieces = zip(np.array_split(train[0], 5), np.array_split(train[1], 5), strict=True)
    for number, piece in enumerate(pieces, start=1):
        write_batch(folder / f"data_batch_{number}", *piece)
    write_batch(folder / "test_batch", *test)
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(CIFAR_CLASSES)}, protocol=2))
    return folder


def write_folder(root, splits=("train", "test"), images=6, size=12):
    """An image folder of random PNG files."""
    for seed, split in enumerate(splits):
        pixels = iter(random_pixels(images * len(FOLDER_CLASSES), size, seed))
        for name in FOLDER_CLASSES:
            (root / split / name).mkdir(parents=True)
            for number in range(images):
                Image.fromarray(next(pixels)).save(root / split / name / f"{number}.png")


def cifar10_config(root):
    return DatasetConfig("cifar10", root=str(root), verify=False, validation=0.2)


def folder_config(root, image_size=12, **options):
    return DatasetConfig("folder", root=str(root), image_size=image_size, **options)


def _digits(root):
    return Case(DatasetConfig("digits"), Geometry(10, 1, 8), train=1438, test=359)


def _cifar10(root):
    folder = write_cifar10(root)
    train = (*sorted(folder.glob("data_batch_*")), folder / "batches.meta")
    return Case(cifar10_config(root), Geometry(10, 3, 32), 50, 20, train, (folder / "test_batch",))


def _folder(root):
    write_folder(root)
    train, test = (tuple(sorted((root / split).glob("*/*"))) for split in ("train", "test"))
    return Case(folder_config(root), Geometry(3, 3, 12), 18, 18, train, test)


# What a new data set supplies to inherit the contract.
CASES = {"cifar10": _cifar10, "digits": _digits, "folder": _folder}
