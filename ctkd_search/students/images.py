"""The images that a student in another precision is measured on: those of its own search or final training."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctkd_search import data
from ctkd_search.config import Augment, DatasetConfig
from ctkd_search.data import Splits
from ctkd_search.data.images import Images, Pictures
from ctkd_search.errors import UserError
from ctkd_search.records.store import SearchFolder
from ctkd_search.space.reader import kept_space
from ctkd_search.students.quantisation import calibration_images

_LEARNED_FROM = "The student of a final training has learned from the validation images too."


@dataclass(frozen=True)
class StudentImages:
    """Images to calibrate and to measure a student on.

    Attributes:
        splits: Their splits; those of the search, for a final training too.
        note: A sentence on the validation images; empty if there is nothing to say.
    """

    splits: Splits
    note: str = ""

    @functools.cached_property
    def calibration(self) -> Images:
        """Returns training images that the ranges of activations are measured on."""
        return calibration_images(self.splits.train)

    @property
    def validation(self) -> Pictures:
        """Returns the validation images."""
        return self.splits.validation


def images_of_search(folder: SearchFolder) -> StudentImages:
    """Returns the images of a search.

    Raises:
        UserError: They cannot be loaded, or are others by now.
    """
    return StudentImages(splits_of_search(folder))


def splits_of_search(folder: SearchFolder) -> Splits:
    """Returns the splits of a search.

    Raises:
        UserError: They cannot be loaded, or are others by now.
    """
    search = folder.search()
    space = kept_space(search.space, search.teachers)
    splits = data.load_train(space.dataset, space.augmentations, search.fingerprint)
    _refuse_others(splits, search.fingerprint, f"the search {search.name!r}")
    return splits


def images_of_final(path: Path) -> StudentImages:
    """Returns the images of a final training: the validation images that the search held out, and the rest.

    Args:
        path: Its directory.

    Raises:
        UserError: They cannot be loaded, or are others by now.
    """
    record = SearchFolder(path.parent, path.name).search()
    dataset = DatasetConfig(**record.space["config"]["dataset"])
    splits = data.load_train(dataset, _crops(record.space), record.fingerprint)
    _refuse_others(splits.with_validation(), record.fingerprint, f"the final training in {path}")
    return StudentImages(splits, _LEARNED_FROM)


def _crops(content: Mapping[str, Any]) -> list[Augment]:
    """Returns the random crops of a final training's configs, by which stored pictures differ."""
    configs = [content["config"], *content.get("files", {}).values()]
    return [Augment(resized_crop=config["augment"].get("resized_crop")) for config in configs]


def _refuse_others(splits: Splits, fingerprint: str, what: str) -> None:
    if splits.fingerprint != fingerprint:
        raise UserError(
            f"the images are no longer those of {what}, on which a student in another precision must be measured; "
            "bring them back, or export the student in float32"
        )
