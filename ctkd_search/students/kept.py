"""The students that searches and final trainings have kept on disk."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ctkd_search.analysis.standing import find_trial
from ctkd_search.distill.weights import put_weights
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.models import build
from ctkd_search.pairs import split_pair
from ctkd_search.records.states import state_path, student_state
from ctkd_search.records.store import SearchFolder, SearchRecord
from ctkd_search.students.served import Metadata, ServedStudent, load_student
from ctkd_search.versions import STUDENT_FORMAT, format_fault

STUDENT_FILE = "student.pt"


@dataclass(frozen=True)
class KeptStudent:
    """A student of a trial or of a final training.

    Attributes:
        served: The student, which takes raw images.
        metadata: Its description.
        origin: Its origin, as a text.
        folder: The directory of the search or of the final training.
    """

    served: ServedStudent
    metadata: Metadata
    origin: str
    folder: Path


def trial_student(root: Path, name: str, wanted: str | None) -> KeptStudent:
    """Returns the student of a trial, with the weights of its last epoch.

    Args:
        root: The directory of all searches.
        name: The search.
        wanted: Number of the trial; None for the winner.

    Raises:
        UserError: There is no such search or trial, or its student was not kept.
    """
    folder = SearchFolder(root, name)
    search = folder.search()
    trial = find_trial(folder.readable_trials(), wanted)
    path = state_path(folder.states, trial.number)
    state = student_state(path, trial.number)
    if state is None and path.exists():
        raise UserError(
            f"the student of trial {trial.number} cannot be read: {path} is damaged; export another one with --trial N"
        )
    if state is None:
        kept = sorted(int(found.stem) for found in folder.states.glob("*.pt"))
        having = f"trial{'s' * (len(kept) > 1)} {', '.join(map(str, kept))}" if kept else "no trial"
        raise UserError(f"the student of trial {trial.number} was not kept; {having} of the search {name!r} has one")
    architecture = split_pair(trial.values["pair"]).student
    geometry, mean, std = _images_of(search)
    served = ServedStudent(load_student(architecture, geometry, state["student"]), mean, std)
    metadata = Metadata(
        tuple(search.classes), geometry.image_size, geometry.channels, architecture, resize=search.resize
    )
    return KeptStudent(served, metadata, f"trial {trial.number} of the search {name!r}", folder.path)


def _images_of(search: SearchRecord) -> tuple[Geometry, list[float], list[float]]:
    """Returns the images that a search's students take, with mean and standard deviation."""
    if search.geometry and search.mean and search.std:
        return Geometry(*search.geometry), search.mean, search.std
    raise UserError(
        f"the record of the search {search.name!r} is incomplete: it lacks the geometry of the images, their mean or "
        "their standard deviation; search again under another --name"
    )


def final_student(root: Path, name: str) -> KeptStudent:
    """Returns the student of the newest final training.

    Args:
        root: The directory of all searches.
        name: Name of the final training, from its config.

    Raises:
        UserError: There is none, or it is damaged.
    """
    found = _finals(root / name)
    if not found:
        having = sorted({path.parents[1].name for path in root.glob(f"*/final-*/{STUDENT_FILE}")})
        raise UserError(
            f"there is no final training of {name!r} in {root}; there are: {', '.join(having) or 'none yet'}; make one "
            "with: ctkd-search train CONFIG"
        )
    return read_student(found[-1])


def _finals(directory: Path) -> list[Path]:
    """Returns the paths of the students of final trainings, oldest first."""
    numbered = {
        int(match[1]): path
        for path in directory.glob(f"final-*/{STUDENT_FILE}")
        if (match := re.fullmatch(r"final-(\d+)", path.parent.name))
    }
    return [numbered[number] for number in sorted(numbered)]


def read_student(path: Path) -> KeptStudent:
    """Reads the student of a final training, without executing anything in the file.

    Raises:
        UserError: The file contains no such student, or another version has written it.
    """
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
        geometry, resize = Geometry(*content["geometry"]), content.get("resize")
        classes, architecture = tuple(content["classes"]), content["architecture"]
        weights, mean, std = dict(content["student"]), content["mean"], content["std"]
        kept, writer = content["format"], content["versions"]["ctkd-search"]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except Exception:  # whatever torch raises for another file, and whatever another file contains
        raise UserError(
            f"{path} is not a student of a final training; a trial's is exported with: ctkd-search export NAME "
            "--format onnx; if it is one, it is damaged: copy it again, or train it again"
        ) from None
    if fault := format_fault(kept, STUDENT_FORMAT, writer):
        raise UserError(f"the student {path} {fault}")
    network = build(architecture, geometry, seed=0, published=False)
    put_weights(network, weights, str(path))
    metadata = Metadata(classes, geometry.image_size, geometry.channels, architecture, resize=resize)
    origin = f"the final training in {path.parent}"
    return KeptStudent(ServedStudent(network, mean, std), metadata, origin, path.parent)
