"""What is measured of a network, against scikit-learn and NumPy."""

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn import metrics as oracle
from torch import nn

from ctkd_search.data.images import Images
from ctkd_search.data.stream import Normalise
from ctkd_search.distill import evaluation
from ctkd_search.distill.evaluation import Tally, evaluate
from ctkd_search.metrics import ON_REQUEST

CPU = torch.device("cpu")
CLASSES = 7


def ece(probabilities, labels, bins=15):
    """The expected calibration error of arXiv 1706.04599, image by image."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    edges = np.linspace(0, 1, bins + 1)
    error = 0.0
    for low, high in itertools.pairwise(edges):
        inside = [place for place, value in enumerate(confidence) if low < value <= high]
        if inside:
            error += len(inside) * abs(right[inside].mean() - confidence[inside].mean())
    return error / len(labels)


class FromPixels(nn.Module):
    """Says of an image what stands in its first pixels."""

    def forward(self, images):
        return images.flatten(1)[:, :CLASSES], []


def drawn(count, seed=0, classes=CLASSES):
    """Images whose pixels are logits, and labels that these often hit; the last class is rare."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (count, 3, 3, 1), dtype=np.uint8)
    guessed = pixels.reshape(count, -1)[:, :classes].argmax(axis=1)
    chance = random.choice(classes, count, p=[0.2] * (classes - 3) + [0.1, 0.08, 0.02][: classes - 4])
    return Images(pixels, np.where(random.random(count) < 0.6, guessed, chance).astype(np.int64))


@pytest.mark.parametrize(
    ("device", "size", "expected"),
    [
        *(("cuda", 8, 1000), ("cuda", 32, 1000), ("cuda", 64, 250), ("cuda", 128, 250), ("cuda", 224, 81)),
        *(("cpu", 8, 250), ("cpu", 64, 250), ("cpu", 128, 62), ("cpu", 4096, 1)),
    ],
)
def test_of_larger_images_fewer_are_evaluated_at_once(device, size, expected):
    assert evaluation._batch(size, torch.device(device)) == expected


@pytest.mark.parametrize("batch", [1, 7, 64, 1000])
@pytest.mark.parametrize("count", [5, 63, 257])
def test_what_is_measured_is_what_scikit_learn_and_numpy_say_whatever_the_batch(batch, count):
    images, normalise = drawn(count), Normalise((128.0,), (30.0,))
    found = evaluate(FromPixels(), images, normalise, CPU, ON_REQUEST, batch)
    logits = (images.pixels.reshape(count, -1)[:, :CLASSES].astype(np.float64) - 128) / 30
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    guessed = logits.argmax(axis=1)
    assert list(found) == ["accuracy", "loss", *ON_REQUEST]
    assert found["accuracy"] == oracle.accuracy_score(images.labels, guessed)
    assert found["loss"] == pytest.approx(oracle.log_loss(images.labels, chances, labels=range(CLASSES)), rel=1e-5)
    # scikit-learn takes the later of two equal classes, torch either: there are a few among the pixels.
    ties = sum(len(set(row)) < CLASSES for row in logits)
    top = oracle.top_k_accuracy_score(images.labels, logits, k=5, labels=range(CLASSES))
    assert found["top5"] == pytest.approx(top, abs=ties / count)
    there = sorted(set(images.labels))
    recalls = oracle.recall_score(images.labels, guessed, labels=there, average=None, zero_division=0.0)
    assert found["balanced_accuracy"] == pytest.approx(recalls.mean())
    if set(guessed) <= set(there):
        assert found["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(images.labels, guessed))
    assert found["ece"] == pytest.approx(ece(chances, images.labels), abs=1e-7)


def test_the_five_most_probable_are_counted_exactly_where_no_two_are_equal():
    logits = np.random.default_rng(1).permuted(np.tile(np.arange(9.0), (300, 1)), axis=1)
    labels = np.random.default_rng(2).integers(0, 9, 300)
    tally = Tally(9, ["top5"], CPU)
    for start in range(0, 300, 13):
        tally.add(torch.tensor(logits[start : start + 13]), torch.tensor(labels[start : start + 13]))
    assert tally.result()["top5"] == oracle.top_k_accuracy_score(labels, logits, k=5)


def of(chances, labels, *metrics):
    tally = Tally(len(chances[0]), metrics, CPU)
    tally.add(torch.tensor(chances, dtype=torch.float64).log(), torch.tensor(labels))
    return tally.result()


def test_a_calibration_error_that_can_be_reckoned_by_hand():
    # 0.6 is the upper end of bin 9 and 0.55 lies in it too; 0.9 is alone. Two of three right in the first.
    chances = [[0.6, 0.4], [0.55, 0.45], [0.6, 0.4], [0.9, 0.1]]
    expected = (3 * abs(2 / 3 - (0.6 + 0.55 + 0.6) / 3) + abs(1 - 0.9)) / 4
    assert of(chances, [0, 0, 1, 0], "ece")["ece"] == pytest.approx(expected, abs=1e-12)
    # Always sure and always right, or always wrong.
    assert of([[1.0, 0.0]], [0], "ece")["ece"] == pytest.approx(0.0)
    assert of([[1.0, 0.0]], [1], "ece")["ece"] == pytest.approx(1.0)


def test_only_what_is_asked_for_is_measured():
    assert set(of([[0.9, 0.1]], [0])) == {"accuracy", "loss"}
    assert set(of([[0.9, 0.1]], [0], "balanced_accuracy")) == {"accuracy", "loss", "balanced_accuracy"}


def test_logits_that_are_no_numbers_give_a_loss_that_is_none():
    found = of([[math.nan, math.nan], [0.5, 0.5]], [0, 1], "ece", "balanced_accuracy")
    assert math.isnan(found["loss"])
    assert math.isnan(found["ece"])


def test_sums_do_not_grow_with_the_images():
    tally = Tally(CLASSES, ON_REQUEST, CPU)

    def held():
        kept = [value for sums in tally.sums.values() for value in vars(sums).values()]
        return sum(value.numel() for value in kept if isinstance(value, torch.Tensor))

    before = held()
    for _ in range(5):
        tally.add(torch.randn(50, CLASSES), torch.randint(CLASSES, (50,)))
    assert held() == before
