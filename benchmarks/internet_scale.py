"""Computed costs of a search at the scale of the internet: 1,000 trials on 256 GPUs over ImageNet-21k's images.

Nothing is run. What this package costs is measured by other scripts, named beside each figure below; what a GPU does at
224 px is assumed, and may be set. Printed are times and sizes, and what the machines have.

    python benchmarks/internet_scale.py
    python benchmarks/internet_scale.py --student 5000 --expert-checkpoint
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

# Deng et al., 2009; all classes.
IMAGES, CLASSES = 14_197_122, 21_841
KEPT_LOGITS = 16
HOUR, DAY = 3600.0, 86400.0


@dataclass(frozen=True)
class Measured:
    """Costs of this package.

    Attributes:
        orchestration: Seconds of the driver's processor time for each reported epoch (orchestration.py).
        streamed: Pictures of 500x375 decoded and cut by one core in a second (loader.py).
        stored: The same from a store of pixels.
        stored_jpeg: The same from a store of JPEG.
        storing: Pictures stored by one core in a second (loader.py).
        pixels: Bytes of a stored picture.
        jpeg: Bytes of a picture stored as JPEG.
        maps: Bytes of an image's attention maps of four stages in an epoch, at 14 px and in uint8 (`check` says it).
    """

    orchestration: float = 0.0158
    streamed: float = 1024 / 2
    stored: float = 2438 / 2
    stored_jpeg: float = 1180 / 2
    storing: float = 2000 / 5 / 2
    pixels: float = 264e3
    jpeg: float = 32e3
    maps: float = 653


def line(what: str, value: str, note: str = "") -> None:
    """Prints a row of the table."""
    print(f"| {what} | {value} | {note} |")


def size(count: float) -> str:
    """Bytes with their unit."""
    units = [("TB", 1e12), ("GB", 1e9), ("MB", 1e6)]
    unit, scale = next(((unit, scale) for unit, scale in units if count >= scale), units[-1])
    return f"{count / scale:.3g} {unit}"


def duration(seconds: float) -> str:
    """Seconds with the unit that suits them."""
    units = [("days", DAY), ("hours", HOUR), ("minutes", 60.0)]
    unit, scale = next(((unit, scale) for unit, scale in units if seconds >= 2 * scale), ("seconds", 1.0))
    return f"{seconds / scale:.3g} {unit}"


def show(options: argparse.Namespace, measured: Measured) -> None:
    """Prints the table."""
    epochs = options.trials * options.epochs * options.share
    epoch = IMAGES / options.student
    searched = epochs * epoch / options.gpus
    print("| | | |\n| --- | --- | --- |")
    line(
        "training, all trials", duration(searched), f"{epochs:,.0f} epochs of {duration(epoch)} on {options.gpus} GPUs"
    )
    taught = options.epochs * IMAGES / options.teacher
    if options.expert_checkpoint:
        line("recording an expert of one's own", duration(options.epochs * IMAGES / options.recording), "on one GPU")
    else:
        line("training the teacher before the first trial", duration(taught), "on one GPU, while the others wait")
    logits = KEPT_LOGITS * 4 + 6
    line("the teacher's logits", size(options.epochs * IMAGES * logits), f"top {KEPT_LOGITS}, all epochs")
    line("with all logits", size(options.epochs * IMAGES * CLASSES * 2), "float16")
    line("attention maps", size(options.epochs * IMAGES * measured.maps), "uint8, 14 px, all epochs")
    for name, rate, stored in (
        ("files", measured.streamed, None),
        ("a store of pixels", measured.stored, measured.pixels),
        ("a store of JPEG", measured.stored_jpeg, measured.jpeg),
    ):
        needed = options.student / rate
        line(f"cores for each GPU, from {name}", f"{needed:.1f}", f"{options.cores} there are")
        if stored is not None:
            line(f"{name}", size(IMAGES * stored), f"a node has {size(options.memory)} of memory")
            all_gpus = options.gpus * options.student * stored
            line(f"read from {name} in a second", size(all_gpus), "by all GPUs, where nothing stays in memory")
    line("writing the store once", duration(IMAGES / measured.storing / options.cores / 8), "by one node of eight GPUs")
    busy = measured.orchestration * options.gpus / epoch
    line("the driver's processor", f"{100 * busy:.2g} % of a core", f"{options.gpus / epoch:.2g} epochs a second end")
    shortest = measured.orchestration * options.gpus
    line("a driver is busy all the time", f"at epochs of {duration(shortest)}", f"{options.gpus} GPUs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--gpus", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=30, help="of a trial that is not stopped early")
    parser.add_argument("--share", type=float, default=0.45, help="of all epochs that early stopping leaves")
    parser.add_argument("--cores", type=int, default=16, help="for each GPU")
    parser.add_argument("--memory", type=float, default=1e12, help="bytes of a node's memory")
    for name, rate, what in (
        ("student", 2500, "trained by the student on one GPU, as of a ResNet-18"),
        ("teacher", 1200, "trained by the teacher, as of a ResNet-50"),
        ("recording", 3600, "seen by the teacher without training"),
    ):
        parser.add_argument(f"--{name}", type=float, default=rate, help=f"images a second {what} (assumed)")
    parser.add_argument("--expert-checkpoint", action="store_true", help="the expert is the user's own, not trained")
    options = parser.parse_args()
    print(f"computed: {options.trials:,} trials, up to {options.epochs} epochs, {options.gpus} GPUs, {IMAGES:,} images")
    show(options, Measured())


if __name__ == "__main__":
    main()
