"""CIFAR-10 (Krizhevsky, 2009) in the files that torchvision downloads: 60,000 colour images of 32x32."""

from __future__ import annotations

from ctkd_search.config import Augment
from ctkd_search.data.cifar import Cifar
from ctkd_search.data.dataset import DataSet
from ctkd_search.data.published import root_problems
from ctkd_search.geometry import Geometry

_CIFAR = Cifar(
    title="CIFAR-10",
    torchvision="CIFAR10",
    classes=10,
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test=("test_batch",),
    meta="batches.meta",
    labels="labels",
    names="label_names",
)

DATASET = DataSet(
    name="cifar10",
    summary="60,000 photographs of 32x32 pixels in 10 classes; downloaded on first use",
    options=("root", "verify"),
    augment=Augment(crop=4, flip=True),
    geometry=lambda config: Geometry(10, 3, 32),
    load_train=_CIFAR.load_train,
    load_test=_CIFAR.load_test,
    mean=(125.3, 123.0, 113.9),
    std=(63.0, 62.1, 66.7),
    problems=root_problems,
    count=lambda config: (50_000, 0),
    class_sizes=lambda config: (5_000, 5_000) if config.verify is not False else None,
)
