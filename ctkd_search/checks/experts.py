"""The experts that users bring, opened before anything is trained."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator

import numpy as np
import torch

from ctkd_search.config import TrialConfig
from ctkd_search.data.sample import validation_sample
from ctkd_search.data.stream import Normalise
from ctkd_search.distill.evaluation import evaluate
from ctkd_search.distill.weights import OwnExpert, accuracy_line, load_own_expert
from ctkd_search.errors import UserError
from ctkd_search.geometry import Geometry
from ctkd_search.space.definition import Space

# At most this many validation images are classified, for at most this many seconds per network.
_IMAGES, _SECONDS = 2000, 10.0
_AT_ONCE = 100


def open_experts(configs: Iterable[TrialConfig], geometry: Geometry) -> tuple[list[OwnExpert], list[tuple[str, str]]]:
    """Opens the files of the user's own weights, those in ensembles too.

    Args:
        configs: Configs, each with another teacher; those without such a file are ignored.
        geometry: The images.

    Returns:
        The experts, and the faults of those that cannot be used, each with the teacher of its config.
    """
    opened: list[OwnExpert] = []
    faults: list[tuple[str, str]] = []
    for config in configs:
        members = [member for member in config.teachers.expert.members(config.teacher) if member.checkpoint is not None]
        for number, (name, path) in enumerate(members):
            assert path is not None
            if any(_same(path, other.checkpoint) for other in members[:number]):
                faults.append((config.teacher, f"{path} is named twice, but averages with nothing new; name it once"))
                continue
            try:
                opened.append(load_own_expert(path, name, geometry))
            except UserError as error:
                faults.append((config.teacher, str(error)))
    return opened, faults


def _same(path: str, other: str | None) -> bool:
    return other is not None and os.path.realpath(path) == os.path.realpath(other)


def expert_lines(space: Space, geometry: Geometry, measured: bool) -> Iterator[str]:
    """Yields lines about the checkpoints of a space, and about the accuracy of the experts on validation images.

    Args:
        space: The space, whose checkpoints can be used.
        geometry: The images.
        measured: Whether to measure them.
    """
    experts, _ = open_experts(space.teachers_by_name().values(), geometry)
    yield from map(str, experts)
    if not experts or not measured:
        return
    try:
        sample = validation_sample(space.dataset, _IMAGES)
    except UserError as error:
        yield f"the expert's accuracy on validation images is measured when the search runs ({error})"
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    normalise = Normalise(sample.mean, sample.std).to(device)
    for expert in experts:
        network, right, seen = expert.network.to(device), 0.0, 0
        end = time.monotonic() + _SECONDS
        while seen < len(sample.images) and (not seen or time.monotonic() < end):
            part = sample.images[np.arange(seen, min(seen + _AT_ONCE, len(sample.images)))]
            right += evaluate(network, part, normalise, device)["accuracy"] * len(part)
            seen += len(part)
        yield accuracy_line(expert.architecture, right / seen, seen, sample.total, geometry.classes)
