"""Stores of decoded pictures: a folder of pictures, what is read of them, and what they are told."""

import torch

from ctkd_search import data
from ctkd_search.config import Augment
from ctkd_search.data.file_stream import plain_batches, stream_of
from ctkd_search.data.stream import Normalise
from support.layouts import folder_config

CPU = torch.device("cpu")
CROP, RESIZED, MIXED = Augment(crop=3), Augment(crop=0, resized_crop=(0.2, 1.0)), Augment(crop=2, mixup=0.4)
BOTH = [CROP, RESIZED]


class Told:
    """A receiver of progress and notes that keeps them."""

    def __init__(self):
        self.done, self.notes = [], []

    def progress(self, what, done, total):
        self.done.append((what, done, total))

    def note(self, text):
        self.notes.append(text)


def splits_of(root, stores=None, augments=BOTH, loading="stored", **options):
    options = {"workers": 0, "validation": 0.2, **options}
    return data.load_train(folder_config(root, loading=loading, **options), augments, stores=stores)


def epoch_of(splits, augment, epoch=1):
    stream = stream_of(splits.train, Normalise(splits.mean, splits.std), augment, 5, CPU)
    return [torch.cat(parts) for parts in zip(*stream.batches(stream.plan(epoch), 16), strict=True)]


def validation_of(splits):
    return [torch.cat(parts) for parts in zip(*plain_batches(splits.validation, 4, CPU), strict=True)]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def blocks_of(stores):
    return sorted(stores.glob("pictures-*/*.rec"))
