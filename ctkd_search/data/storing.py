"""Storing the images of a data set decoded: whether they are stored, in which form, and writing them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ctkd_search.cache_index import CacheIndex
from ctkd_search.config import Augment, DatasetConfig
from ctkd_search.data.images import ImageFiles, Pictures
from ctkd_search.data.picture_form import PIXELS, Kept
from ctkd_search.data.picture_store import RESERVE, PictureStore, Stored
from ctkd_search.data.watching import watcher
from ctkd_search.errors import UserError
from ctkd_search.files import free_on_disk
from ctkd_search.leases.lease import Held, acquire
from ctkd_search.text import size as in_words

STORED: Literal["stored"] = "stored"
# Without `resize`, stored pictures are this much larger than the images that are cut out of them: 256 for 224.
_LARGER = 8 / 7
# Without the user's word, at most this share of the free disk is taken.
_SHARE_OF_DISK = 1 / 4


class Storing:
    """The stores of the images of a data set that are not kept in memory.

    Args:
        config: The data set.
        augments: Augmentations of its images.
        directory: Directory of the stores; None to use none.
    """

    def __init__(self, config: DatasetConfig, augments: Sequence[Augment], directory: Path | None) -> None:
        self._config = config
        self._directory = None if config.loading in ("resident", "streamed") else directory
        self._asked = config.loading == STORED
        self._cut = any(augment.resized_crop for augment in augments)
        self._whole = any(not augment.resized_crop for augment in augments) or not augments

    def of_training(self, images: ImageFiles) -> ImageFiles:
        """Returns training images with what is stored of them, before some are held out.

        Raises:
            UserError: The disk has no room for them, or some cannot be read.
        """
        for kept in self.forms(images):
            if kept.side is None:
                images = dataclasses.replace(images, squares=self._stored(images, kept))
            else:
                images = dataclasses.replace(images, kept=kept, parts=self._stored(images, kept))
        return images

    def forms(self, images: ImageFiles) -> list[Kept]:
        """Returns the forms in which training images are stored: whole for random crops, and as students see them."""
        found = []
        if self._cut and self._asked:
            side = self._config.stored_side or images.resize or round(images.size * _LARGER)
            found.append(dataclasses.replace(images.square, side=side, encoding=self._config.stored_as or PIXELS))
        return [*found, images.square] if self._whole else found

    def of_validation(self, images: Pictures) -> Pictures:
        """Returns validation images with what is stored of them.

        Raises:
            UserError: The disk has no room for them, or some cannot be read.
        """
        if not isinstance(images, ImageFiles) or images.squares is not None:
            return images
        return dataclasses.replace(images, squares=self._stored(images, images.square))

    def _stored(self, images: ImageFiles, kept: Kept) -> Stored | None:
        """Returns the places of images in a store of this form, which is written as far as it is missing."""
        import numpy as np

        if self._directory is None or not len(images):
            return None
        store = PictureStore(self._directory, kept, images.names, images.marks, images.paths)
        missing = store.missing()
        if missing:
            needed = kept.bytes_of(images.paths(slice(None))) * len(missing) // store.blocks
            if not self._room(store, needed):
                return None
            self._fill(store, images)
        return Stored((str(store.directory),), np.stack([np.zeros(len(images), int), np.arange(len(images))], axis=1))

    def _room(self, store: PictureStore, needed: int) -> bool:
        """Returns whether the disk has room for a store.

        Raises:
            UserError: It has not, and the user asked for it.
        """
        free = free_on_disk(store.directory)
        if not self._asked:
            return needed <= free * _SHARE_OF_DISK
        if needed > free - RESERVE:
            smaller = ", or stored_as: jpeg" if store.kept.side and store.kept.encoding == PIXELS else ""
            raise UserError(
                f"dataset.loading: stored needs about {in_words(needed)} in {store.directory.parent}, whose disk has "
                f"{in_words(free)} left; free some, or set loading: streamed{smaller}"
            )
        return True

    def _fill(self, store: PictureStore, images: ImageFiles) -> None:
        purpose, what = f"a search that stores the {images.what}", f"the store of the {images.what}"
        try:
            lease = acquire(store.directory, "writer", purpose, what=what, say=watcher().note)
        except Held as held:
            owner = held.owner or "another process"
            watcher().note(f"the {images.what} are being stored by {owner}; until then they are decoded in every epoch")
            return
        with lease:
            # On a full disk it is not described; what is written of the pictures is said below.
            with contextlib.suppress(UserError):
                CacheIndex(store.directory.parent).describe(store.directory.name, store.about(images.what))
            store.fill(images.what)
