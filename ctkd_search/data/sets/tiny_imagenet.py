"""Tiny ImageNet (Stanford's CS231N, 2015): colour photographs of 64x64 in 200 classes, as JPEG files.

The published archive has no labels for its test images. As in the literature, the validation images are the test split,
and the validation split is cut off the training images.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

from ctkd_search.config import Augment, DatasetConfig
from ctkd_search.data.dataset import DataSet, Loaded
from ctkd_search.data.decode import listed
from ctkd_search.data.images import ImageFiles
from ctkd_search.data.published import (
    check_md5,
    download,
    fetching,
    refuse_fetching,
    root_of,
    root_problems,
    unpacking,
)
from ctkd_search.data.watching import watcher
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry

_FOLDER = "tiny-imagenet-200"
_ZIP = "tiny-imagenet-200.zip"
_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
# Stanford publishes none; this is the one of its file that Avalanche, among many others, compares with.
_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
_CLASSES, _PER_CLASS, _TEST_PER_CLASS = 200, 500, 50
_LISTED = 5


def _folder(config: DatasetConfig) -> Path:
    """The unpacked archive: in the directory that the space names, or that directory itself."""
    root = root_of(config)
    return root if (root / "wnids.txt").is_file() else root / _FOLDER


def _ready(config: DatasetConfig) -> Path:
    """The unpacked archive, downloaded and unpacked first if it is not there."""
    folder = _folder(config)
    if folder.is_dir():
        return folder
    refuse_fetching("Tiny ImageNet", folder)
    archive = root_of(config) / _ZIP
    with fetching("Tiny ImageNet", root_of(config)):
        if folder.is_dir():
            return folder  # another process has unpacked it meanwhile
        if not archive.is_file():
            _download(archive)
        if config.verify is not False:
            check_md5(archive, _MD5, f"remove {archive}")
        _unpack(archive, folder)
    return folder


def _download(archive: Path) -> None:
    try:
        download(_URL, archive, _MD5)
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"Tiny ImageNet is not in {archive.parent / _FOLDER} and could not be downloaded ({error}); put {_ZIP} "
            f"(md5 {_MD5}, from {_URL}) into {archive.parent}, or unpack it there so that {archive.parent / _FOLDER} "
            "contains wnids.txt, words.txt, train and val"
        ) from None


def _unpack(archive: Path, folder: Path) -> None:
    """Unpacks the archive under another name first, so that an interrupted unpacking is never used."""
    try:
        with unpacking(folder) as temporary:
            with zipfile.ZipFile(archive) as packed:
                members = packed.infolist()
                for number, member in enumerate(members, start=1):
                    packed.extract(member, temporary)
                    watcher().progress(f"unpacking {_ZIP}", number, len(members))
            if not (temporary / _FOLDER).is_dir():
                raise UserError(f"{archive} contains no {_FOLDER}; remove it to download the published one")
            (temporary / _FOLDER).rename(folder)
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        raise UserError(f"{archive} is not a whole zip file ({error}); remove it to download it again") from None
    except OSError as error:
        raise UserError(f"cannot unpack {archive} into {archive.parent}: {error.strerror or error}") from None


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        raise UserError(f"there is no {path}; unpack {_ZIP} again") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path} ({error}); unpack {_ZIP} again") from None


def _wnids(folder: Path) -> list[str]:
    """Returns the WordNet identifiers of the classes, sorted, as torchvision's ImageFolder numbers them."""
    wnids = [line.strip() for line in _lines(folder / "wnids.txt")]
    if len(set(wnids)) < max(len(wnids), 2):
        raise UserError(f"{folder / 'wnids.txt'} must name at least 2 classes, each once; unpack {_ZIP} again")
    return sorted(wnids)


def _class_names(folder: Path, wnids: list[str]) -> tuple[str, ...]:
    """Returns the names of the classes: the first word for each, and the identifier too if two have the same."""
    words = dict(line.split("\t", 1) for line in _lines(folder / "words.txt") if "\t" in line)
    unnamed = [wnid for wnid in wnids if wnid not in words]
    if unnamed:
        raise UserError(f"{folder / 'words.txt'} has no words for {listed(unnamed, _LISTED)}; unpack {_ZIP} again")
    first = [words[wnid].split(",")[0].strip() for wnid in wnids]
    return tuple(
        name if first.count(name) == 1 else f"{name} ({wnid})" for name, wnid in zip(first, wnids, strict=True)
    )


def _files(directory: Path) -> list[Path]:
    return sorted(Path(entry.path) for entry in os.scandir(directory) if entry.is_file() and entry.name[0] != ".")


def _training_files(folder: Path, wnids: list[str], verify: bool) -> tuple[list[Path], list[int]]:
    train = folder / "train"
    _compare(train, "directory", {entry.name for entry in os.scandir(train) if entry.is_dir()}, set(wnids))
    paths, labels = [], []
    for label, wnid in enumerate(wnids):
        images = train / wnid / "images"
        files = _files(images) if images.is_dir() else []
        if not files:
            raise UserError(f"{images} contains no images; unpack {_ZIP} again")
        if verify and len(files) != _PER_CLASS:
            raise _others(f"{images} contains {len(files)} images instead of {_PER_CLASS}")
        paths += files
        labels += [label] * len(files)
    return paths, labels


