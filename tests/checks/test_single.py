"""Batches of one image are refused where a network cannot learn from them."""

import dataclasses

import pytest
import torch
from support.factories import a_space

from ctkd_search.checks.refusals import refuse_config
from ctkd_search.checks.single import config_fault, learns_from_one, single_image_faults
from ctkd_search.config import MethodConfig
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.models import build

TINY, SMALL = Geometry(10, 3, 8), Geometry(10, 3, 32)
DEEP = "mobilenetv2-0.5"
SEARCH = {"pair": f"wrn-10-1/{DEEP}", "lr": {"float": [0.01, 0.1]}}


@pytest.mark.parametrize("name", ["resnet8", "wrn-10-1", "vgg8", DEEP, "shufflenetv1"])
@pytest.mark.parametrize("geometry", [TINY, SMALL])
def test_it_is_told_without_numbers_what_a_step_with_one_image_does(name, geometry):
    network = build(name, geometry, seed=0).train()
    try:
        network(torch.zeros(1, 3, geometry.image_size, geometry.image_size))
        works = True
    except ValueError:
        works = False
    assert learns_from_one(name, geometry) is works


def test_a_student_with_maps_of_one_position_is_refused_one_image_at_a_time():
    ((place, said),) = single_image_faults(a_space(search=SEARCH, train={"batch_size": 1}), TINY)
    assert place == ("train", "batch_size")
    assert said.startswith(f"must be at least 2 for {DEEP}, but got 1: with images of 8x8 pixels")
    for searched in ({"choice": [1, 64]}, {"int": [1, 8]}):
        ((place, _),) = single_image_faults(a_space(search={**SEARCH, "batch_size": searched}), TINY)
        assert place == ("search", "batch_size")
    assert single_image_faults(a_space(search=SEARCH, train={"batch_size": 2}), TINY) == []
    assert single_image_faults(a_space(search=SEARCH, train={"batch_size": 1}), SMALL) == []
    # The teacher here has larger maps.
    assert single_image_faults(a_space(search=SEARCH, teachers={"recipe": {"batch_size": 1}}), TINY) == []


def test_a_method_that_normalises_over_the_batch_is_refused_one_image_at_a_time(tmp_path):
    search = {"pair": "wrn-10-1/resnet8", "method": {"choice": ["kd", "reviewkd"]}, "lr": {"float": [0.01, 0.1]}}
    ((place, said),) = single_image_faults(a_space(search=search, train={"batch_size": 1}), SMALL)
    assert place == ("train", "batch_size")
    assert said.startswith("must be at least 2 for method reviewkd, but got 1: it normalises values over the batch")
    assert single_image_faults(a_space(search=search, train={"batch_size": 2}), SMALL) == []
    both = a_space(search={**search, "method": "kd"}, train={"batch_size": 1}, baselines=["reviewkd"])
    assert len(single_image_faults(both, SMALL)) == 1
    alone = {**search, "method": "reviewkd", "reviewkd": {"review_embedding": False}}
    assert single_image_faults(a_space(search=alone, train={"batch_size": 1}), SMALL) == []
    (config,) = a_space(search={**search, "method": "reviewkd"}, train={"batch_size": 1}).pair_configs()
    config = dataclasses.replace(config, method=MethodConfig("reviewkd"))
    assert config_fault(config, SMALL).startswith("train.batch_size must be at least 2 for method reviewkd")


def test_a_teacher_is_refused_likewise_and_so_is_a_final_training(tmp_path):
    (config,) = a_space(search=SEARCH, train={"batch_size": 1}).pair_configs()
    assert config_fault(config, TINY).startswith("train.batch_size must be at least 2")
    with pytest.raises(UserError, match="at least 2"):
        refuse_config(config, 1, TINY, 100, tmp_path)
    (config,) = a_space(search=SEARCH, teachers={"recipe": {"batch_size": 1}}).pair_configs()
    config = dataclasses.replace(config, teacher=DEEP)
    assert config_fault(config, TINY).startswith("teachers.recipe.batch_size must be at least 2")
    assert config_fault(config, SMALL) is None
