"""The experts that users bring, opened before anything is trained."""

from __future__ import annotations

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


def open_experts(configs: Iterable[TrialConfig], geometry: Geometry) -> tuple[dict[str, OwnExpert], dict[str, str]]:
    """Opens the checkpoints of teachers.

    Args:
        configs: Configs, each with another teacher; those without a checkpoint are ignored.
        geometry: The images.

    Returns:
        The experts by their architectures, and the faults of those that cannot be used.
    """
    opened, faults = {}, {}
    for config in configs:
        name = config.teacher
        path = config.teachers.expert.checkpoint_of(name)
        if path is None:
            continue
        try:
            opened[name] = load_own_expert(path, name, geometry)
        except UserError as error:
            faults[name] = str(error)
    return opened, faults


def expert_lines(space: Space, geometry: Geometry, measured: bool) -> Iterator[str]:
    """Yields lines about the checkpoints of a space, and about the accuracy of the experts on validation images.

    Args:
        space: The space, whose checkpoints can be used.
        geometry: The images.
        measured: Whether to measure them.
    """
    experts, _ = open_experts(space.teachers_by_name().values(), geometry)
    yield from map(str, experts.values())
    if not experts or not measured:
        return
    try:
        sample = validation_sample(space.dataset, _IMAGES)
    except UserError as error:
        yield f"the expert's accuracy on validation images is measured when the search runs ({error})"
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    normalise = Normalise(sample.mean, sample.std).to(device)
    for name, expert in experts.items():
        network, right, seen = expert.network.to(device), 0.0, 0
        end = time.monotonic() + _SECONDS
        while seen < len(sample.images) and (not seen or time.monotonic() < end):
            part = sample.images[np.arange(seen, min(seen + _AT_ONCE, len(sample.images)))]
            right += evaluate(network, part, normalise, device)["accuracy"] * len(part)
            seen += len(part)
        yield accuracy_line(name, right / seen, seen, sample.total, geometry.classes)
