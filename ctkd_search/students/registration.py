"""The student of a search or of a final training, logged, described and registered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from ctkd_search.analysis.standing import confirmed
from ctkd_search.data import Splits
from ctkd_search.distill.weights import load_weights
from ctkd_search.models.cost import costs
from ctkd_search.names import registered_name
from ctkd_search.pairs import split_pair
from ctkd_search.records.config_file import config_text
from ctkd_search.records.states import state_path
from ctkd_search.records.store import SearchFolder, SearchRecord, TrialRecord
from ctkd_search.space.definition import Space
from ctkd_search.students.card import Card, card_text, search_evidence, search_limits
from ctkd_search.students.model import log_student
from ctkd_search.students.served import Metadata, ServedStudent, load_student
from ctkd_search.text import size
from ctkd_search.tracking.champion import CONFIRMED, FINGERPRINT, OBJECTIVE, REACHED, VALIDATION, update_champion
from ctkd_search.tracking.tracker import Tracker
from ctkd_search.versions import processor

_EXAMPLES = 4
OPTION = "--champion"


class Registered(NamedTuple):
    """A student in MLflow's registry.

    Attributes:
        uri: The registered version, as a ``models:`` URI.
        champion: Outcome for the champion, in a sentence.
    """

    uri: str
    champion: str


def version_of(uri: str) -> str:
    """Returns the version in a ``models:`` URI."""
    return uri.rpartition("/")[2]


def kept_student(folder: SearchFolder, trial: TrialRecord, splits: Splits) -> ServedStudent:
    """The student that a trial has kept."""
    weights = load_weights(state_path(folder.states, trial.number))
    student = load_student(split_pair(trial.values["pair"]).student, splits.geometry, weights)
    return ServedStudent(student, splits.mean, splits.std)


def register(
    space: Space,
    folder: SearchFolder,
    search: SearchRecord,
    trials: Sequence[TrialRecord],
    winner: TrialRecord,
    splits: Splits,
    tracker: Tracker,
    champion: bool,
) -> Registered:
    """Logs the student of a trial as a model of its run, and registers it with its card.

    It becomes the champion if it is better than the present one, or if `champion` is true.
    """
    again = next((config for config in confirmed(trials) if config.trial is winner), None)
    evidence = {
        FINGERPRINT: splits.fingerprint,
        VALIDATION: str(len(splits.validation)),
        OBJECTIVE: winner.objective,
        REACHED: repr(winner.value),
        **({CONFIRMED: repr(again.estimate.mean)} if again else {}),
    }
    name = registered_name(search.name)
    uri = register_student(
        Registration(
            name=name,
            origin=f"It is the student of trial {winner.number} of the search {search.name!r}, begun {search.started}.",
            images={"training": len(splits.train), "validation": len(splits.validation)},
            evidence=[*search_evidence(trials, winner, len(splits.validation)), *_in_int8(search, winner)],
            limits=search_limits(search, trials, winner),
            config=config_text(space, search, winner, splits),
            tags={
                "ctkd.search": search.name,
                "ctkd.trial": str(winner.number),
                "ctkd.validation_accuracy": f"{winner.accuracy:.6f}",
                f"ctkd.{winner.objective}": f"{winner.value:.6f}",
                **evidence,
            },
        ),
        folder,
        winner,
        splits,
        tracker,
        space.dataset.name,
    )
    return Registered(
        uri, update_champion(tracker.mlflow, name, version_of(uri), evidence, force=champion, option=OPTION)
    )


def _in_int8(search: SearchRecord, trial: TrialRecord) -> list[str]:
    """Returns a sentence on the costs of a trial's student in int8, if they were measured."""
    costs = search.costs.get(split_pair(trial.values["pair"]).student, {})
    if "onnx_bytes" not in costs:
        return []
    return [
        f"In int8, its ONNX file has {size(costs['onnx_bytes'])} and takes {costs['int8_latency_ms']:.3g} ms for one "
        "image with ONNX Runtime on the processor."
    ]


@dataclass(frozen=True)
class Registration:
    """The name, card texts and tags of a student that is registered.

    Attributes:
        name: The name to register it under.
        origin: Its origin, a sentence.
        images: Number of images of each kind.
        evidence: Measurements of it.
        limits: Limits of the evidence.
        config: The config that made it, as YAML.
        tags: Tags of the registered version.
    """

    name: str
    origin: str
    images: Mapping[str, int]
    evidence: Sequence[str]
    limits: Sequence[str]
    config: str
    tags: Mapping[str, str]


def register_student(
    registration: Registration, folder: SearchFolder, trial: TrialRecord, splits: Splits, tracker: Tracker, dataset: str
) -> str:
    """Logs the student that a trial has kept as a model of its run, and registers it with its card.

    Args:
        registration: Its name, card texts and tags.
        folder: The search that keeps the trial's state.
        trial: The trial.
        splits: The images.
        tracker: MLflow's runs of the search.
        dataset: The name of the data set.

    Returns:
        The registered version, as a ``models:`` URI.
    """
    run_id = tracker.run_id(trial.number)
    assert run_id is not None  # everything has been delivered
    architecture = split_pair(trial.values["pair"]).student
    card = Card(
        name=registration.name,
        origin=registration.origin,
        metadata=Metadata(
            *(tuple(splits.classes), splits.geometry.image_size, splits.geometry.channels, architecture),
            resize=splits.resize,
        ),
        dataset=dataset,
        images=registration.images,
        fingerprint=splits.fingerprint,
        evidence=registration.evidence,
        limits=registration.limits,
        costs=costs(architecture, splits.geometry, torch.device("cpu")),
        machine=f"{processor()}, threads: {torch.get_num_threads()}",
        config=registration.config,
    )
    return log_student(
        kept_student(folder, trial, splits),
        splits.train[np.arange(min(_EXAMPLES, len(splits.train)))].held().pixels,
        tracker.mlflow,
        run_id,
        registration.name,
        classes=splits.classes,
        resize=splits.resize,
        architecture=architecture,
        card=card_text(card),
        tags={
            "ctkd.pair": trial.values["pair"],
            "ctkd.dataset": dataset,
            "ctkd.fingerprint": splits.fingerprint,
            **registration.tags,
        },
    )
