"""Spaces, records of trials, and searches on disk, of which a test says only what it is about."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ctkd_search.config import plain
from ctkd_search.records.store import BASELINE, FAILED, FINISHED, SearchFolder, SearchRecord, TrialRecord
from ctkd_search.space.definition import Space
from ctkd_search.space.reader import read_space, space_of

SPACES = Path(__file__).parents[2] / "spaces"
SHIPPED = sorted(SPACES.glob("*.yaml"))
DIGITS = SPACES / "digits.yaml"
RESNET, WRN = "wrn-16-2/resnet8", "wrn-16-2/wrn-16-1"
SEARCH = {
    "pair": {"choice": [RESNET, WRN]},
    "step_loss": {"choice": ["kl", "mse"]},
    "temperature": {"float": [1, 20], "log": True, "when": {"step_loss": "kl"}},
    "alpha": {"float": [0.1, 5], "log": True},
    "lr": {"float": [0.01, 0.3], "log": True},
}


def space_content(**sections: Any) -> dict[str, Any]:
    """Returns the content of a space's file: the digits, `SEARCH` and nine epochs, unless told otherwise.

    Args:
        sections: Sections of the file, each in place of the default one; a budget without epochs has nine, with rungs
            after epochs 1 and 3. None leaves a section out.
    """
    content = {"name": "x", "dataset": {"name": "digits"}, "search": SEARCH, "budget": {}, **sections}
    if content["budget"] is not None:
        scheduler = content.get("scheduler") or "asha"
        stops = (scheduler if isinstance(scheduler, str) else scheduler.get("name")) != "none"
        content["budget"] = {"epochs": 9, **({"grace_period": 1} if stops else {}), **content["budget"]}
    return {key: section for key, section in content.items() if section is not None}


def a_space(**sections: Any) -> Space:
    """Returns the space of `space_content`."""
    return space_of(space_content(**sections))


def write_space(path: Path, **sections: Any) -> Path:
    """Writes `space_content` to a file; returns its path."""
    path.write_text(yaml.safe_dump(space_content(**sections)), encoding="utf-8")
    return path


@functools.cache
def digits_space() -> Space:
    """Returns the shipped space of the digits, read once."""
    return read_space(DIGITS)


def a_trial(
    number: int,
    *accuracies: float,
    status: str = FINISHED,
    pair: str = RESNET,
    values: Mapping[str, Any] | None = None,
    space: Space | None = None,
    stored: Mapping[str, Any] | None = None,
    measured: Mapping[str, Any] | Callable[[int], Mapping[str, Any]] | None = None,
    **fields: Any,
) -> TrialRecord:
    """Returns the record of a trial.

    Args:
        number: Its number.
        accuracies: Its validation accuracies, epoch after epoch.
        status: Its status.
        pair: Its pair, if no space says it.
        values: Values of its parameters that are others than its pair, or than those of `space` and `stored`.
        space: The space from which its values and its seed come.
        stored: Values of the searched parameters, as Optuna stores them.
        measured: Other metrics of every epoch, or a function that returns them for the number of an epoch.
        fields: Other fields of the record; `epochs` in place of those with `accuracies`.
    """
    more = measured if callable(measured) else lambda epoch: measured or {}
    epochs = [
        {"epoch": epoch, "validation_accuracy": accuracy, **more(epoch)}
        for epoch, accuracy in enumerate(accuracies, start=1)
    ]
    stored = dict(stored or {})
    known, seed = {"pair": pair}, 0
    if space is not None:
        known, seed = space.effective(space.decode(stored)), space.seed
    made = {"values": {**known, **(values or {})}, "stored": stored, "seed": seed, "status": status, "epochs": epochs}
    return TrialRecord(number, **{**made, **fields})


def repetitions(
    of: int, accuracies: Sequence[float | None], first: int = 100, baseline: str | None = None, **fields: Any
) -> list[TrialRecord]:
    """Returns repetitions of a trial with seeds 1, 2, 3, ...; an accuracy of None is that of one that failed."""
    kind = {} if baseline is None else {"kind": BASELINE, "baseline": baseline}
    return [
        a_trial(first + seed, seed=seed, repeats=of, status=FAILED, **kind, **fields)
        if accuracy is None
        else a_trial(first + seed, accuracy, seed=seed, repeats=of, **kind, **fields)
        for seed, accuracy in enumerate(accuracies, start=1)
    ]


def a_search_record(space: Space | Mapping[str, Any] | None = None, **fields: Any) -> SearchRecord:
    """Returns the record of a search as a whole.

    Args:
        space: Its space, or the content of that as a record keeps it.
        fields: Other fields of the record; its name is that of the space, unless it is among them.
    """
    content = plain(dict(space.raw if isinstance(space, Space) else space or {}))
    made = {
        "name": content.get("name", "x"),
        "id": "id",
        "space": content,
        "again": "ctkd-search run space.yaml --resume",
        "started": "2026-01-02T03:04:05+00:00",
        "versions": {},
        "fingerprint": "f" * 64,
        "classes": list("0123456789"),
        "tracking_uri": "",
    }
    return SearchRecord(**{**made, **fields})


def a_search(
    root: Path,
    trials: Iterable[TrialRecord] = (),
    space: Space | Mapping[str, Any] | None = None,
    **fields: Any,
) -> SearchFolder:
    """Writes a search to disk; returns its directory, which has the search's name.

    Args:
        root: The directory of all searches.
        trials: Its trials.
        space: Its space, or the content of that as a record keeps it.
        fields: See `a_search_record`.
    """
    record = a_search_record(space, **fields)
    folder = SearchFolder(root, record.name)
    folder.write(record)
    for trial in trials:
        folder.write_trial(trial)
    return folder
