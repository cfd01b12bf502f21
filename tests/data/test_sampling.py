"""Balanced sampling: classes equally often, images of a class in rounds, as a function of seed and epoch."""

from collections import Counter

import numpy as np
import pytest
import torch

from ctkd_search.config import Augment
from ctkd_search.data import Images
from ctkd_search.data.sampling import BalancedSampling
from ctkd_search.data.stream import Normalise, Stream

COUNTS = {"two": (37, 5), "three": (50, 12, 1), "equal": (10, 10, 10), "absent": (20, 0, 3, 0)}
EACH = pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
BALANCED = Augment(crop=1, sampling="balanced")


def labels_of(counts):
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))


def sampled(counts, epochs, seed=1):
    made = BalancedSampling(labels_of(counts), lambda purpose: hash((seed, purpose)) & 0xFFFFFFFF)
    return [made.chosen(epoch) for epoch in range(epochs)]


@EACH
def test_every_class_has_its_share_of_every_epoch_and_of_all(counts):
    labels, classes = labels_of(counts), sum(count > 0 for count in counts)
    total = Counter()
    for epoch, chosen in enumerate(sampled(counts, 7), start=1):
        found = Counter(labels[chosen].tolist())
        assert len(chosen) == len(labels)
        assert set(found.values()) <= {len(labels) // classes, -(-len(labels) // classes)}
        total += found
        # What is over goes to one class after another, so that it never adds up.
        assert set(total.values()) <= {epoch * len(labels) // classes, -(-epoch * len(labels) // classes)}
        assert len(total) == classes


@EACH
def test_an_image_is_repeated_only_after_all_others_of_its_class(counts):
    labels = labels_of(counts)
    drawn = np.concatenate(sampled(counts, 9))
    for label, count in enumerate(counts):
        own = drawn[labels[drawn] == label]
        rounds = [own[start : start + count] for start in range(0, len(own) - count + 1, count)] if count else []
        assert all(len(set(each.tolist())) == count for each in rounds)
        if count > 3:
            assert not np.array_equal(rounds[0], rounds[1])


def stream_of(counts, augment=BALANCED, seed=5):
    labels = labels_of(counts)
    pixels = np.arange(len(labels), dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), np.uint8)
    return Stream(Images(pixels, labels), Normalise((100.0,), (50.0,)), augment, seed, torch.device("cpu"))


def test_an_epoch_is_a_function_of_seed_and_epoch_alone():
    used = stream_of(COUNTS["three"])
    for epoch in (4, 0, 2):
        order = used.plan(epoch).order
        assert torch.equal(order, stream_of(COUNTS["three"]).plan(epoch).order)
        assert not torch.equal(order, used.plan(epoch + 1).order)
        assert not torch.equal(order, stream_of(COUNTS["three"], seed=6).plan(epoch).order)


def test_the_order_is_mixed_and_views_have_the_labels_of_their_images():
    stream = stream_of(COUNTS["two"])
    plan = stream.plan(3)
    batches = list(stream.batches(plan, 10))
    labels = torch.cat([labels for _, labels in batches])
    assert torch.equal(labels, stream.labels[plan.order])
    assert all(0 < batch.sum() < len(batch) for _, batch in batches[:-1])
    # A number of each image is all of its pixels.
    shown = torch.cat([images for images, _ in batches])[:, 0, 0, 0] * 50 + 100
    assert torch.equal(shown.round().long(), plan.order)


def test_partners_are_positions_so_that_classes_are_mixed_in_equally_often_too():
    stream = stream_of((60, 6), Augment(crop=1, mixup=1.0, sampling="balanced"))
    plan = stream.plan(0)
    partners = stream.mixture(plan, 0, 66).partners
    assert partners.double().mean().item() == pytest.approx(0.5, abs=0.15)


def test_without_sampling_an_epoch_shows_every_image_once_as_before():
    plain = stream_of(COUNTS["two"], Augment(crop=1))
    assert sorted(plain.plan(2).order.tolist()) == list(range(42))
    assert torch.equal(plain.plan(2).flipped, stream_of(COUNTS["two"]).plan(2).flipped)
