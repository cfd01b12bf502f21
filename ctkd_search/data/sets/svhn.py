"""Street View House Numbers (Netzer et al., 2011), cropped digits: colour images of 32x32 in MATLAB's files."""

from __future__ import annotations

import functools
from pathlib import Path

from ctkd_search.config import Augment, DatasetConfig
from ctkd_search.data.dataset import DataSet, Loaded
from ctkd_search.data.images import Images
from ctkd_search.data.published import Published, download, root_of, root_problems
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry

_CLASSES = tuple("0123456789")


def _file(config: DatasetConfig, split: str) -> Path:
    """The file of a split, downloaded first if it is not there; its checksum is compared either way."""
    from torchvision.datasets import SVHN

    url, name, md5 = SVHN.split_list[split]
    root = root_of(config)
    remedy = f"put {name} (md5 {md5}, from {url}) into {root}"
    fetch = functools.partial(download, url, root / name, md5)
    return Published("SVHN", root, root, {name: md5}, fetch, remedy).ready(config.verify is not False) / name


def _not_a_split(path: Path, reason: object) -> UserError:
    return UserError(f"{path} is not a file of SVHN ({reason}); remove it to download it again")


def _images(config: DatasetConfig, split: str) -> Images:
    import numpy as np
    from scipy.io import loadmat

    path = _file(config, split)
    try:
        # Both keys alone; MATLAB's own objects in such a file are data, not code.
        content = loadmat(str(path), variable_names=("X", "y"))
    except Exception as error:  # garbage makes scipy raise anything, all of which mean the same
        raise _not_a_split(path, repr(error)) from None
    missing = [key for key in ("X", "y") if key not in content]
    if missing:
        raise _not_a_split(path, f"it has no {' and no '.join(missing)}")
    pixels, labels = content["X"], np.asarray(content["y"]).reshape(-1)
    if pixels.dtype != np.uint8 or pixels.shape[:3] != (32, 32, 3) or pixels.ndim > 4:
        raise _not_a_split(path, f"X is {pixels.dtype} of shape {pixels.shape} instead of uint8 (32, 32, 3, images)")
    # MATLAB drops a last axis of one image.
    pixels = pixels.reshape(32, 32, 3, -1)
    if pixels.shape[-1] != len(labels):
        raise _not_a_split(path, f"{pixels.shape[-1]} images and {len(labels)} labels")
    if not np.isin(labels, range(1, 11)).all():
        raise _not_a_split(path, "labels must be 1 to 10")
    # The digit 0 has the label 10 there.
    return Images(np.ascontiguousarray(pixels.transpose(3, 0, 1, 2)), labels.astype(np.int64) % 10)


def _load_train(config: DatasetConfig) -> Loaded:
    train = _images(config, "train")
    return Loaded(train.joined(_images(config, "extra")) if config.extra else train, _CLASSES)


def _class_sizes(config: DatasetConfig) -> tuple[int, int] | None:
    """Return how many images the smallest and the largest class have, as published."""
    if config.verify is False:
        return None
    return (39_115, 104_421) if config.extra else (4_659, 13_861)


# Mean and deviation are those of the 73,257 images of `train`, as most publications on SVHN have them (0.4377, 0.4438,
# 0.4728 and 0.1980, 0.2010, 0.1970 of 1), with `extra` too, so that the same student takes both.
DATASET = DataSet(
    name="svhn",
    summary="99,289 digits of house numbers of 32x32 pixels, 531,131 more with `extra`; downloaded on first use",
    options=("root", "verify", "extra"),
    augment=Augment(crop=4, flip=False),
    geometry=lambda config: Geometry(10, 3, 32),
    load_train=_load_train,
    load_test=lambda config: _images(config, "test"),
    mean=(111.6, 113.2, 120.6),
    std=(50.5, 51.3, 50.2),
    problems=root_problems,
    class_sizes=_class_sizes,
    count=lambda config: (73_257 + 531_131 * bool(config.extra), 0),
)
