"""ImageNet-1k (ILSVRC 2012; Russakovsky et al., arXiv 1409.0575): 1.28 million photographs in 1,000 classes.

The layout is torchvision's: ``root/train/<wnid>/*.JPEG`` and ``root/val/<wnid>/*.JPEG``. The published test images have
no labels; as in the literature, the validation images are the test split, and the validation split is cut off the
training images. The licence forbids to hand the images on, so that nothing is downloaded: where the published archives
lie in `root`, they are unpacked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ctkd_search.config import Augment, DatasetConfig
from ctkd_search.data.dataset import DataSet, Loaded
from ctkd_search.data.decode import listed
from ctkd_search.data.images import ImageFiles
from ctkd_search.data.published import fetching, root_of, root_problems, unpacking
from ctkd_search.data.watching import watcher
from ctkd_search.errors import UserError
from ctkd_search.geometry import MIN_SIZE, Geometry
from ctkd_search.text import one_line

_SIZE, _RESIZE = 224, 256
_CLASSES, _COUNTS = 1000, {"train": 1_281_167, "val": 50_000}
_WHAT = {"train": "training images", "val": "test images"}
_SITE = "https://image-net.org/challenges/LSVRC/2012"
_LISTED = 5


def _classes(root: Path) -> list[str]:
    """The classes by their WordNet identifiers, in alphabetical order, as torchvision numbers them."""
    train = root / "train"
    return sorted(entry.name for entry in os.scandir(train) if entry.is_dir() and entry.name[0] != ".")


def _archives() -> dict[str, str]:
    """Returns the names of the published archives."""
    from torchvision.datasets import imagenet

    return {name: file for name, (file, _) in imagenet.ARCHIVE_META.items()}


def _missing(root: Path, splits: Sequence[str]) -> str | None:
    """Returns a message on splits that are missing both as directories and as archives; None if none is."""
    archives = _archives()
    packed = [split for split in splits if not (root / split).is_dir()]
    lost = [name for name in (*packed, "devkit") if not (root / archives[name]).is_file()]
    # Without the devkit nothing can be unpacked.
    absent = packed if "devkit" in lost else [split for split in packed if split in lost]
    if not absent:
        return None
    files = [archives[name] for name in lost]
    return (
        f"ImageNet is not in {root}: it must contain the directories train and val with a directory of images for each "
        f"class, or {', '.join(archives.values())}, which its licence lets only you download, from {_SITE} "
        f"(missing: {' and '.join(absent)}, and {', '.join(files)})"
    )


def _ready(root: Path, split: str) -> Path:
    """Returns the directory of a split, unpacked first if only its archive exists."""
    folder = root / split
    if folder.is_dir():
        return folder
    missing = _missing(root, (split,))
    if missing:
        raise UserError(missing)
    with fetching("ImageNet", root):
        if folder.is_dir():
            return folder  # another process has unpacked it meanwhile
        watcher().note(f"unpacking {root / _archives()[split]}, once; this takes a while")
        try:
            _unpack(root, split)
        except (OSError, RuntimeError, EOFError, KeyError, ValueError) as error:
            reason = one_line(str(error) or repr(error))
            raise UserError(f"cannot unpack ImageNet in {root}: {reason}") from None
    return folder


def _unpack(root: Path, split: str) -> None:
    """Unpacks a split and the devkit under other names first, so that an interrupted unpacking is never used."""
    from torchvision.datasets import imagenet
    from torchvision.datasets.utils import check_integrity

    devkit, md5 = imagenet.ARCHIVE_META["devkit"]
    if not check_integrity(str(root / devkit), md5):
        raise RuntimeError(f"{root / devkit} does not have its published checksum (md5 {md5}); download it again")
    with unpacking(root / split) as temporary:
        imagenet.parse_devkit_archive(temporary, str((root / devkit).absolute()))
        within = f"{temporary.name}/{split}"
        if split == "train":
            imagenet.parse_train_archive(root, folder=within)
        else:
            imagenet.parse_val_archive(root, wnids=imagenet.load_meta_file(temporary)[1], folder=within)
        (temporary / imagenet.META_FILE).replace(root / imagenet.META_FILE)
        (temporary / split).rename(root / split)


def _names(root: Path, wnids: list[str]) -> tuple[str, ...]:
    """Returns the names of the classes if the devkit was unpacked, else their identifiers."""
    from torchvision.datasets import imagenet

    if not (root / imagenet.META_FILE).is_file():
        return tuple(wnids)
    try:
        words = imagenet.load_meta_file(root)[0]
    except Exception as error:  # torch.load raises many kinds, all of which mean the same
        reason = one_line(str(error) or repr(error))
        raise UserError(f"cannot read {root / imagenet.META_FILE} ({reason}); remove it") from None
    first = [words[wnid][0] if wnid in words else wnid for wnid in wnids]
    # Two classes are called "crane", and two "maillot".
    return tuple(
        name if first.count(name) == 1 else f"{name} ({wnid})" for name, wnid in zip(first, wnids, strict=True)
    )


def _files(config: DatasetConfig, split: str) -> ImageFiles:
    """The files of a split; files and classes in alphabetical order."""
    root = root_of(config)
    folder = _ready(root, split)
    wnids = _classes(root)
    there = {entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != "."}
    for names, message in (
        (sorted(set(wnids) - there), "has no class {}, which train has"),
        (sorted(there - set(wnids)), "has the class {}, which train has not"),
    ):
        if names:
            raise UserError(f"{folder} {message.format(listed(names, _LISTED))}")
    paths, labels = [], []
    for label, wnid in enumerate(wnids):
        files = sorted(
            Path(entry.path) for entry in os.scandir(folder / wnid) if entry.is_file() and entry.name[0] != "."
        )
        if not files:
            raise UserError(f"{folder / wnid} contains no images")
        paths += files
        labels += [label] * len(files)
    if config.verify is not False and (len(wnids), len(paths)) != (_CLASSES, _COUNTS[split]):
        raise UserError(
            f"{folder} contains {len(paths):,} images of {len(wnids):,} classes instead of {_COUNTS[split]:,} of "
            f"{_CLASSES:,}; unpack the archives again, or set dataset.verify to false if you chose among them yourself"
        )
    size = config.image_size or _SIZE
    return ImageFiles.at(
        root,
        paths,
        labels,
        classes=_names(root, wnids),
        what=_WHAT[split],
        size=size,
        channels=3,
        resize=config.resize or round(size * _RESIZE / _SIZE),
        workers=config.workers,
    )


def _load_train(config: DatasetConfig) -> Loaded:
    files = _files(config, "train")
    return Loaded(files, files.classes)


def _geometry(config: DatasetConfig) -> Geometry:
    # Before the files exist, the published numbers; the user may have chosen among the classes.
    root = root_of(config)
    return Geometry(len(_classes(root)) if (root / "train").is_dir() else _CLASSES, 3, config.image_size or _SIZE)


def _problems(config: DatasetConfig) -> Iterator[tuple[str, str]]:
    yield from root_problems(config)
    if config.image_size is not None and config.image_size < MIN_SIZE:
        yield "image_size", f"must be at least {MIN_SIZE}, but got {config.image_size}"


DATASET = DataSet(
    name="imagenet",
    summary="ImageNet-1k: 1,331,167 photographs in 1,000 classes, which you must download yourself, as "
    "`root/train/<wnid>/*` and `root/val/<wnid>/*` or as the published archives",
    options=("root", "image_size", "resize", "loading", "stored_side", "stored_as", "workers", "verify", "skip_broken"),
    augment=Augment(crop=0, flip=True, resized_crop=(0.08, 1.0)),
    geometry=_geometry,
    load_train=_load_train,
    load_test=lambda config: _files(config, "val"),
    mean=(123.675, 116.28, 103.53),
    std=(58.395, 57.12, 57.375),
    problems=_problems,
    files=lambda config: [_files(config, "train")] if (root_of(config) / "train").is_dir() else [],
    # The published numbers, unless the user has chosen among the classes.
    count=lambda config: (_COUNTS["train"], 0) if config.verify is not False else None,
    class_sizes=lambda config: (732, 1_300) if config.verify is not False else None,
    absent=lambda config: _missing(root_of(config), ("train", "val")),
)
