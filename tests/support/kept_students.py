"""Students as searches and final trainings keep them: real networks, trained by nobody, whose statistics differ."""

from __future__ import annotations

import torch

from ctkd_search.geometry import Geometry
from ctkd_search.models import build
from ctkd_search.records.states import state_path, write_state
from ctkd_search.students.served import Metadata, ServedStudent
from ctkd_search.versions import STUDENT_FORMAT, versions
from support.factories import a_search, a_trial, digits_space

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


def a_search_with_students(root, trials=(1, 2), kept=(2,), **fields):
    """Writes a finished search of the digits to disk, of whose trials some have kept their states.

    Args:
        root: The directory of all searches.
        trials: The numbers of its trials.
        kept: Those whose states are kept.
        fields: Other fields of the search's record.

    Returns:
        The network of each trial.
    """
    space = digits_space()
    measured = {"validation_loss": 0.5, "seconds": 1.0}
    made = [
        a_trial(number, number / 10, space=space, stored=space.paper_point(), measured=measured) for number in trials
    ]
    images = {"geometry": list(SMALL), "mean": list(MEAN), "std": list(STD)}
    folder = a_search(root, made, space, **{"finished": True, **images, **fields})
    networks = {}
    for trial in made:
        networks[trial.number] = a_network(trial.values["pair"].split("/")[1], SMALL, seed=trial.number)
        if trial.number in kept:
            state = {"epoch": 1, "student": networks[trial.number].state_dict(), "history": trial.epochs}
            write_state(state_path(folder.states, trial.number), state)
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