def _compare(place: Path, what: str, there: set[str], named: set[str]) -> None:
    """Raises UserError unless a place has exactly the classes that wnids.txt names."""
    for wnids, message in (
        (sorted(named - there), f"{place} has no {what} for {{}}, which wnids.txt names"),
        (sorted(there - named), f"{place} has {{}}, which wnids.txt does not name"),
    ):
        if wnids:
            raise UserError(f"{message.format(listed(wnids, _LISTED))}; unpack {_ZIP} again")


def _others(fault: str) -> UserError:
    return UserError(f"{fault}; unpack {_ZIP} again, or set dataset.verify to false if you made these files yourself")


def _test_files(folder: Path, wnids: list[str], verify: bool) -> tuple[list[Path], list[int]]:
    """The annotated validation images and their labels, after all that annotations and files disagree on."""
    images, annotations = folder / "val" / "images", folder / "val" / "val_annotations.txt"
    annotated: dict[str, str] = {}
    twice = []
    for number, line in enumerate(_lines(annotations), start=1):
        name, *rest = line.split("\t")
        if not rest:
            raise UserError(f"{annotations}, line {number}: must be FILE, a tab and a class, but got {line[:60]!r}")
        if name in annotated:
            twice.append(name)
        annotated[name] = rest[0].strip()
    there = {path.name for path in _files(images)} if images.is_dir() else set()
    unknown = sorted({wnid for wnid in annotated.values() if wnid not in wnids})
    for names, message in (
        (twice, "annotates {} more than once"),
        (unknown, "has the classes {}, which wnids.txt does not name"),
        (sorted(annotated.keys() - there), f"annotates {{}}, which {images} does not have"),
        (sorted(there - annotated.keys()), f"has no class for {{}} in {images}"),
        (sorted(set(wnids) - set(annotated.values())), "has no image of the classes {}"),
    ):
        if names:
            raise UserError(f"{annotations} {message.format(listed(names, _LISTED))}; unpack {_ZIP} again")
    if verify and len(annotated) != _CLASSES * _TEST_PER_CLASS:
        raise _others(f"{annotations} has {len(annotated):,} images instead of {_CLASSES * _TEST_PER_CLASS:,}")
    names = sorted(annotated)
    return [images / name for name in names], [wnids.index(annotated[name]) for name in names]


def _load_train(config: DatasetConfig) -> Loaded:
    folder = _ready(config)
    wnids, verify = _wnids(folder), config.verify is not False
    if verify and len(wnids) != _CLASSES:
        raise _others(f"{folder / 'wnids.txt'} names {len(wnids)} classes instead of {_CLASSES}")
    classes = _class_names(folder, wnids)
    files = _training_files(folder, wnids, verify)
    return Loaded(_listed(config, files, classes, "training images"), classes)


def _load_test(config: DatasetConfig) -> ImageFiles:
    folder = _ready(config)
    wnids = _wnids(folder)
    files = _test_files(folder, wnids, config.verify is not False)
    return _listed(config, files, _class_names(folder, wnids), "test images")


def _listed(
    config: DatasetConfig, files: tuple[list[Path], list[int]], classes: tuple[str, ...], what: str
) -> ImageFiles:
    size, channels = _geometry(config).image_size, _geometry(config).channels
    return ImageFiles.at(
        _folder(config), *files, classes=classes, what=what, size=size, channels=channels, workers=config.workers
    )


def _geometry(config: DatasetConfig) -> Geometry:
    # Before the files exist, the published numbers; the user may have made another data set.
    folder = _folder(config)
    return Geometry(len(_wnids(folder)) if folder.is_dir() else _CLASSES, 3, 64)


def _problems(config: DatasetConfig) -> Iterator[tuple[str, str]]:
    found = list(root_problems(config))
    yield from found
    folder = _folder(config)
    if found or not folder.is_dir():
        return
    # The test images are needed only at the end, when an error would come too late.
    try:
        wnids, verify = _wnids(folder), config.verify is not False
        _class_names(folder, wnids)
        _training_files(folder, wnids, verify)
        _test_files(folder, wnids, verify)
    except (UserError, OSError) as error:
        yield "root", f"is not Tiny ImageNet: {error}"


# Mean and deviation of the training images' pixels, as most publications have them (0.4802, 0.4481, 0.3975 and 0.2770,
# 0.2691, 0.2821 of 1).
DATASET = DataSet(
    name="tiny-imagenet",
    summary="110,000 photographs of 64x64 pixels in 200 classes; downloaded on first use",
    options=("root", "loading", "stored_side", "stored_as", "workers", "verify", "skip_broken"),
    augment=Augment(crop=8, flip=True),
    geometry=_geometry,
    load_train=_load_train,
    load_test=_load_test,
    mean=(122.5, 114.3, 101.4),
    std=(70.6, 68.6, 71.9),
    problems=_problems,
    files=lambda config: [_load_train(config).train] if _folder(config).is_dir() else [],
    count=lambda config: (100_000, 0),
    class_sizes=lambda config: (500, 500) if config.verify is not False else None,
)
