"""Memory while images that do not fit into it are streamed or stored: one epoch over generated JPEG files.

Makes the files (each another picture), streams one epoch of random resized crops of them as a student would see it, and
prints the memory of this process and of those that decode, over time. Shared pages are counted once (proportional set
size). The files are removed afterwards.

    python benchmarks/streaming_memory.py --images 200000 --workers 2 [--stored 128]

Crops have 224 px. With `--stored`, the pictures are decoded once and kept on disk at this shorter side, and crops of
seven eighths of it are cut from them.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import torch
from common import hardware
from PIL import Image

from ctkd_search.config import Augment, DatasetConfig
from ctkd_search.data import load_train
from ctkd_search.data.file_stream import stream_of
from ctkd_search.data.stream import Normalise

_CLASSES, _SIDE, _BATCH = 100, 224, 128


def make(directory: Path, label: int, images: int) -> None:
    """One class: smooth pictures, each another one, of 2 to 3 kB."""
    generator = np.random.default_rng(label)
    directory.mkdir(parents=True)
    for number in range(images):
        coarse = Image.fromarray(generator.integers(0, 256, (3, 3, 3), dtype=np.uint8))
        coarse.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR).save(directory / f"{number:06d}.jpg", quality=60)


def memory() -> float:
    """Megabytes of this process and of all that it has started."""
    own = psutil.Process()
    total = 0
    for process in (own, *own.children(recursive=True)):
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue  # it has just ended
    return total / 1e6


@contextlib.contextmanager
def watched() -> Iterator[Callable[[], float]]:
    """Gives the largest memory seen so far, which is looked at every second."""
    seen, end = [memory()], threading.Event()

    def watch() -> None:
        while not end.wait(1):
            seen.append(memory())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lambda: max(seen)
    finally:
        end.set()
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--stored", type=int, metavar="SIDE", help="store the pictures at this shorter side first")
    parser.add_argument("--directory", type=Path, help="where to make the files (default: a temporary directory)")
    options = parser.parse_args()
    print(hardware())
    root = Path(tempfile.mkdtemp(prefix="streaming-", dir=options.directory))
    try:
        started = time.perf_counter()
        each = options.images // _CLASSES
        with ProcessPoolExecutor() as pool:
            for split, count in (("train", each), ("test", 1)):
                folders = [root / split / f"{label:03d}" for label in range(_CLASSES)]
                list(pool.map(make, folders, range(_CLASSES), [count] * _CLASSES))
        print(f"made {each * _CLASSES:,} files of {_SIDE} px in {time.perf_counter() - started:.0f} s")
        stream(root, options.workers, options.stored)
    finally:
        shutil.rmtree(root)


def stream(root: Path, workers: int, side: int | None) -> None:
    """Goes through one epoch and prints what it took."""
    print(f"memory: {memory():,.0f} MB before")
    started = time.perf_counter()
    size = 7 * side // 8 if side else _SIDE
    dataset = DatasetConfig(
        *("folder", str(root)),
        image_size=size,
        channels=3,
        workers=workers,
        validation=0.001,
        loading="stored" if side else "streamed",
        stored_side=side,
    )
    augment = Augment(crop=0, resized_crop=(0.08, 1.0))
    with watched() as most:
        splits = load_train(dataset, [augment], stores=root / "stores" if side else None)
    done = f"{len(splits.train):,} files {'stored' if side else 'listed'}"
    print(
        f"memory: {memory():,.0f} MB with {done} after {time.perf_counter() - started:.0f} s; at most {most():,.0f} MB"
    )
    if side:
        print(f"store: {sum(file.stat().st_size for file in root.glob('stores/*/*')) / 1e6:,.0f} MB on disk")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images = stream_of(splits.train, Normalise(splits.mean, splits.std).to(device), augment, 0, device)
    started = time.perf_counter()
    seen, measured = 0, []
    step = len(images) // 40
    for _, labels in images.batches(images.plan(0), _BATCH):
        if seen // step != (seen + len(labels)) // step:
            measured.append((seen + len(labels), memory()))
            if len(measured) % 5 == 0:
                print(f"  {measured[-1][0]:>8,} images: {measured[-1][1]:,.0f} MB", flush=True)
        seen += len(labels)
    seconds = time.perf_counter() - started
    # Of the second half: processes start in the first, and allocators find their size.
    counts, sizes = np.array(measured[len(measured) // 2 :]).T
    slope = np.polyfit(counts / 1e5, sizes, 1)[0]
    held = len(images) * size**2 * 3 / 1e6
    print(f"{seen:,} images in {seconds:.0f} s: {seen / seconds:,.0f} images a second with {workers} processes")
    print(
        f"memory: peak {max(size for _, size in measured):,.0f} MB, {slope:+.1f} MB per 100,000 images in the 2nd half"
    )
    print(f"        (all pixels in memory would take {held:,.0f} MB)")


if __name__ == "__main__":
    main()
