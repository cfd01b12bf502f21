"""Handwritten digits (Alpaydin & Kaynak, 1998), as packaged with scikit-learn: 1,797 grey images of 8x8."""

from __future__ import annotations

from ctkd_search.config import Augment, DatasetConfig
from ctkd_search.data.dataset import DataSet, Loaded
from ctkd_search.data.images import Images
from ctkd_search.geometry import Geometry

_CLASSES = tuple("0123456789")
# scikit-learn ships one set; this much of it, always the same images, is the test split.
_TEST_SHARE, _TEST_SEED = 0.2, 1797


def _split() -> tuple[Images, Images]:
    import numpy as np
    from sklearn.datasets import load_digits

    from ctkd_search.data.split import stratified_split

    grey, labels = load_digits(return_X_y=True)
    pixels = np.rint(grey.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    images = Images(pixels, labels.astype(np.int64))
    kept, held_out = stratified_split(images.labels, _TEST_SHARE, _TEST_SEED, _CLASSES)
    return images[kept], images[held_out]


def _load_train(config: DatasetConfig) -> Loaded:
    return Loaded(_split()[0], _CLASSES)


def _load_test(config: DatasetConfig) -> Images:
    return _split()[1]


DATASET = DataSet(
    name="digits",
    summary="1,797 handwritten digits of 8x8 pixels, part of scikit-learn: needs no download",
    options=(),
    augment=Augment(crop=1, flip=False),
    geometry=lambda config: Geometry(len(_CLASSES), 1, 8),
    load_train=_load_train,
    load_test=_load_test,
    count=lambda config: (1_438, 0),
    class_sizes=lambda config: (139, 146),
)
