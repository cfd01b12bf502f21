"""CIFAR-10 (Krizhevsky, 2009) in the files that torchvision downloads: 60,000 colour images of 32x32."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ctkd_search.config import Augment, DatasetConfig
from ctkd_search.data.registry import DataSet, Images, Loaded, cache_directory
from ctkd_search.errors import UserError
from ctkd_search.models.registry import Geometry

_FOLDER = "cifar-10-batches-py"
_TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
_TEST = ("test_batch",)
_META = "batches.meta"


class _ArraysOnly(pickle.Unpickler):
    """Reads the published batches, which are pickles, without letting a pickle call anything but NumPy's own."""

    _ALLOWED = frozenset(
        {("_codecs", "encode"), ("numpy", "ndarray"), ("numpy", "dtype")}
        | {
            (f"numpy.{core}.{module}", name)
            for core in ("core", "_core")
            for module, name in (
                ("multiarray", "_reconstruct"),
                ("multiarray", "scalar"),
                ("numeric", "_frombuffer"),
            )
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self._ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not part of a CIFAR batch")


def _directory(config: DatasetConfig) -> Path:
    return Path(config.root) if config.root else cache_directory() / "cifar10"


def _download_if_missing(config: DatasetConfig) -> Path:
    """The folder with the batches, downloaded first if it is not there; checksums are compared either way."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity, download_and_extract_archive

    root = _directory(config)
    folder = root / _FOLDER
    wanted = [*_TRAIN, *_TEST, _META]
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing:
        try:
            root.mkdir(parents=True, exist_ok=True)
            download_and_extract_archive(CIFAR10.url, str(root), filename=CIFAR10.filename, md5=CIFAR10.tgz_md5)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"CIFAR-10 is not in {folder} (missing: {', '.join(missing)}) and could not be downloaded "
                f"({error}); put {CIFAR10.filename} (md5 {CIFAR10.tgz_md5}) into {root}, or unpack it there so that "
                f"{folder} holds {', '.join(wanted)}"
            ) from None
    if config.verify is not False:
        published = dict([*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], CIFAR10.meta["md5"])])
        for name in wanted:
            if not check_integrity(str(folder / name), published[name]):
                raise UserError(
                    f"{folder / name} does not have its published checksum (md5 {published[name]}); remove {folder} to "
                    "download it anew, or set dataset.verify to false if you made these files yourself"
                )
    return folder


def _not_a_batch(path: Path, reason: object) -> UserError:
    return UserError(f"{path} is not a CIFAR batch ({reason}); remove it to download it anew")


def _read(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            content = _ArraysOnly(file, encoding="latin1").load()
    except Exception as error:  # garbage makes a pickle raise anything, all of which mean the same
        raise _not_a_batch(path, repr(error)) from None
    if not isinstance(content, dict):
        raise _not_a_batch(path, f"it holds a {type(content).__name__}")
    return content


def _images(folder: Path, names: tuple[str, ...]) -> Images:
    import numpy as np

    pixels, labels = [], []
    for name in names:
        batch = _read(folder / name)
        try:
            pixels.append(np.asarray(batch["data"], dtype=np.uint8).reshape(-1, 3, 32, 32))
            labels.append(np.asarray(batch["labels"], dtype=np.int64).reshape(-1))
        except (KeyError, ValueError, TypeError, OverflowError) as error:
            raise _not_a_batch(folder / name, repr(error)) from None
        if len(pixels[-1]) != len(labels[-1]):
            raise _not_a_batch(folder / name, f"{len(pixels[-1])} images and {len(labels[-1])} labels")
        if len(labels[-1]) and not (labels[-1].min() >= 0 and labels[-1].max() < 10):
            raise _not_a_batch(folder / name, "labels go beyond 0 to 9")
    stacked = np.concatenate(pixels).transpose(0, 2, 3, 1)
    return Images(np.ascontiguousarray(stacked), np.concatenate(labels))


def _load_train(config: DatasetConfig) -> Loaded:
    folder = _download_if_missing(config)
    classes = tuple(_read(folder / _META).get("label_names", ()))
    if len(classes) != 10:
        raise UserError(f"{folder / _META} names {len(classes)} classes instead of 10; remove it to download it anew")
    return Loaded(_images(folder, _TRAIN), classes)


def _load_test(config: DatasetConfig) -> Images:
    return _images(_download_if_missing(config), _TEST)


def _problems(config: DatasetConfig) -> Iterator[tuple[str, str]]:
    if config.root and Path(config.root).exists() and not Path(config.root).is_dir():
        yield "root", f"must be a directory, but {config.root} is a file"


DATASET = DataSet(
    name="cifar10",
    summary="60,000 photographs of 32x32 pixels in 10 classes; downloaded on first use",
    options=("root", "verify"),
    augment=Augment(crop=4, flip=True),
    geometry=lambda config: Geometry(10, 3, 32),
    load_train=_load_train,
    load_test=_load_test,
    mean=(125.3, 123.0, 113.9),
    std=(63.0, 62.1, 66.7),
    problems=_problems,
)
