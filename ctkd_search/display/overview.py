"""The output of `show` and `export`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ctkd_search.analysis.best_configs import CONFIGS, best_configs
from ctkd_search.analysis.standing import find_trial, not_confirmed, winner
from ctkd_search.display.leaderboard import print_leaderboard
from ctkd_search.display.tables import plain_table
from ctkd_search.errors import UserError
from ctkd_search.metrics import ACCURACY
from ctkd_search.records.config_file import config_text
from ctkd_search.records.config_list import ListedConfig, list_text
from ctkd_search.records.store import SearchFolder, TrialRecord, names
from ctkd_search.records.trial_configs import augment_of
from ctkd_search.space.parameters import AUGMENT
from ctkd_search.space.reader import kept_space
from ctkd_search.text import percent

if TYPE_CHECKING:
    from rich.console import Console

# The directory of searches in commands that do not name another one.
_USUAL_ROOT = "trials"


def print_searches(root: Path, console: Console) -> None:
    """Prints a list of the searches in a directory."""
    if not names(root):
        raise UserError(
            f"there are no searches in {root}; begin one with: ctkd-search run spaces/digits.yaml, or "
            "choose another --trials-dir"
        )
    table = plain_table("search", "begun", "trials", "best", "state")
    for row in search_rows(root):
        state = "finished" if row.finished else "unfinished"
        table.add_row(row.name, row.begun, str(row.trials), _best(row.leader), state)
    console.print(table)


class SearchRow(NamedTuple):
    """A search in a list of them.

    Attributes:
        name: Its name.
        begun: Time of its start, in ISO 8601.
        trials: Number of its trials.
        leader: The winner, if there is one.
        finished: Whether every trial has ended.
    """

    name: str
    begun: str
    trials: int
    leader: TrialRecord | None
    finished: bool


def search_rows(root: Path) -> Iterator[SearchRow]:
    """Yields the searches in a directory; names those that cannot be read on standard error."""
    for name in names(root):
        folder = SearchFolder(root, name)
        try:
            search = folder.search()
        except UserError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        trials = folder.readable_trials()
        yield SearchRow(name, search.started, len(trials), winner(trials), search.finished)


def _best(leader: TrialRecord | None) -> str:
    if leader is None:
        return "-"
    return leader.reached if leader.metric is ACCURACY else f"{leader.reached} ({leader.metric.label})"


def print_search(root: Path, name: str, limit: int, console: Console) -> None:
    """Prints one search's leaderboard."""
    folder = SearchFolder(root, name)
    search, trials = folder.search(), folder.readable_trials()
    space = kept_space(search.space, search.teachers)
    print_leaderboard(space, search, trials, limit, console)
    for architecture, accuracy in sorted(search.experts.items()):
        console.print(
            f"expert {architecture}: {percent(-1 if accuracy is None else accuracy)} validation accuracy",
            highlight=False,
        )
    if search.model:
        console.print(f"student: {search.model} in MLflow at {search.tracking_uri}", soft_wrap=True, highlight=False)
    if not search.finished:
        console.print(
            f"not finished; go on with: {search.again}",
            soft_wrap=True,
            highlight=False,
        )
    elif winner(trials) is not None:
        if line := not_confirmed(space, trials, search.again):
            console.print(line, soft_wrap=True, highlight=False)
        print_next(root, name, console)


def print_next(root: Path, name: str, console: Console) -> None:
    """Prints the commands that a finished search is followed by."""
    where = "" if root == Path(_USUAL_ROOT) else f" --trials-dir {shlex.quote(str(root))}"
    for line in (
        f"next: ctkd-search export {name} -o best.yaml{where} && ctkd-search train best.yaml{where}",
        f"      ctkd-search ui{where}",
    ):
        console.print(line, soft_wrap=True, highlight=False)


def exported(root: Path, name: str, trial: str | None) -> str:
    """Returns the config of a trial as YAML.

    Raises:
        UserError: There is no such search or trial.
    """
    folder = SearchFolder(root, name)
    search = folder.search()
    return config_text(kept_space(search.space, search.teachers), search, find_trial(folder.readable_trials(), trial))


def exported_configs(root: Path, name: str) -> str:
    """Returns the file of a search's best configs, from which other searches begin.

    Raises:
        UserError: There is no such search, or no trial of it has finished.
    """
    folder = SearchFolder(root, name)
    search, trials = folder.search(), folder.readable_trials()
    space = kept_space(search.space, search.teachers)
    best = best_configs(trials, CONFIGS)
    if not best:
        raise UserError(
            f"no trial of search {name!r} has finished yet; wait for the first one, or go on with: {search.again}"
        )
    configs = [
        ListedConfig(
            one.trial.number,
            one.value,
            one.seeds,
            {key: value for key, value in one.trial.values.items() if key != AUGMENT},
            augment_of(space, one.trial).given(),
        )
        for one in best
    ]
    return list_text(space, search, sum(trial.explores for trial in trials), configs)
