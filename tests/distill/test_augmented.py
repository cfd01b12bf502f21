"""Recorded teachers are live ones under every augmentation, whatever the student's batch size is."""

import dataclasses

import numpy as np
import pytest
from support.augmented import AUGMENTED
from support.recorded import BASE, assert_same, live, trained, varied

from ctkd_search.config import Jitter
from ctkd_search.data import load_train
from ctkd_search.distill.cache import TeacherCache


@pytest.fixture(scope="module")
def splits():
    whole = load_train(BASE.dataset)
    return dataclasses.replace(whole, train=whole.train[np.arange(100)], validation=whole.validation[np.arange(50)])


@pytest.mark.parametrize("name", AUGMENTED)
def test_recorded_equals_live_bit_for_bit(name, splits, tmp_path):
    augment = AUGMENTED[name]
    if augment.jitter:
        # The digits are grey.
        augment = dataclasses.replace(augment, jitter=Jitter(brightness=0.5, contrast=0.5))
    cache, plain = TeacherCache(tmp_path, "a test"), trained(varied(17), splits, TeacherCache(tmp_path / "plain"))
    for batch_size in (17, 64):
        config = dataclasses.replace(varied(batch_size), augment=augment)
        recorded = trained(config, splits, cache)
        assert_same(recorded, trained(live(config), splits, cache))
        assert recorded[0] != plain[0]
