"""Students as searches and final trainings keep them: real networks, trained by nobody, whose statistics differ."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from ctkd_search.config import plain
from ctkd_search.data import Splits
from ctkd_search.geometry import Geometry
from ctkd_search.models import build
from ctkd_search.records.states import state_path, write_state
from ctkd_search.records.store import FINISHED, SearchFolder, SearchRecord, TrialRecord
from ctkd_search.space.reader import read_space
from ctkd_search.students.served import Metadata, ServedStudent
from ctkd_search.versions import STUDENT_FORMAT, versions

DIGITS = Path(__file__).parents[2] / "spaces" / "digits.yaml"
SMALL = Geometry(10, 1, 8)
MEAN, STD = (78.0,), (95.0,)


def a_network(architecture, geometry, seed=0):
    """A network whose normalisations are not the identity, and whose outputs depend on its images."""
    network = build(architecture, geometry, seed)
    draw = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values, low, high in (
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 1.5),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.3, 0.3),
            ):
                values.uniform_(low, high, generator=draw)
    return network


def a_student(architecture="resnet8", geometry=SMALL, seed=0):
    """A served student and its outputs."""
    mean, std = MEAN * geometry.channels, STD * geometry.channels
    classes = tuple(f"class {number}" for number in range(geometry.classes))
    metadata = Metadata(classes, geometry.image_size, geometry.channels, architecture)
    return ServedStudent(a_network(architecture, geometry, seed), mean, std), metadata


def some_images(count, geometry=SMALL, seed=1):
    """Raw images."""
    draw = torch.Generator().manual_seed(seed)
    shape = (count, geometry.image_size, geometry.image_size, geometry.channels)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=draw)


def probabilities(served, images):
    """Returns the outputs of a student."""
    with torch.inference_mode():
        return served(torch.as_tensor(images)).numpy()


def a_search_with_students(root, name="digits", trials=(1, 2), kept=(2,), splits: Splits | None = None, **changes):
    """A finished search of the digits on disk, of whose trials some have kept their states.

    Returns:
        The network of each trial.
    """
    space = read_space(DIGITS)
    values = {field.name: None for field in dataclasses.fields(SearchRecord) if field.name != "format"}
    values |= {"name": name, "id": "x", "space": plain(dict(space.raw)), "started": "2026-01-02T03:04:05+00:00"}
    values |= {"versions": {}, "fingerprint": "f" * 64, "classes": list("0123456789"), "experts": {}, "finished": True}
    values |= {"geometry": list(SMALL), "mean": list(MEAN), "std": list(STD), "again": "ctkd-search run"}
    folder = SearchFolder(root, name)
    folder.write(SearchRecord(**{**values, **changes}))
    networks = {}
    for number in trials:
        stored = space.paper_point()
        epochs = [{"epoch": 1, "validation_accuracy": number / 10, "validation_loss": 0.5, "seconds": 1.0}]
        chosen = plain(space.effective(space.decode(stored)))
        folder.write_trial(TrialRecord(number, chosen, stored, space.seed, status=FINISHED, epochs=epochs))
        networks[number] = a_network(chosen["pair"].split("/")[1], SMALL, seed=number)
        if number in kept:
            state = {"epoch": 1, "student": networks[number].state_dict(), "history": epochs}
            write_state(state_path(folder.states, number), state)
    return networks


def a_final_student(root, name="digits", number=1, **changes):
    """Writes the files of a final training; returns its network."""
    network = a_network("resnet8", SMALL, seed=100 + number)
    content = {
        "format": STUDENT_FORMAT,
        "versions": versions(),
        "student": network.state_dict(),
        "architecture": "resnet8",
        "geometry": list(SMALL),
        "classes": list("0123456789"),
        "mean": list(MEAN),
        "std": list(STD),
    }
    path = root / name / f"final-{number}" / "student.pt"
    path.parent.mkdir(parents=True)
    torch.save({**content, **changes}, path)
    return network
