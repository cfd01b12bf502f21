"""CIFAR-100 (Krizhevsky, 2009) in the files that torchvision downloads: 60,000 colour images of 32x32, fine labels."""

from __future__ import annotations

from ctkd_search.config import Augment
from ctkd_search.data.cifar import Cifar
from ctkd_search.data.dataset import DataSet
from ctkd_search.data.published import root_problems
from ctkd_search.geometry import Geometry

_CIFAR = Cifar(
    title="CIFAR-100",
    torchvision="CIFAR100",
    classes=100,
    train=("train",),
    test=("test",),
    meta="meta",
    labels="fine_labels",
    names="fine_label_names",
)

# Mean and deviation are those of Wide Residual Networks (arXiv 1605.07146, its released code).
DATASET = DataSet(
    name="cifar100",
    summary="60,000 photographs of 32x32 pixels in 100 classes; downloaded on first use",
    options=("root", "verify"),
    augment=Augment(crop=4, flip=True),
    geometry=lambda config: Geometry(100, 3, 32),
    load_train=_CIFAR.load_train,
    load_test=_CIFAR.load_test,
    mean=(129.3, 124.1, 112.4),
    std=(68.2, 65.4, 70.4),
    problems=root_problems,
    count=lambda config: (50_000, 0),
    class_sizes=lambda config: (500, 500) if config.verify is not False else None,
)
