"""The command `ctkd-search predict`: classification of image files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ctkd_search.cores import usable_cores
from ctkd_search.data.decode import BrokenImage, decode_image, listed
from ctkd_search.data.listing import listing_of
from ctkd_search.display.tables import plain_table
from ctkd_search.errors import UserError, WorkFailed
from ctkd_search.students.predictor import Predictor
from ctkd_search.students.served import Metadata
from ctkd_search.text import percent

if TYPE_CHECKING:
    from rich.console import Console

_BATCH = 256
_NAMED = 20


@dataclass(frozen=True)
class Prediction:
    """A student's prediction for an image.

    Attributes:
        image: The file.
        top: The most probable classes with their probabilities, highest first; empty if the file cannot be read.
        error: Reason why it cannot be read, or None.
    """

    image: Path
    top: list[tuple[str, float]]
    error: str | None = None


@dataclass(frozen=True)
class GivenFiles:
    """The files to classify.

    Attributes:
        images: Given files, whether they exist or not, and the images in given directories.
        notes: Notes on the files skipped in directories, a line each.
    """

    images: list[Path]
    notes: list[str]


def image_files(given: Sequence[Path]) -> GivenFiles:
    """Find the files meant: those given, and the images in directories, as the ``folder`` data set finds them.

    Raises:
        UserError: A directory contains no images, or cannot be read.
    """
    images: list[Path] = []
    notes: list[str] = []
    for path in given:
        if not os.path.isdir(path):
            images.append(path)
            continue
        listing = listing_of(os.fspath(path))
        notes += listing.notes()
        unread = [name for names in listing.pictures.values() for name in names]
        inside = sorted((*listing.images, *unread), key=lambda name: name.split(os.sep))
        if not inside:
            raise UserError("; ".join([f"the directory {path} contains no images", *listing.notes()]))
        images += [path / name for name in inside]
    return GivenFiles(images, notes)


def predict(predictor: Predictor, files: Sequence[Path], top: int) -> Iterator[Prediction]:
    """Classifies image files, each seen as the ``folder`` data set would see it.

    Args:
        predictor: The student.
        files: The images, of any format, size and colour.
        top: Number of classes to name for each; more than there are means all.

    Yields:
        A prediction for each, in their order; of one that cannot be read, the reason.

    Raises:
        WorkFailed: The student's probabilities of an image are no numbers.
    """
    metadata = predictor.metadata
    with ThreadPoolExecutor(usable_cores()) as pool:
        for start in range(0, len(files), _BATCH):
            part = files[start : start + _BATCH]
            decoded = list(pool.map(lambda path: _decoded(path, metadata), part))
            readable = [pixels for pixels in decoded if not isinstance(pixels, str)]
            rows = iter(predictor.run(np.stack(readable)) if readable else ())
            for path, pixels in zip(part, decoded, strict=True):
                if isinstance(pixels, str):
                    yield Prediction(path, [], pixels)
                    continue
                row = next(rows)
                if not np.isfinite(row).all():
                    raise WorkFailed(
                        f"the student's probabilities of {path} are not finite numbers: its weights are damaged, or "
                        "its training diverged; export another student"
                    )
                order = np.argsort(-row, kind="stable")[:top]
                yield Prediction(path, [(metadata.classes[index], float(row[index])) for index in order])


def _decoded(path: Path, metadata: Metadata) -> np.ndarray | str:
    """Return the pixels of an image, or why it cannot be read."""
    if not os.path.exists(path):
        return "there is no such file"
    try:
        return decode_image(path, metadata.image_size, metadata.channels, metadata.resize)
    except BrokenImage as error:
        return error.reason


def check_read(predictions: Sequence[Prediction]) -> None:
    """Raises an error that names the images that could not be read, if there are any.

    Raises:
        UserError: None could be read.
        WorkFailed: Some could not be read.
    """
    broken = [f"{prediction.image} ({prediction.error})" for prediction in predictions if prediction.error]
    if len(broken) == len(predictions):
        raise UserError(f"cannot read {'any image' if len(broken) > 1 else 'the image'}: {listed(broken, _NAMED)}")
    if broken:
        raise WorkFailed(f"{len(broken):,} of {len(predictions):,} images cannot be read: {listed(broken, _NAMED)}")


def print_predictions(predictions: Sequence[Prediction], console: Console) -> None:
    """Prints a table, a line for each image and class named."""
    table = plain_table("image", "class", "probability", right=("probability",))
    for prediction in predictions:
        if prediction.error:
            table.add_row(str(prediction.image), f"not read: {prediction.error}", "")
        for rank, (name, probability) in enumerate(prediction.top):
            table.add_row(str(prediction.image) if rank == 0 else "", name, percent(probability))
    console.print(table)


def as_json(predictions: Sequence[Prediction], encoding: str = "utf-8") -> str:
    """Return the predictions as a JSON list, one entry for each; of an image not read, ``class`` is null.

    Args:
        predictions: The predictions.
        encoding: The encoding that the text is written in; characters are escaped if it has not all of them, such as
            those of a file's name that is no text.
    """
    found = []
    for prediction in predictions:
        name, probability = prediction.top[0] if prediction.top else (None, None)
        entry = {
            "image": str(prediction.image),
            "class": name,
            "probability": probability,
            "top": [{"class": name, "probability": probability} for name, probability in prediction.top],
        }
        found.append(entry | ({"error": prediction.error} if prediction.error else {}))
    text = json.dumps(found, indent=1, ensure_ascii=False)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return json.dumps(found, indent=1)
    return text
