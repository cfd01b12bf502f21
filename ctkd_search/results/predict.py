"""What `ctkd-search predict` says of image files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ctkd_search.data.decode import decode_image
from ctkd_search.errors import UserError
from ctkd_search.results.leaderboard import percent, plain_table
from ctkd_search.results.predictor import Predictor
from ctkd_search.results.served import Metadata

if TYPE_CHECKING:
    from rich.console import Console

_BATCH = 256


@dataclass(frozen=True)
class Prediction:
    """What a student says of an image.

    Attributes:
        image: The file.
        top: The most probable classes, each with its probability, the highest first.
    """

    image: Path
    top: list[tuple[str, float]]


def image_files(given: Sequence[Path]) -> list[Path]:
    """The files meant: those given, and in directories, however deep, all but hidden ones, in alphabetical order.

    Raises:
        UserError: Something is not there, or a directory is empty.
    """
    found = []
    for path in given:
        if path.is_dir():
            inside = sorted(_inside(path))
            if not inside:
                raise UserError(f"the directory {path} holds no images")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise UserError(f"there is no image {path}")
    return found


def _inside(directory: Path) -> Iterator[Path]:
    for parent, directories, files in os.walk(directory):
        directories[:] = [name for name in directories if not name.startswith(".")]
        yield from (Path(parent) / name for name in files if not name.startswith("."))


def predict(predictor: Predictor, files: Sequence[Path], top: int) -> Iterator[Prediction]:
    """Classifies image files, each seen as the ``folder`` data set would see it.

    Args:
        predictor: The student.
        files: The images, of any format, size and colour.
        top: How many classes to name for each; more than there are means all.

    Yields:
        A prediction for each, in their order.

    Raises:
        UserError: A file is no image.
    """
    metadata = predictor.metadata
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(files), _BATCH):
            part = files[start : start + _BATCH]
            decoded = pool.map(lambda path: _decoded(path, metadata), part)
            probabilities = predictor.run(np.stack(list(decoded)))
            for path, row in zip(part, probabilities, strict=True):
                order = np.argsort(-row, kind="stable")[:top]
                yield Prediction(path, [(metadata.classes[index], float(row[index])) for index in order])


def _decoded(path: Path, metadata: Metadata) -> np.ndarray:
    return decode_image(path, metadata.image_size, metadata.channels, metadata.resize)


def print_predictions(predictions: Sequence[Prediction], console: Console) -> None:
    """Prints a table, a line for each image and class named."""
    table = plain_table("image", "class", "probability", right=("probability",))
    for prediction in predictions:
        for rank, (name, probability) in enumerate(prediction.top):
            table.add_row(str(prediction.image) if rank == 0 else "", name, percent(probability))
    console.print(table)


def as_json(predictions: Sequence[Prediction]) -> str:
    """The same as a JSON list."""
    found = [
        {
            "image": str(prediction.image),
            "class": prediction.top[0][0],
            "probability": prediction.top[0][1],
            "top": [{"class": name, "probability": probability} for name, probability in prediction.top],
        }
        for prediction in predictions
    ]
    return json.dumps(found, indent=1, ensure_ascii=False)
