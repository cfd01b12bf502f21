"""Attention maps that are recorded smaller, or in bytes: errors of the loss and of its gradient, and the room taken.

    python benchmarks/map_storage.py IMAGES [--pair resnet56/resnet20] [--epochs 6] [--count 2000]

IMAGES is a directory of photographs, IMAGES/train/<class>/*. An expert is trained on a part of them for some epochs, a
student for one; then the student's attention loss is computed with the expert's maps in every form. The error of a
gradient is its difference to that with the maps themselves, relative to its length, over all parameters of the student
and for batches of 128; `cosine` is that of the angle between both.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from cifar_search import link_subset
from common import header, spread
from torch import Tensor

from ctkd_search.config import Augment, DatasetConfig
from ctkd_search.data import load_train
from ctkd_search.data.stream import Normalise, Stream
from ctkd_search.distill.lesson import plain_lessons
from ctkd_search.distill.losses import attention, attention_map
from ctkd_search.distill.stored_maps import pack_maps, unpack_maps
from ctkd_search.distill.teachers import ScratchTeacher
from ctkd_search.models import build
from ctkd_search.models.network import TappedNetwork
from ctkd_search.pairs import split_pair
from ctkd_search.recipe import Recipe
from ctkd_search.storage import MapForm

_BATCH = 128
_FORMS = {
    "float16": MapForm(),
    "bytes": MapForm(None, "uint8"),
    "at most 16x16": MapForm(16),
    "at most 16x16, bytes": MapForm(16, "uint8"),
    "at most 8x8, bytes": MapForm(8, "uint8"),
    "at most 4x4, bytes": MapForm(4, "uint8"),
}


def trained(name: str, stream: Stream, geometry: object, epochs: int) -> TappedNetwork:
    """A network that has learned from the stream alone."""
    network = build(name, geometry, 0)  # type: ignore[arg-type]
    teacher = ScratchTeacher(network, Recipe(lr=0.1, schedule="cosine", batch_size=_BATCH), epochs)
    for epoch in range(epochs):
        for _ in teacher.train(plain_lessons(stream, stream.plan(epoch), _BATCH), epoch, stream.steps(_BATCH)):
            pass
    return network.eval()


def gradient(student: TappedNetwork, images: Tensor, expert: list[Tensor]) -> tuple[float, Tensor]:
    """The attention loss of a batch, and its gradient as one vector."""
    student.zero_grad()
    _, features = student(images)
    loss = torch.stack([attention(own, given) for own, given in zip(features, expert, strict=True)]).sum()
    loss.backward()
    parts = [each.grad.flatten() for each in student.parameters() if each.grad is not None]
    return loss.item(), torch.cat(parts).clone()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--pair", default="resnet56/resnet20")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--count", type=int, default=2000, help="training images")
    parser.add_argument("--batches", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    header(f"recorded attention maps of {options.pair} in smaller forms")
    with tempfile.TemporaryDirectory() as directory:
        link_subset(options.images, Path(directory), options.count // 10, 1)
        splits = load_train(DatasetConfig("folder", root=directory, image_size=32, channels=3, validation=0.05))
    normalise = Normalise(splits.mean, splits.std)
    stream = Stream(splits.train, normalise, Augment(), 0, torch.device("cpu"))  # type: ignore[arg-type]
    pair = split_pair(options.pair)
    expert = trained(pair.teacher, stream, splits.geometry, options.epochs)
    student = trained(pair.student, stream, splits.geometry, 1)
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in _FORMS}
    room = dict.fromkeys(_FORMS, 0)
    plan = stream.plan(options.epochs)
    for number in range(options.batches):
        images, _ = stream.views(plan, _BATCH * number, _BATCH * (number + 1))
        with torch.no_grad():
            maps = [attention_map(features) for features in expert(images)[1]]
        whole, exact = gradient(student, images, maps)
        for name, form in _FORMS.items():
            kept = [unpack_maps(torch.from_numpy(pack_maps(each, form, "float16")), form) for each in maps]
            loss, near = gradient(student, images, kept)
            error = float((near - exact).norm() / exact.norm())
            found[name].append((abs(loss - whole) / whole, error, float(near @ exact / near.norm() / exact.norm())))
            room[name] = sum(form.map_bytes(each.shape[1], "float16") for each in maps)
    print(f"\n{'form':24}{'bytes an image':>15}  {'loss, off by %':28}{'gradient, off by %':28}{'cosine':>8}")
    for name, rows in found.items():
        loss, error, cosine = np.array(rows).T
        print(f"{name:24}{room[name]:15,}  {spread(100 * loss):28}{spread(100 * error):28}{np.median(cosine):8.4f}")


if __name__ == "__main__":
    main()
