"""The start of a search from earlier ones, in sentences: what was used of them, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ctkd_search.analysis.standing import winner
from ctkd_search.records.store import FINISHED, STOPPED, TrialRecord, ranked
from ctkd_search.records.warm_start import IMAGES, TriedConfig, WarmStart
from ctkd_search.text import amount, join_words


def start_sentence(start: WarmStart) -> str:
    """Returns a line that tells the user what is used of an earlier search, and why."""
    begin = f"warm start from {start.name!r}:"
    if start.taken:
        return f"{begin} {start.taken} of its {amount(start.there, 'trial')} are in this space, with their results"
    parts = []
    if start.reasons:
        differing = [reason.partition(":")[0] for reason in start.reasons]
        one_key = len(differing) == 1 and differing != [IMAGES]
        parts.append(f"{join_words(differing)} {'differs' if one_key else 'differ'}")
    elif start.there:
        parts.append(f"none of its {amount(start.there, 'result')} is in this space")
    parts.append(_tried_first(start.configs))
    if start.reasons and start.configs:
        parts.append("its results are left alone")
    if start.left_out:
        parts.append(f"left out: {', '.join(start.left_out)}")
    return f"{begin} {'; '.join(parts)}"


def _tried_first(configs: Sequence[TriedConfig]) -> str:
    """Returns the number of configs that are tried first, and what had to change in them."""
    if not configs:
        return "it has no config that can be tried here"
    text = f"its best {amount(len(configs), 'config')} {'is' if len(configs) == 1 else 'are'} tried first"
    notes = []
    if changed := [config for config in configs if config.changed]:
        settings = dict.fromkeys(name for config in changed for name in config.changed)
        notes.append(f"{len(changed)} with another value of {', '.join(settings)}")
    if known := sum(config.known for config in configs):
        notes.append(f"Optuna has {known} of them already")
    return f"{text} ({'; '.join(notes)})" if notes else text


def brought(starts: Sequence[WarmStart], trials: Sequence[TrialRecord]) -> list[str]:
    """Returns sentences on what earlier searches brought to a search.

    Args:
        starts: The earlier searches.
        trials: The search's trials.
    """
    sentences = [_brought(start, trials) for start in starts if start.settled]
    tried = [found for start in starts for one in start.configs if (found := trial_of(one.stored, trials))]
    leader = winner(trials)
    if leader is None or not tried:
        return sentences
    theirs = any(leader.number == trial.number for trial in tried)
    return [*sentences, f"the best trial, {leader.number}, {'is one of these' if theirs else 'is none of these'}"]


def trial_of(stored: Mapping[str, Any], trials: Sequence[TrialRecord]) -> TrialRecord | None:
    """Returns the first explored trial with some values of the searched parameters, or None."""
    return next((trial for trial in trials if trial.explores and trial.stored == stored), None)


def _brought(start: WarmStart, trials: Sequence[TrialRecord]) -> str:
    begin = f"began from {start.name!r}:"
    if start.taken:
        return f"{begin} with the results of {start.taken} of its {amount(start.there, 'trial')}"
    tried = [f"trial {one.trial} there ({one.reached}) {_became(one, trials)}" for one in start.configs]
    return f"{begin} {'; '.join(tried) or 'nothing'}"


def _became(config: TriedConfig, trials: Sequence[TrialRecord]) -> str:
    """Returns what became of a config in this search."""
    trial = trial_of(config.stored, trials)
    if trial is None:
        return "was known with its result" if config.known else "has not been tried"
    finished = ranked([other for other in trials if other.explores and other.status == FINISHED])
    if trial.status == FINISHED:
        rank = f"{finished.index(trial) + 1} of the {len(finished)} that finished"
        return f"is trial {trial.number} here, {rank} ({trial.reached})"
    after = f" after {amount(len(trial.epochs), 'epoch')}" if trial.status == STOPPED else ""
    return f"is trial {trial.number} here, {trial.status}{after}"
