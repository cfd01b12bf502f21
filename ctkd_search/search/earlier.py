"""Earlier searches: resumed, extended, or used as the warm start of a new one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ctkd_search.config import plain
from ctkd_search.errors import UserError
from ctkd_search.names import new_name_fault
from ctkd_search.plugins import changed_code, code_hashes
from ctkd_search.records.store import SearchFolder, SearchRecord, TrialRecord, differences, names
from ctkd_search.records.warm_start import IMAGES, asked_names
from ctkd_search.search.comparisons import missing_confirmations
from ctkd_search.space.alternatives import alternatives
from ctkd_search.space.definition import Space
from ctkd_search.space.parameters import AUGMENT, TRAINING
from ctkd_search.space.reader import kept_space
from ctkd_search.text import settings

# The keys of a space that may change when a search goes on: its resources, its length and its last stages, but not what
# is searched.
_FREE_TO_CHANGE = (
    ("resources", "address"),
    ("resources", "concurrent_trials"),
    ("resources", "cpus_per_trial"),
    ("resources", "gpus_per_trial"),
    ("resources", "retries"),
    ("tracking", "patience"),
    ("tracking", "system_metrics"),
    ("budget", "time_budget"),
    ("budget", "trials"),
)
_MAY_BE_ADDED = ("baselines", "confirm")


def earlier_search(
    folder: SearchFolder,
    space: Space,
    resume: bool,
    warm_start: Sequence[str],
    ask: Callable[[str], bool] | None,
) -> SearchRecord | None:
    """Returns the record of the search that is to go on, after checking that it can; None for a new search.

    Args:
        folder: The search's directory.
        space: The present space.
        resume: Whether the user asked to go on.
        warm_start: The names of the earlier searches that the user wants a new one to begin from.
        ask: Asks the user a yes-or-no question; None where nobody can answer.

    Raises:
        UserError: It cannot go on, or the user has not asked for it.
    """
    if not folder.exists():
        if resume:
            folder.search()  # raises an error that lists the searches
        if fault := new_name_fault(folder.name, names(folder.root)):
            raise UserError(f"the name of the search {fault}; give it another with --name")
        return None
    record, trials = folder.search(), folder.trials()
    other_start = bool(warm_start) and list(warm_start) != asked_names(record.warm_start)
    changed = differences(_binding(record.space), _binding(plain(dict(space.raw)))) or _reordered(record.space, space)
    changed = changed or changed_code(record.code, code_hashes(space.methods()))
    if not any(trial.epochs or trial.ended for trial in trials):
        # It ended before its first trial: there is nothing to lose.
        return None if changed or record.finished or other_start else record
    if changed:
        lines = "\n  ".join(changed)
        raise UserError(
            f"the space is not the one that search {folder.name!r} began with; choose another --name:\n  {lines}"
        )
    if other_start:
        raise UserError(
            f"--warm-start applies only to a new search, but {folder.name!r} has begun; leave it out, or "
            "choose another --name"
        )
    if record.finished:
        if not _asks_for_more(record, space, trials):
            raise UserError(
                f"search {folder.name!r} has finished; see it with: ctkd-search show {folder.name}; extend it with "
                "--trials N, or choose another --name"
            )
        return record
    if not resume and not (ask and ask(_question(folder.name, trials))):
        raise UserError(
            f"search {folder.name!r} already exists in {folder.root}; go on with it by adding --resume, or choose "
            "another --name"
        )
    return record


def _question(name: str, trials: list[TrialRecord]) -> str:
    ended = sum(trial.ended for trial in trials)
    return f"search {name!r} was begun and has not finished ({ended} trials have ended); go on with it?"


def _asks_for_more(record: SearchRecord, space: Space, trials: list[TrialRecord]) -> bool:
    """Returns whether a finished search has more to do: trials, baselines or confirmations."""
    raw = plain(dict(space.raw))
    explored = sum(trial.explores for trial in trials)
    unfinished = any(not trial.ended for trial in trials)
    return (
        space.budget.trials > explored
        or unfinished
        # The time budget may have ended before the confirmation began.
        or bool(missing_confirmations(space, {trial.number: trial for trial in trials}, record.costs))
        or any(raw.get(key) != record.space.get(key) for key in _MAY_BE_ADDED)
    )


def _binding(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the part of a space that must not change while a search goes on."""
    kept = {key: dict(value) if isinstance(value, Mapping) else value for key, value in raw.items()}
    for section, key in _FREE_TO_CHANGE:
        if isinstance(kept.get(section), dict):
            kept[section].pop(key, None)
    return {key: value for key, value in kept.items() if value != {} and key not in _MAY_BE_ADDED}


