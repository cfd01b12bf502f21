"""Small data sets on disk, in the layouts that the real ones have: one case for each registered data set."""

import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from ctkd_search.config import DatasetConfig
from ctkd_search.data import OwnData
from ctkd_search.geometry import Geometry

CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100_CLASSES = tuple(f"fine {number:02}" for number in range(100))
FOLDER_CLASSES = ("ant", "bee", "cow")
# As published, wnids.txt is in no order; two of these classes have the same first word.
WORDS = {"n02124075": "Egyptian cat", "n02085620": "crane, bird", "n03126707": "crane, machine", "n00001740": "entity"}
WNIDS = ("n03126707", "n02124075", "n02085620")
OWN = "your own"
# By its first bytes an image, and no more than that.
BROKEN_IMAGE = b"\x89PNG\r\n\x1a\nno picture"


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


def write_batch(path, pixels, labels, key="labels"):
    """A file as published: rows of 3,072 bytes, red first, pickled with protocol 2."""
    rows = pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps({"data": rows, key: [int(label) for label in labels]}, protocol=2))


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


def write_cifar100(root):
    """CIFAR-100's layout under `root`: 500 and 100 random images."""
    folder = root / "cifar-100-python"
    for name, each, seed in (("train", 5, 0), ("test", 1, 1)):
        pixels = random_pixels(100 * each, 32, seed)
        write_batch(folder / name, pixels, np.arange(100 * each) % 100, key="fine_labels")
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": list(CIFAR100_CLASSES)}, protocol=2))
    return folder


def write_svhn(root, **splits):
    """SVHN's files under `root`: so many random images of each split."""
    root.mkdir(parents=True, exist_ok=True)
    for seed, (split, count) in enumerate(splits.items()):
        # The images lie along the last axis, and the digit 0 has the label 10.
        labels = np.arange(count) % 10 + 1
        content = {"X": random_pixels(count, 32, seed).transpose(1, 2, 3, 0), "y": labels[:, None].astype(np.uint8)}
        savemat(root / f"{split}_32x32.mat", content, do_compression=True)


def write_tiny_imagenet(root, images=6):
    """Tiny ImageNet's unpacked layout under `root`: so many random JPEG files for each of three classes and split."""
    folder = root / "tiny-imagenet-200"
    (folder / "val" / "images").mkdir(parents=True)
    (folder / "wnids.txt").write_text("".join(f"{wnid}\n" for wnid in WNIDS))
    (folder / "words.txt").write_text("".join(f"{wnid}\t{words}\n" for wnid, words in WORDS.items()))
    pixels = iter(random_pixels(2 * images * len(WNIDS), 64))
    annotations = []
    for wnid in WNIDS:
        (folder / "train" / wnid / "images").mkdir(parents=True)
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text("")
        for number in range(images):
            Image.fromarray(next(pixels)).save(folder / "train" / wnid / "images" / f"{wnid}_{number}.JPEG")
            name = f"val_{len(annotations)}.JPEG"
            Image.fromarray(next(pixels)).save(folder / "val" / "images" / name)
            annotations.append(f"{name}\t{wnid}\t0\t0\t62\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(annotations))
    return folder


def zipped(folder):
    """A directory as a zip file beside it, as published; the directory goes."""
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as into:
        for path in sorted(folder.rglob("*")):
            into.write(path, path.relative_to(folder.parent))
    folder.rename(folder.with_name("elsewhere"))
    return archive


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


def folder_config(root, image_size=12, channels=3, **options):
    return DatasetConfig("folder", root=str(root), image_size=image_size, channels=channels, **options)


def tiny_imagenet_config(root, **options):
    return DatasetConfig("tiny-imagenet", root=str(root), verify=False, **options)


def own_data(root):
    """A data set as a user's own factory makes it: grey arrays in NumPy's files."""

    def load(split):
        try:
            with np.load(f"{root}/{split}.npz") as kept:
                return kept["pixels"], kept["labels"]
        except ValueError as error:
            raise ValueError(f"{split}.npz: {error}") from None

    return OwnData(("square", "circle"), 16, 1, lambda: load("train"), lambda: load("test"))


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


def _cifar100(root):
    folder = write_cifar100(root)
    config = DatasetConfig("cifar100", root=str(root), verify=False, validation=0.2)
    return Case(config, Geometry(100, 3, 32), 500, 100, (folder / "train", folder / "meta"), (folder / "test",))


def _svhn(root, **options):
    write_svhn(root, train=60, test=20, extra=40)
    config = DatasetConfig("svhn", root=str(root), verify=False, **options)
    train = (root / "train_32x32.mat", *([root / "extra_32x32.mat"] if options else []))
    return Case(config, Geometry(10, 3, 32), 100 if options else 60, 20, train, (root / "test_32x32.mat",))


def _tiny_imagenet(root):
    folder = write_tiny_imagenet(root)
    train, test = tuple(folder.glob("train/*/images/*")), tuple(folder.glob("val/images/*"))
    return Case(tiny_imagenet_config(root), Geometry(3, 3, 64), 18, 18, train, test)


def write_imagenet(root, images=6, size=40):
    """ImageNet's layout, as torchvision has it, under `root`: so many random JPEG files for each of three classes."""
    pixels = iter(random_pixels(2 * images * len(WNIDS), size))
    for split in ("train", "val"):
        for wnid in WNIDS:
            (root / split / wnid).mkdir(parents=True)
            for number in range(images):
                Image.fromarray(next(pixels)).save(root / split / wnid / f"{wnid}_{number}.JPEG")
    return root


def imagenet_config(root, **options):
    return DatasetConfig("imagenet", root=str(root), verify=False, **options)


def _imagenet(root):
    write_imagenet(root)
    train, test = (tuple(root.glob(f"{split}/*/*")) for split in ("train", "val"))
    return Case(imagenet_config(root, image_size=32), Geometry(3, 3, 32), 18, 18, train, test)


def _own(root):
    root.mkdir(parents=True, exist_ok=True)
    for seed, (split, count) in enumerate({"train": 40, "test": 10}.items()):
        pixels = random_pixels(count, 16, seed)[..., 0]
        np.savez(root / f"{split}.npz", pixels=pixels, labels=np.arange(count) % 2)
    config = DatasetConfig("support.layouts:own_data", options={"root": str(root)})
    return Case(config, Geometry(2, 1, 16), 40, 10, (root / "train.npz",), (root / "test.npz",))


# What a new data set supplies to inherit the contract.
CASES = {
    "cifar10": _cifar10,
    "cifar100": _cifar100,
    "digits": _digits,
    "folder": _folder,
    "imagenet": _imagenet,
    "svhn": _svhn,
    "svhn with extra": lambda root: _svhn(root, extra=True),
    "tiny-imagenet": _tiny_imagenet,
    OWN: _own,
}
