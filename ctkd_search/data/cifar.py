"""The files of CIFAR-10 and CIFAR-100 (Krizhevsky, 2009), as torchvision downloads them: pickles of 32x32 images."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctkd_search.config import DatasetConfig
from ctkd_search.data.dataset import Loaded
from ctkd_search.data.images import Images
from ctkd_search.data.published import Published, download, root_of, unpacking
from ctkd_search.errors import UserError


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


@dataclass(frozen=True)
class Cifar:
    """One of the two.

    Attributes:
        title: Usual name of the data set.
        torchvision: Name of torchvision's class, which knows addresses and checksums.
        classes: Number of classes.
        train: Files with the training images.
        test: Files with the test images.
        meta: File with the names of the classes.
        labels: Key of the labels in a batch.
        names: Key of the names of the classes.
    """

    title: str
    torchvision: str
    classes: int
    train: tuple[str, ...]
    test: tuple[str, ...]
    meta: str
    labels: str
    names: str

    def load_train(self, config: DatasetConfig) -> Loaded:
        """Reads the training images and the names of the classes."""
        folder = self._ready(config)
        names = tuple(_read(folder / self.meta).get(self.names, ()))
        if len(names) != self.classes:
            raise UserError(
                f"{folder / self.meta} names {len(names)} classes instead of {self.classes}; remove it to download it "
                "again"
            )
        return Loaded(self._images(folder, self.train), names)

    def load_test(self, config: DatasetConfig) -> Images:
        """Reads the test images."""
        return self._images(self._ready(config), self.test)

    def _ready(self, config: DatasetConfig) -> Path:
        import torchvision.datasets
        from torchvision.datasets.utils import extract_archive

        known = getattr(torchvision.datasets, self.torchvision)
        root = root_of(config)
        folder = root / known.base_folder
        published = dict([*known.train_list, *known.test_list, (known.meta["filename"], known.meta["md5"])])
        wanted = (*self.train, *self.test, self.meta)

        def fetch() -> None:
            download(known.url, root / known.filename, known.tgz_md5)
            with unpacking(folder) as temporary:
                extract_archive(str(root / known.filename), str(temporary))
                folder.mkdir(exist_ok=True)
                # One by one: some may be there, and each is whole whenever another process looks.
                for path in (temporary / known.base_folder).iterdir():
                    path.replace(folder / path.name)

        remedy = (
            f"put {known.filename} (md5 {known.tgz_md5}, from {known.url}) into {root}, or unpack it there so that "
            f"{folder} contains {', '.join(wanted)}"
        )
        files = {name: published[name] for name in wanted}
        return Published(self.title, root, folder, files, fetch, remedy).ready(config.verify is not False)

    def _images(self, folder: Path, names: tuple[str, ...]) -> Images:
        import numpy as np

        pixels, labels = [], []
        for name in names:
            batch = _read(folder / name)
            try:
                pixels.append(np.asarray(batch["data"], dtype=np.uint8).reshape(-1, 3, 32, 32))
                labels.append(np.asarray(batch[self.labels], dtype=np.int64).reshape(-1))
            except (KeyError, ValueError, TypeError, OverflowError) as error:
                raise _not_a_batch(folder / name, repr(error)) from None
            if len(pixels[-1]) != len(labels[-1]):
                raise _not_a_batch(folder / name, f"{len(pixels[-1])} images and {len(labels[-1])} labels")
            if len(labels[-1]) and not (labels[-1].min() >= 0 and labels[-1].max() < self.classes):
                raise _not_a_batch(folder / name, f"labels must be 0 to {self.classes - 1}")
        stacked = np.concatenate(pixels).transpose(0, 2, 3, 1)
        return Images(np.ascontiguousarray(stacked), np.concatenate(labels))


def _not_a_batch(path: Path, reason: object) -> UserError:
    return UserError(f"{path} is not a CIFAR batch ({reason}); remove it to download it again")


def _read(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            content = _ArraysOnly(file, encoding="latin1").load()
    except Exception as error:  # garbage makes a pickle raise anything, all of which mean the same
        raise _not_a_batch(path, repr(error)) from None
    if not isinstance(content, dict):
        raise _not_a_batch(path, f"it contains a {type(content).__name__}")
    return content