def _reordered(before: Mapping[str, Any], space: Space) -> list[str]:
    """Returns a line if the alternatives of the augmentation are in another order: the first one is the default."""
    old, new = list(alternatives(before.get("search"))), list(space.augments)
    return [f"search.{AUGMENT}: {', '.join(old)} before, {', '.join(new)} now"] if old != new else []


class Earlier(NamedTuple):
    """An earlier search from which another one may begin.

    Attributes:
        record: Its record.
        space: Its space, ``mode: auto`` resolved.
        trials: Its trials.
    """

    record: SearchRecord
    space: Space
    trials: list[TrialRecord]


def read_earlier(folder: SearchFolder) -> Earlier:
    """Reads an earlier search.

    Raises:
        UserError: There is no such search, it is damaged, or another version has written it.
    """
    record = folder.search()
    return Earlier(record, kept_space(record.space, record.teachers), folder.trials())


def results_in(
    space: Space, earlier: Space, records: Sequence[TrialRecord]
) -> list[tuple[TrialRecord, dict[str, Any] | None]]:
    """Returns the trials of an earlier search that have a result, each with its values in another space.

    Args:
        space: The other space.
        earlier: The earlier search's space.
        records: Its trials.

    Returns:
        For each trial that Optuna suggested and that has ended, the values of the searched parameters as Optuna stores
        them in the other space; None where it is no trial of that space.
    """
    found: list[tuple[TrialRecord, dict[str, Any] | None]] = []
    for record in records:
        if record.explores and record.ended:
            # The values of the record count, not defaults that may have changed since.
            values = {**earlier.effective(earlier.decode(record.stored)), **record.values}
            found.append((record, space.encode(space.renamed(values, earlier))))
    return found


def incomparable(earlier: Earlier, space: Space, fingerprint: str) -> list[str]:
    """Returns the differences because of which the results of an earlier search mean nothing to another one.

    Args:
        earlier: The earlier search.
        space: The other search's space, its ``mode: auto`` resolved.
        fingerprint: Hash of its training images.

    Returns:
        A line for each difference, which begins with the name of what differs and a colon; none if the results can be
        compared.
    """
    ours, theirs = _meaning(space), _meaning(earlier.space)
    if not set(space.augmentations) & set(earlier.space.augmentations):
        by_key = not space.augments and not earlier.space.augments
        for meaning, each in ((ours, space), (theirs, earlier.space)):
            several = [settings(augment.given()) for augment in each.augmentations]
            meaning["augment"] = dataclasses.asdict(each.augment) if by_key else several
    images = [] if earlier.record.fingerprint == fingerprint else [IMAGES]
    return [*images, *differences(theirs, ours)]


def _meaning(space: Space) -> dict[str, Any]:
    """Returns the settings that accuracies depend on, without the images, the augmentation and what may be searched."""
    searchable = {parameter.name for parameter in TRAINING}
    recipe = {key: value for key, value in dataclasses.asdict(space.train).items() if key not in searchable}
    # The limit has no meaning beyond the mode that was chosen by it.
    teachers = {key: value for key, value in dataclasses.asdict(space.teachers).items() if key != "trajectory_limit"}
    return {
        "budget": {"epochs": space.budget.epochs},
        "train": plain(recipe),
        "teachers": plain(teachers),
        "objectives": list(space.strategy.objectives),
    }
