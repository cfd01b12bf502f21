"""The winner's student, logged, described and registered."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ctkd_search.data import Splits
from ctkd_search.distill.weights import load_weights
from ctkd_search.models.cost import costs
from ctkd_search.results.card import Card, card_text, search_evidence, search_limits
from ctkd_search.results.config_file import config_text
from ctkd_search.results.model import log_student
from ctkd_search.results.served import Metadata, ServedStudent, load_student
from ctkd_search.results.states import state_path
from ctkd_search.results.store import SearchFolder, SearchRecord, TrialRecord
from ctkd_search.search.tracking import Tracker
from ctkd_search.space import Space
from ctkd_search.versions import processor

_EXAMPLES = 4


def kept_student(folder: SearchFolder, trial: TrialRecord, splits: Splits) -> ServedStudent:
    """The student that a trial has kept."""
    weights = load_weights(state_path(folder.states, trial.number))
    student = load_student(trial.values["pair"].split("/")[1], splits.geometry, weights)
    return ServedStudent(student, splits.mean, splits.std)


def register(
    space: Space,
    folder: SearchFolder,
    search: SearchRecord,
    trials: Sequence[TrialRecord],
    winner: TrialRecord,
    splits: Splits,
    tracker: Tracker,
) -> str:
    """Logs the student of a trial as a model of its run, and registers it with its card.

    Returns:
        The registered version, as a ``models:`` URI.
    """
    run_id = tracker.run_id(winner.number)
    assert run_id is not None  # everything has been delivered
    name = f"ctkd-{space.name}"
    architecture = winner.values["pair"].split("/")[1]
    card = Card(
        name=name,
        origin=f"It is the student of trial {winner.number} of the search {search.name!r}, begun {search.started}.",
        metadata=Metadata(tuple(splits.classes), splits.geometry.image_size, splits.geometry.channels, architecture),
        dataset=space.dataset.name,
        images={"training": len(splits.train), "validation": len(splits.validation)},
        fingerprint=splits.fingerprint,
        evidence=search_evidence(trials, winner, len(splits.validation)),
        limits=search_limits(search, trials, winner),
        costs=costs(architecture, splits.geometry, torch.device("cpu")),
        machine=f"{processor()}, threads: {torch.get_num_threads()}",
        config=config_text(space, search, winner, splits),
    )
    return log_student(
        kept_student(folder, winner, splits),
        splits.validation.pixels[:_EXAMPLES],
        tracker.mlflow,
        run_id,
        name,
        classes=splits.classes,
        architecture=architecture,
        card=card_text(card),
        tags={
            "ctkd.search": search.name,
            "ctkd.trial": str(winner.number),
            "ctkd.pair": winner.values["pair"],
            "ctkd.dataset": space.dataset.name,
            "ctkd.fingerprint": splits.fingerprint,
            "ctkd.validation_accuracy": f"{winner.accuracy:.6f}",
        },
    )
