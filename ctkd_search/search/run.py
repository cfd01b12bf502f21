"""A space becomes a Tuner: begin a search, or go on with one."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from ctkd_search import data
from ctkd_search.config import plain
from ctkd_search.errors import UserError, WorkFailed
from ctkd_search.files import make_directory
from ctkd_search.results.config_file import config_text
from ctkd_search.results.leaderboard import clock, leaderboard, percent
from ctkd_search.results.store import STOPPED, SearchFolder, SearchRecord, TrialRecord, best, differences
from ctkd_search.space import Space
from ctkd_search.versions import versions

# What of a space may differ when a search goes on: what it runs on and for how long, not what it searches.
_FREE_TO_CHANGE = (
    ("resources", "address"),
    ("resources", "cpus_per_trial"),
    ("resources", "gpus_per_trial"),
    ("budget", "time_budget"),
)


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    Attributes:
        space: The space.
        name: Name of the search.
        trials_dir: Directory of all searches.
        resume: Whether to go on with a search.
        again: The command that goes on with it, for messages.
    """

    space: Space
    name: str
    trials_dir: Path
    resume: bool
    again: str


def run_search(request: Request, console: Console) -> None:
    """Runs a search to its end.

    Args:
        request: What the user asked for.
        console: Where to write.

    Raises:
        UserError: Something must be changed first.
        WorkFailed: No trial came to anything.
        KeyboardInterrupt: The user stopped it; what was done is kept.
    """
    started = time.monotonic()
    folder = SearchFolder(request.trials_dir, request.name)
    earlier = _earlier(request, folder)

    def say(text: str) -> None:
        console.print(text, soft_wrap=True, highlight=False)

    make_directory(request.trials_dir)
    say(f"search {request.name}: {request.space.budget.trials} trials of up to {request.space.budget.epochs} epochs")
    # Ray and torch are imported only now, when everything that can be wrong with the space has been said.
    from ctkd_search.search.session import Session

    splits = data.load_train(request.space.dataset)
    say(f"data: {len(splits.train):,} training images, {len(splits.validation):,} held out for validation")
    if earlier and earlier.fingerprint != splits.fingerprint:
        raise UserError(
            f"the training images are not those that search {request.name!r} began with; use another --name"
        )
    with Session(request.space, request.trials_dir, say) as session:
        record = earlier or SearchRecord(
            name=request.name,
            space=plain(dict(request.space.raw)),
            again=request.again,
            started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            versions=versions(),
            fingerprint=splits.fingerprint,
            classes=list(splits.classes),
            tracking_uri=session.tracker.uri,
        )
        folder.write(record)
        try:
            records = session.search(folder, record, splits, console)
            _conclude(request, folder, record, records, splits, session, console)
        except KeyboardInterrupt:
            say(f"what has been done is kept; go on with: {request.again}")
            raise
    say(f"took {clock(time.monotonic() - started)}")


def _earlier(request: Request, folder: SearchFolder) -> SearchRecord | None:
    """The record of the search that is to go on, after checking that it can."""
    if not folder.exists():
        if request.resume:
            folder.search()  # says which searches there are
        return None
    if not folder.trials():
        return None  # it ended before its first trial: there is nothing to go on with, and nothing to lose
    if not request.resume:
        raise UserError(
            f"there is a search {request.name!r} in {request.trials_dir} already; go on with it by adding --resume, or "
            "choose another --name"
        )
    record = folder.search()
    if record.finished:
        raise UserError(f"search {request.name!r} has finished; see it with: ctkd-search show {request.name}")
    changed = differences(_binding(record.space), _binding(plain(dict(request.space.raw))))
    if changed:
        listed = "\n  ".join(changed)
        raise UserError(f"the space is not the one that search {request.name!r} began with:\n  {listed}")
    return record


def _binding(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What of a space's content must stay as it was while a search goes on."""
    kept = {key: dict(value) if isinstance(value, Mapping) else value for key, value in raw.items()}
    for section, key in _FREE_TO_CHANGE:
        if isinstance(kept.get(section), dict):
            kept[section].pop(key, None)
    return {key: value for key, value in kept.items() if value != {}}


def _conclude(
    request: Request,
    folder: SearchFolder,
    record: SearchRecord,
    records: list[TrialRecord],
    splits: data.Splits,
    session: Any,
    console: Console,
) -> None:
    """Logs and registers the winner, and shows the leaderboard."""
    winner = best(records)
    if winner is None:
        reasons = sorted({trial.reason for trial in records})
        session.tracker.finish("FAILED", {}, {})
        raise WorkFailed(f"no trial finished an epoch: {'; '.join(reasons[:3]) or 'none was begun'}")
    searched = [name for name in request.space.entries if any(name in trial.values for trial in records)]
    console.print(leaderboard(records, f"search {record.name}", searched, limit=20))
    record.model = session.register(folder, winner, splits, f"ctkd-{request.space.name}")
    session.tracker.log_text(session.tracker.parent_id, config_text(request.space, record, winner, splits), "best.yaml")
    session.tracker.finish(
        "FINISHED",
        {"best_validation_accuracy": winner.accuracy, "trials": len(records)},
        {"ctkd.best_trial": winner.id, "ctkd.best_run": winner.run_id or "", "ctkd.model": record.model},
    )
    record.finished = True
    folder.write(record)
    stopped = sum(trial.status == STOPPED for trial in records)
    for line in (
        f"{len(records)} trials, {stopped} stopped early; best: trial {winner.number} with {percent(winner.accuracy)} "
        "on the validation images",
        f"  {request.space.label(winner.values)}",
        f"student registered in MLflow as {record.model}",
        f"next: ctkd-search export {record.name} -o best.yaml && ctkd-search train best.yaml",
        "      ctkd-search ui",
    ):
        console.print(line, soft_wrap=True, highlight=False)
