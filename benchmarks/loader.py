"""The loaders beside torchvision's: images a second, augmentation included, in rounds that take turns.

Streamed: JPEG files with random resized crops and flips, against ImageFolder and DataLoader with as many processes.
Resident: images of 32 px with padded crops and flips, against DataLoader on the same arrays.

    python benchmarks/loader.py IMAGES [--workers 2] [--rounds 5]

IMAGES is a directory with train/<class>/ of small pictures, such as CIFAR-10 as files; the large ones are made of them.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
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


def enlarge(source: Path, target: Path, each: int) -> None:
    """Files of 300 x 250 px made of small pictures, four by four, as folders of classes."""
    for split, count in (("train", each), ("test", 1)):
        for folder in sorted((source / "train").iterdir())[:_CLASSES]:
            paths = sorted(folder.iterdir())
            (target / split / folder.name).mkdir(parents=True)
            for number in range(count):
                sheet = Image.new("RGB", (300, 250))
                for place in range(16):
                    path = paths[(number + 37 * place) % len(paths)]
                    with Image.open(path) as picture:
                        sheet.paste(picture.convert("RGB").resize((75, 63)), (75 * (place % 4), 63 * (place // 4)))
                sheet.save(target / split / folder.name / f"{number:04d}.jpg", quality=85)


def rate(batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Images a second of a whole pass."""
    started, seen = time.perf_counter(), 0
    for _, labels in batches:
        seen += len(labels)
    return seen / (time.perf_counter() - started)


def compare(title: str, ours: Callable[[int], Iterable[Any]], theirs: Iterable[Any], rounds: int) -> None:
    """Prints a row: both rates, and the median of the ratios of each round."""
    rate(ours(0)), rate(theirs)  # processes start, files come into the page cache
    pairs = [(rate(ours(number)), rate(theirs)) for number in range(1, rounds + 1)]
    mine, other = zip(*pairs, strict=True)
    ratios = [one / two for one, two in pairs]
    print(f"| {title} | {spread(mine)} | {spread(other)} | {spread(ratios)} |", flush=True)


def streamed(root: Path, workers: int, rounds: int) -> None:
    """Large files: random resized crops."""
    dataset = DatasetConfig(
        "folder", root=str(root), image_size=_LARGE, channels=3, workers=workers, loading="streamed", validation=0.01
    )
    augment = Augment(crop=0, flip=True, resized_crop=(0.08, 1.0))
    splits = load_train(dataset, [augment])
    stream = stream_of(splits.train, Normalise(splits.mean, splits.std), augment, 0, _CPU)
    mean, std = ([value / 255 for value in values] for values in (splits.mean, splits.std))
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(_LARGE, scale=(0.08, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(mean, std),
        ]
    )
    folder = ImageFolder(str(root / "train"), transform)
    several: dict[str, Any] = {"persistent_workers": True} if workers else {}
    loader: Any = DataLoader(folder, _BATCH, shuffle=True, num_workers=workers, **several)
    compare("streamed, 224 px", lambda epoch: stream.batches(stream.plan(epoch), _BATCH), loader, rounds)


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
    compare("resident, 32 px", lambda epoch: stream.batches(stream.plan(epoch), _BATCH), loader, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large", type=int, default=3000, help="large files")
    options = parser.parse_args()
    header("images a second, augmentation included: ours, torchvision's with DataLoader, and their ratio")
    print(f"# {options.workers} processes, batches of {_BATCH}; the median of the rounds (lowest to highest)\n")
    print("| | ours | torchvision | ours / torchvision |\n|---|---|---|---|")
    root = Path(tempfile.mkdtemp(prefix="loader-"))
    try:
        enlarge(options.images, root, options.large // _CLASSES)
        streamed(root, options.workers, options.rounds)
    finally:
        shutil.rmtree(root)
    resident(options.images, options.workers, options.rounds)


if __name__ == "__main__":
    main()
