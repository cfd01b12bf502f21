"""The images that a student in another precision is measured on are those that it was trained beside."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from support.layouts import folder_config, write_folder

from ctkd_search import data
from ctkd_search.config import Augment
from ctkd_search.files import write_text
from ctkd_search.records.json_files import as_json
from ctkd_search.records.store import new_record
from ctkd_search.students.images import images_of_final

pytestmark = pytest.mark.usefixtures("own_directory")
WHOLE = Augment(crop=1)
PARTS = Augment(crop=0, resized_crop=(0.25, 1.0))


@pytest.mark.parametrize("of_a_file", [None, WHOLE, PARTS])
@pytest.mark.parametrize("augment", [WHOLE, PARTS])
def test_pictures_that_a_final_training_stored_are_known_again_with_and_without_random_parts(augment, of_a_file):
    write_folder(Path("images"), splits=("train",), images=6, size=20)
    dataset = folder_config(Path("images"), loading="stored")
    augments = [augment] if of_a_file is None else [augment, of_a_file]
    splits = data.load_train(dataset, augments, None, Path("trials/teachers"))
    configs = [{"dataset": dataclasses.asdict(dataset), "augment": dataclasses.asdict(each)} for each in augments]
    content = {"config": configs[0], "files": {f"{at}.yaml": config for at, config in enumerate(configs[1:])}}
    record = new_record("mine/final-1", content, splits.with_validation(), [])
    write_text(Path("trials/mine/final-1/search.json"), as_json(record))
    images = images_of_final(Path("trials/mine/final-1"))
    assert len(images.validation) == len(splits.validation)
    np.testing.assert_array_equal(images.validation.held().pixels, splits.validation.held().pixels)
