"""The loaders beside torchvision's: images a second, augmentation included, in rounds that take turns.

Streamed and stored: JPEG files with random resized crops and flips, decoded in every epoch, or once and kept on disk,
against ImageFolder and DataLoader with as many processes, with its default interpolation and with the same as here.
Resident: images of 32 px with padded crops and flips, against DataLoader on the same arrays.

    THP_MEM_ALLOC_ENABLE=1 python benchmarks/loader.py IMAGES [--workers 2] [--rounds 5] [--width 500]

The processes of trials have this variable, where the search starts Ray. It counts for torchvision's part too.
IMAGES is a directory with train/<class>/ of small pictures, such as CIFAR-10 as files; the large ones are made of them.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import header, spread
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from ctkd_search.config import Augment, DatasetConfig
from ctkd_search.data import load_train
from ctkd_search.data.file_stream import stream_of
from ctkd_search.data.stream import Normalise

_BATCH, _LARGE, _CLASSES = 128, 224, 10
_CPU = torch.device("cpu")
_HEADING = "\n| | torchvision with | ours | torchvision | ours / torchvision |\n|---|---|---|---|---|"


class _Arrays(Dataset[Any]):
    """Images in memory as torchvision's CIFAR-10 gives them: an array, made a picture, for each index."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray, transform: Callable[[Any], Any]) -> None:
        self.pixels, self.labels, self.transform = pixels, labels, transform

    def __len__(self) -> int:
        """How many there are."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """A view and its label."""
        return self.transform(Image.fromarray(self.pixels[index])), int(self.labels[index])


def enlarge(source: Path, target: Path, each: int, width: int) -> None:
    """Files of four to three, made of small pictures, four by four, as folders of classes."""
    height = width * 3 // 4
    for split, count in (("train", each), ("test", 1)):
        for folder in sorted((source / "train").iterdir())[:_CLASSES]:
            paths = sorted(folder.iterdir())
            (target / split / folder.name).mkdir(parents=True)
            for number in range(count):
                sheet = Image.new("RGB", (width, height))
                for place in range(16):
                    path = paths[(number + 37 * place) % len(paths)]
                    with Image.open(path) as picture:
                        tile = picture.convert("RGB").resize((width // 4 + 1, height // 4 + 1))
                    sheet.paste(tile, (width // 4 * (place % 4), height // 4 * (place // 4)))
                sheet.save(target / split / folder.name / f"{number:04d}.jpg", quality=85)


def rate(batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Images a second of a whole pass."""
    started, seen = time.perf_counter(), 0
    for _, labels in batches:
        seen += len(labels)
    return seen / (time.perf_counter() - started)


def compare(
    ours: Mapping[str, Callable[[int], Iterable[Any]]], theirs: Mapping[str, Iterable[Any]], rounds: int
) -> None:
    """Prints a row for each of ours and each of theirs: both rates, and the median of the ratios of each round."""
    for batches in (*(make(0) for make in ours.values()), *theirs.values()):
        rate(batches)  # processes start, files come into the page cache
    mine: dict[str, list[float]] = {title: [] for title in ours}
    others: dict[str, list[float]] = {title: [] for title in theirs}
    for number in range(1, rounds + 1):
        for title, make in ours.items():
            mine[title].append(rate(make(number)))
        for title, loader in theirs.items():
            others[title].append(rate(loader))
    for title, rates in mine.items():
        for other, their in others.items():
            ratios = [one / two for one, two in zip(rates, their, strict=True)]
            print(f"| {title} | {other} | {spread(rates)} | {spread(their)} | {spread(ratios)} |", flush=True)


def of_files(root: Path, workers: int, rounds: int, width: int) -> None:
    """Large files: random resized crops."""
    augment = Augment(crop=0, flip=True, resized_crop=(0.08, 1.0))
    forms: dict[str, dict[str, Any]] = {
        "streamed": {"loading": "streamed"},
        "stored": {"loading": "stored"},
        "stored as JPEG": {"loading": "stored", "stored_as": "jpeg"},
    }
    ours = {}
    for title, options in forms.items():
        dataset = DatasetConfig(
            "folder", root=str(root), image_size=_LARGE, channels=3, workers=workers, validation=0.01, **options
        )
        started = time.perf_counter()
        splits = load_train(dataset, [augment], stores=root / "stores")
        taken, stores = time.perf_counter() - started, sum(file.stat().st_size for file in root.glob("stores/*/*"))
        print(f"# {title}: loaded in {taken:.0f} s, {stores / 1e6:.0f} MB of stores so far", flush=True)
        stream = stream_of(splits.train, Normalise(splits.mean, splits.std), augment, 0, _CPU)
        ours[f"{title}, {width}x{width * 3 // 4}"] = lambda epoch, stream=stream: stream.batches(
            stream.plan(epoch), _BATCH
        )
    mean, std = ([value / 255 for value in values] for values in (splits.mean, splits.std))
    several: dict[str, Any] = {"persistent_workers": True} if workers else {}
    theirs: dict[str, Iterable[Any]] = {}
    for how in (v2.InterpolationMode.BILINEAR, v2.InterpolationMode.BICUBIC):
        transform = v2.Compose(
            [
                v2.RandomResizedCrop(_LARGE, scale=(0.08, 1.0), interpolation=how, antialias=True),
                v2.RandomHorizontalFlip(),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(mean, std),
            ]
        )
        folder = ImageFolder(str(root / "train"), transform)
        theirs[how.value] = DataLoader(folder, _BATCH, shuffle=True, num_workers=workers, **several)
    print(_HEADING)
    compare(ours, theirs, rounds)


def resident(root: Path, workers: int, rounds: int) -> None:
    """Small images in memory: padded crops."""
    dataset = DatasetConfig("folder", root=str(root), image_size=32, channels=3, loading="resident", validation=0.01)
    augment = Augment(crop=4, flip=True)
    splits = load_train(dataset, [augment])
    images: Any = splits.train
    stream = stream_of(images, Normalise(splits.mean, splits.std), augment, 0, _CPU)
    mean, std = ([value / 255 for value in values] for values in (splits.mean, splits.std))
    transform = v2.Compose(
        [
            v2.RandomCrop(32, padding=4, padding_mode="reflect"),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(mean, std),
        ]
    )
    several: dict[str, Any] = {"persistent_workers": True} if workers else {}
    arrays = _Arrays(images.pixels, images.labels, transform)
    loader: Any = DataLoader(arrays, _BATCH, shuffle=True, num_workers=workers, **several)
    print(_HEADING)
    compare({"resident, 32 px": lambda epoch: stream.batches(stream.plan(epoch), _BATCH)}, {"crop": loader}, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large", type=int, default=3000, help="large files")
    parser.add_argument("--width", type=int, default=500, help="their width in pixels")
    options = parser.parse_args()
    header("images a second, augmentation included: ours, torchvision's with DataLoader, and their ratio")
    print(f"# {options.workers} processes, batches of {_BATCH}; the median of the rounds (lowest to highest)\n")
    root = Path(tempfile.mkdtemp(prefix="loader-"))
    try:
        enlarge(options.images, root, options.large // _CLASSES, options.width)
        of_files(root, options.workers, options.rounds, options.width)
    finally:
        shutil.rmtree(root)
    resident(options.images, options.workers, options.rounds)


if __name__ == "__main__":
    main()
