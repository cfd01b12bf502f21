"""The validation split."""

import numpy as np
import pytest

from ctkd_search.data.split import stratified_split
from ctkd_search.errors import UserError

SIZES = (50, 31, 7, 2)
CLASSES = ("a", "b", "c", "d")
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(4), SIZES))
SHARES = pytest.mark.parametrize("share", [0.01, 0.1, 0.33, 0.5, 0.9, 0.99])


def split(share=0.2, seed=0, labels=LABELS):
    return stratified_split(labels, share, seed, CLASSES)


@SHARES
def test_parts_are_disjoint_sorted_and_cover_everything(share):
    kept, held_out = split(share)
    assert np.array_equal(np.sort(np.concatenate([kept, held_out])), np.arange(len(LABELS)))
    assert np.array_equal(kept, np.sort(kept))
    assert np.array_equal(held_out, np.sort(held_out))


@SHARES
def test_share_of_each_class_is_held_out_but_never_none_or_all(share):
    kept, held_out = split(share)
    for label, size in enumerate(SIZES):
        count = (LABELS[held_out] == label).sum()
        assert 1 <= count <= size - 1
        assert count in (1, size - 1) or abs(count - share * size) <= 0.5
        assert (LABELS[kept] == label).sum() == size - count


def test_draw_depends_on_the_seed_alone():
    np.random.seed(1)
    first = split(seed=3)
    np.random.seed(2)
    assert all(np.array_equal(one, other) for one, other in zip(first, split(seed=3), strict=True))
    assert not np.array_equal(first[1], split(seed=4)[1])


def test_every_image_may_be_held_out():
    seen = {position for seed in range(60) for position in split(seed=seed)[1]}
    assert seen == set(range(len(LABELS)))


@pytest.mark.parametrize(("images", "phrase"), [(1, r"class 'c' \(1\);"), (0, r"class 'c' \(0\);")])
def test_class_with_too_few_images_is_named(images, phrase):
    labels = np.repeat(np.arange(4), (5, 5, images, 5))
    with pytest.raises(UserError, match=phrase):
        split(labels=labels)


def test_every_class_with_too_few_images_is_named_and_many_are_counted():
    names = [f"class {number}" for number in range(30)]
    with pytest.raises(UserError) as caught:
        stratified_split(np.arange(30), 0.5, 0, names)
    assert "classes 'class 0' (1), 'class 1' (1), " in str(caught.value)
    assert "'class 9' (1) and 20 more;" in str(caught.value)
